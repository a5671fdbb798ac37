#include "tracer/stub.h"

#include <sys/ptrace.h>

#include <algorithm>
#include <utility>

// Never run here: these bytes are written into skipped processes.
asm(R"(
        .pushsection .rodata
        .globl pcache_stub_begin
        .globl pcache_stub_end
        .hidden pcache_stub_begin
        .hidden pcache_stub_end
pcache_stub_begin:
1:      test %rdx, %rdx
        jz 3f
2:      mov $1, %eax                    # write(rdi, rsi, rdx)
        syscall
        test %rax, %rax
        js 5f
        add %rax, %rsi
        sub %rax, %rdx
        jnz 2b
3:      test %r13, %r13
        jz 4f
        mov %r14d, %edi
8:      mov $231, %eax                  # exit_group(edi)
        syscall
4:      int3                            # the tracer sets the next segment
        jmp 1b
5:      cmp $-4, %rax                   # EINTR
        je 2b
        cmp $-11, %rax                  # EAGAIN
        je 6f
        mov $1, %edi                    # the program would have failed on it too
        test %r14d, %r14d
        jz 8b
        mov %r14d, %edi
        jmp 8b
6:      mov %rdi, %r8
        mov %rsi, %r9
        mov %rdx, %r10
        mov %edi, (%rsp)                # struct pollfd {rdi, POLLOUT}
        movl $4, 4(%rsp)
        mov %rsp, %rdi
        mov $1, %esi
        mov $-1, %rdx
        mov $7, %eax                    # poll
        syscall
        mov %r8, %rdi
        mov %r9, %rsi
        mov %r10, %rdx
        jmp 2b
pcache_stub_end:
        .popsection
)");

extern "C" {
extern const char pcache_stub_begin[];
extern const char pcache_stub_end[];
}

namespace pcache::tracer {
namespace {

constexpr uint64_t kWindowBytes = 64 * 1024;
// The kernel gives a fresh stack 128 KiB below its pointer.
constexpr uint64_t kWindowBelow = 96 * 1024;
constexpr uint64_t kScratchBelow = kWindowBelow + 256;

}  // namespace

StubRun::StubRun(std::vector<store::StreamSegment> segments, UniqueFd data, std::string inline_data,
                 int exit_status)
    : segments_(std::move(segments)),
      data_(std::move(data)),
      inline_data_(std::move(inline_data)),
      exit_status_(exit_status) {}

bool StubRun::next_chunk(std::string* bytes, uint32_t* fd) {
  bytes->clear();
  *fd = 1;
  while (segment_ < segments_.size() && in_segment_ == segments_[segment_].size) {
    ++segment_;
    in_segment_ = 0;
  }
  if (segment_ == segments_.size()) return true;
  const store::StreamSegment& segment = segments_[segment_];
  const uint64_t size = std::min(segment.size - in_segment_, kWindowBytes);
  *fd = segment.fd;
  if (data_) {
    bytes->resize(size);
    uint64_t done = 0;
    while (done < size) {
      const ssize_t n = ::pread(data_.get(), bytes->data() + done, size - done,
                                static_cast<off_t>(offset_ + done));
      if (n <= 0) return false;
      done += static_cast<uint64_t>(n);
    }
  } else {
    if (offset_ + size > inline_data_.size()) return false;
    bytes->assign(inline_data_, offset_, size);
  }
  in_segment_ += size;
  offset_ += size;
  if (in_segment_ == segment.size) {
    ++segment_;
    in_segment_ = 0;
  }
  return true;
}

bool StubRun::install(Tid tid) {
  if (::ptrace(PTRACE_GETREGS, tid.value, nullptr, &original_regs_) != 0) return false;
  code_ = RemotePtr{original_regs_.rip};
  window_ = RemotePtr{(original_regs_.rsp - kWindowBelow) & ~uint64_t{15}};
  const size_t size = static_cast<size_t>(pcache_stub_end - pcache_stub_begin);
  original_code_.resize(size);
  if (!read_memory(tid, code_, original_code_.data(), size) ||
      !write_memory(tid, code_, pcache_stub_begin, size))
    return false;
  if (feed(tid)) return true;
  uninstall(tid);
  return false;
}

void StubRun::uninstall(Tid tid) {
  write_memory(tid, code_, original_code_.data(), original_code_.size());
  ::ptrace(PTRACE_SETREGS, tid.value, nullptr, &original_regs_);
}

bool StubRun::feed(Tid tid) {
  std::string bytes;
  uint32_t fd;
  if (!next_chunk(&bytes, &fd)) return false;
  if (!bytes.empty() && !write_memory(tid, window_, bytes.data(), bytes.size())) return false;
  user_regs_struct regs{};
  if (::ptrace(PTRACE_GETREGS, tid.value, nullptr, &regs) != 0) return false;
  regs.rip = code_.address;
  regs.rsp = window_.address - (kScratchBelow - kWindowBelow);
  regs.rdi = fd;
  regs.rsi = window_.address;
  regs.rdx = bytes.size();
  regs.r13 = segment_ == segments_.size() ? 1 : 0;
  regs.r14 = static_cast<uint64_t>(exit_status_);
  return ::ptrace(PTRACE_SETREGS, tid.value, nullptr, &regs) == 0;
}

}  // namespace pcache::tracer
