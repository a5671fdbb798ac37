#include "tracer/inject_filter.h"

#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <vector>

#ifndef SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV
#define SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV (1UL << 5)
#endif

namespace pcache::tracer {
namespace {

// mov eax, edi; mov rdi, r8; syscall; int3: eax cannot be set at an exec event, where execve's own
// result is still to be written to it.
constexpr unsigned char kCode[] = {0x89, 0xf8, 0x4c, 0x89, 0xc7, 0x0f, 0x05, 0xcc};
// The kernel gives a fresh stack 128 KiB below its pointer.
constexpr uint64_t kWindowBelow = 96 * 1024;

class Injection {
 public:
  explicit Injection(Tid tid) : tid_(tid) {}
  ~Injection() { restore(); }
  bool begin();
  // The call's result, or -errno; ESRCH when the process died.
  int64_t call(uint64_t number, uint64_t first, uint64_t second, uint64_t third);
  RemotePtr window() const { return window_; }

 private:
  bool run_to_trap();
  void restore();

  const Tid tid_;
  bool begun_ = false;
  user_regs_struct registers_{};
  unsigned char original_[sizeof kCode] = {};
  RemotePtr code_, window_;
  std::vector<int> signals_;
};

bool Injection::begin() {
  if (::ptrace(PTRACE_GETREGS, tid_.value, nullptr, &registers_) != 0) return false;
  code_ = RemotePtr{registers_.rip};
  window_ = RemotePtr{(registers_.rsp - kWindowBelow) & ~uint64_t{15}};
  begun_ = read_memory(tid_, code_, original_, sizeof original_) &&
           write_memory(tid_, code_, kCode, sizeof kCode);
  return begun_;
}

int64_t Injection::call(uint64_t number, uint64_t first, uint64_t second, uint64_t third) {
  user_regs_struct registers = registers_;
  registers.rip = code_.address;
  registers.orig_rax = ~uint64_t{0};
  registers.rdi = number;
  registers.r8 = first;
  registers.rsi = second;
  registers.rdx = third;
  if (::ptrace(PTRACE_SETREGS, tid_.value, nullptr, &registers) != 0 || !run_to_trap() ||
      ::ptrace(PTRACE_GETREGS, tid_.value, nullptr, &registers) != 0)
    return -ESRCH;
  return static_cast<int64_t>(registers.rax);
}

bool Injection::run_to_trap() {
  while (true) {
    int status = 0;
    if (::ptrace(PTRACE_CONT, tid_.value, nullptr, nullptr) != 0) return false;
    while (::waitpid(tid_.value, &status, __WALL) < 0)
      if (errno != EINTR) return false;
    if (!WIFSTOPPED(status)) return false;
    const int signal = WSTOPSIG(status);
    if (status >> 16 == 0 && signal == SIGTRAP) return true;
    if (status >> 16 == 0) signals_.push_back(signal);
  }
}

void Injection::restore() {
  if (!begun_) return;
  write_memory(tid_, code_, original_, sizeof original_);
  registers_.orig_rax = ~uint64_t{0};  // no call is to be made again
  registers_.rax = 0;
  ::ptrace(PTRACE_SETREGS, tid_.value, nullptr, &registers_);
  for (const int signal : signals_) ::kill(tid_.value, signal);
}

}  // namespace

Result<UniqueFd> inject_filter(Tid tid, const std::string& program) {
  Injection injection(tid);
  if (!injection.begin())
    return system_error("the program cannot be changed to give it a seccomp filter");
  struct sock_fprog header {};
  const RemotePtr instructions = injection.window() + sizeof header;
  header.len = static_cast<unsigned short>(program.size() / sizeof(struct sock_filter));
  header.filter = reinterpret_cast<struct sock_filter*>(instructions.address);
  if (!write_memory(tid, injection.window(), &header, sizeof header) ||
      !write_memory(tid, instructions, program.data(), program.size()))
    return system_error("the program's stack cannot be written to");
  const int64_t fd =
      injection.call(SYS_seccomp, SECCOMP_SET_MODE_FILTER,
                     SECCOMP_FILTER_FLAG_NEW_LISTENER | SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV,
                     injection.window().address);
  if (fd < 0) return system_error("cannot install the seccomp filter", static_cast<int>(-fd));
  UniqueFd listener = duplicate_fd(tid.value, static_cast<int>(fd));
  const int error = errno;
  injection.call(SYS_close, static_cast<uint64_t>(fd), 0, 0);
  if (!listener) return system_error("cannot take the seccomp listener", error);
  return listener;
}

}  // namespace pcache::tracer
