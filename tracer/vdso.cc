#include "tracer/vdso.h"

#include <elf.h>
#include <sys/ptrace.h>
#include <sys/user.h>

#include <array>

namespace pcache::tracer {
namespace {

constexpr uint64_t kWord = 8;
constexpr uint64_t kPageBytes = 4096;
constexpr uint64_t kUserCode32 = 0x23;  // its code segment
// argv and the environment, with all their pointers, are 6 MiB at most.
constexpr uint64_t kMostWords = (uint64_t{8} << 20) / kWord;

// The words of a fresh stack from its pointer upwards, a page at a time.
class StackWords {
 public:
  StackWords(Tid tid, uint64_t from) : tid_(tid), next_(from) {}
  bool read(uint64_t* word) {
    if (at_ == count_ && !fill()) return false;
    *word = words_[at_++];
    next_ += kWord;
    ++taken_;
    return taken_ < kMostWords;
  }
  uint64_t next_address() const { return next_; }

 private:
  bool fill() {
    count_ = (kPageBytes - next_ % kPageBytes) / kWord;
    at_ = 0;
    return read_memory(tid_, RemotePtr{next_}, words_.data(), count_ * kWord);
  }

  const Tid tid_;
  uint64_t next_;
  size_t at_ = 0, count_ = 0;
  uint64_t taken_ = 0;
  std::array<uint64_t, kPageBytes / kWord> words_{};
};

}  // namespace

bool hide_vdso(Tid tid) {
  user_regs_struct registers{};
  if (::ptrace(PTRACE_GETREGS, tid.value, nullptr, &registers) != 0) return false;
  if (registers.cs == kUserCode32) return true;
  StackWords stack(tid, registers.rsp);
  uint64_t arguments = 0, word = 0;
  if (!stack.read(&arguments)) return false;
  for (uint64_t i = 0; i <= arguments; ++i)  // and a null
    if (!stack.read(&word)) return false;
  do {  // the environment, and a null
    if (!stack.read(&word)) return false;
  } while (word != 0);
  while (true) {
    const uint64_t address = stack.next_address();
    uint64_t value = 0;
    if (!stack.read(&word) || !stack.read(&value)) return false;
    if (word == AT_NULL) return true;
    if (word != AT_SYSINFO_EHDR) continue;
    const uint64_t nothing[2] = {AT_IGNORE, 0};
    return write_memory(tid, RemotePtr{address}, nothing, sizeof nothing);
  }
}

}  // namespace pcache::tracer
