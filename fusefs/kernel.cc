#include "fusefs/kernel.h"

#include <linux/fuse.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <cerrno>
#include <cmath>
#include <cstring>

namespace pcache::fusefs {
namespace {

// From newer <linux/fuse.h> than the one this is built against.
constexpr uint64_t kFusePassthrough = 1ull << 37;
constexpr uint64_t kFuseHandleKillprivV2 = 1ull << 28;
constexpr uint64_t kFuseParallelDirops = 1ull << 18;  // wanted by libfuse, but never sent by 3.14
constexpr uint64_t kFuseInitExt = 1ull << 30;
constexpr uint32_t kOpenNoFlush = 1u << 5;
constexpr uint32_t kOpenPassthrough = 1u << 7;

struct BackingMap {
  int32_t fd;
  uint32_t flags;
  uint64_t padding;
};
constexpr unsigned long kBackingOpen = _IOW(229, 1, BackingMap);
constexpr unsigned long kBackingClose = _IOW(229, 2, uint32_t);

// fuse_init_in and fuse_init_out as far as they are touched here; fixed by the protocol.
struct InitIn {
  fuse_in_header header;
  uint32_t major, minor, max_readahead, flags, flags2;
};
struct InitOut {
  uint32_t major, minor, max_readahead, flags;
  uint16_t max_background, congestion_threshold;
  uint32_t max_write, time_gran;
  uint16_t max_pages, map_alignment;
  uint32_t flags2, max_stack_depth;
};

struct OpenOut {
  uint64_t fh;
  uint32_t open_flags;
  int32_t backing_id;
};
static_assert(sizeof(OpenOut) == sizeof(fuse_open_out));

void split_seconds(double seconds, uint64_t* whole, uint32_t* nanos) {
  const double floor = std::floor(seconds);
  *whole = static_cast<uint64_t>(floor);
  *nanos = static_cast<uint32_t>((seconds - floor) * 1e9);
}

fuse_entry_out entry_out(const fuse_entry_param& e) {
  fuse_entry_out out{};
  out.nodeid = e.ino;
  out.generation = e.generation;
  split_seconds(e.entry_timeout, &out.entry_valid, &out.entry_valid_nsec);
  split_seconds(e.attr_timeout, &out.attr_valid, &out.attr_valid_nsec);
  out.attr.ino = e.attr.st_ino;
  out.attr.size = static_cast<uint64_t>(e.attr.st_size);
  out.attr.blocks = static_cast<uint64_t>(e.attr.st_blocks);
  out.attr.atime = static_cast<uint64_t>(e.attr.st_atim.tv_sec);
  out.attr.mtime = static_cast<uint64_t>(e.attr.st_mtim.tv_sec);
  out.attr.ctime = static_cast<uint64_t>(e.attr.st_ctim.tv_sec);
  out.attr.atimensec = static_cast<uint32_t>(e.attr.st_atim.tv_nsec);
  out.attr.mtimensec = static_cast<uint32_t>(e.attr.st_mtim.tv_nsec);
  out.attr.ctimensec = static_cast<uint32_t>(e.attr.st_ctim.tv_nsec);
  out.attr.mode = e.attr.st_mode;
  out.attr.nlink = static_cast<uint32_t>(e.attr.st_nlink);
  out.attr.uid = e.attr.st_uid;
  out.attr.gid = e.attr.st_gid;
  out.attr.rdev = static_cast<uint32_t>(e.attr.st_rdev);
  out.attr.blksize = static_cast<uint32_t>(e.attr.st_blksize);
  return out;
}

}  // namespace

ssize_t Kernel::read(int fd, void* buf, size_t size) {
  const ssize_t n = ::read(fd, buf, size);
  if (n > 0) {
    requests_.fetch_add(1, std::memory_order_relaxed);
    if (!initialized()) see_init(buf, static_cast<size_t>(n));
  }
  return n;
}

void Kernel::see_init(const void* buf, size_t size) {
  InitIn in{};
  if (size < sizeof(in)) return;
  std::memcpy(&in, buf, sizeof in);
  if (in.header.opcode != FUSE_INIT) return;
  init_unique_ = in.header.unique;
  offered_ = in.flags;
  if ((offered_ & kFuseInitExt) != 0) offered_ |= static_cast<uint64_t>(in.flags2) << 32;
}

ssize_t Kernel::writev(int fd, struct iovec* iov, int count) {
  if (!initialized()) patch_init(iov, count);
  return ::writev(fd, iov, count);
}

void Kernel::patch_init(struct iovec* iov, int count) {
  if (count < 2 || iov[0].iov_len < sizeof(fuse_out_header) || iov[1].iov_len < sizeof(InitOut)) {
    return;
  }
  fuse_out_header header;
  std::memcpy(&header, iov[0].iov_base, sizeof header);
  if (init_unique_ == 0 || header.unique != init_unique_ || header.error != 0) return;
  InitOut out;
  std::memcpy(&out, iov[1].iov_base, sizeof out);
  out.flags |= static_cast<uint32_t>(offered_ & (kFuseHandleKillprivV2 | kFuseParallelDirops));
  const bool passthrough = want_passthrough && (offered_ & kFusePassthrough) != 0 &&
                           (out.flags & static_cast<uint32_t>(kFuseInitExt)) != 0;
  if (passthrough) {
    out.flags2 |= static_cast<uint32_t>(kFusePassthrough >> 32);
    out.max_stack_depth = stack_depth;
  }
  std::memcpy(iov[1].iov_base, &out, sizeof out);
  passthrough_.store(passthrough, std::memory_order_release);
  initialized_.store(true, std::memory_order_release);
}

int Kernel::open_backing(int session_fd, int file_fd) {
  BackingMap map{file_fd, 0, 0};
  const int id = ::ioctl(session_fd, kBackingOpen, &map);
  return id < 0 ? -errno : id;
}

void Kernel::close_backing(int session_fd, int backing_id) {
  auto id = static_cast<uint32_t>(backing_id);
  (void)::ioctl(session_fd, kBackingClose, &id);
}

int Kernel::reply_open_passthrough(fuse_req_t req, const fuse_entry_param* entry, uint64_t fh,
                                   int backing_id) {
  OpenOut open{fh, kOpenPassthrough | kOpenNoFlush, backing_id};
  if (entry == nullptr) {
    struct iovec iov = {&open, sizeof open};
    return fuse_reply_iov(req, &iov, 1);
  }
  fuse_entry_out out = entry_out(*entry);
  struct iovec iov[2] = {{&out, sizeof out}, {&open, sizeof open}};
  return fuse_reply_iov(req, iov, 2);
}

}  // namespace pcache::fusefs
