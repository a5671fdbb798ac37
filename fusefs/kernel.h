// What the kernel can do and libfuse 3.14 cannot say yet: passthrough, KILLPRIV_V2.
//
// The INIT reply is patched on its way out (custom I/O), replies to OPEN and CREATE that carry a
// backing id are made by hand, and the epoch notification is a bare header. All wire structures
// stay inside kernel.cc. Functions return 0 or a negative errno as libfuse's reply functions do;
// all are thread-safe once the session is attached.
#pragma once

#define FUSE_USE_VERSION 312
#include <fuse3/fuse_lowlevel.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/uio.h>

#include <atomic>
#include <cstdint>

namespace pcache::fusefs {

class Kernel {
 public:
  // Both must be set before the session's first request is read.
  bool want_passthrough = false;
  uint32_t stack_depth = 1;  // 2 where the lower or the store's file system is itself stacked

  // Reads and writes of the session's descriptor (struct fuse_custom_io).
  ssize_t read(int fd, void* buf, size_t size);
  ssize_t writev(int fd, struct iovec* iov, int count);

  bool initialized() const { return initialized_.load(std::memory_order_acquire); }
  bool passthrough() const { return passthrough_.load(std::memory_order_acquire); }
  uint64_t requests() const { return requests_.load(std::memory_order_relaxed); }

  // A backing id for the file behind `file_fd` (O_PATH will do), or -errno.
  static int open_backing(int session_fd, int file_fd);
  static void close_backing(int session_fd, int backing_id);

  // Replies to OPEN (entry == nullptr) and CREATE with a backing id. -ENOENT: the open was
  // interrupted and no RELEASE will follow.
  static int reply_open_passthrough(fuse_req_t req, const fuse_entry_param* entry, uint64_t fh,
                                    int backing_id);

 private:
  void see_init(const void* buf, size_t size);
  void patch_init(struct iovec* iov, int count);

  std::atomic<bool> initialized_{false};
  std::atomic<bool> passthrough_{false};
  std::atomic<uint64_t> requests_{0};
  uint64_t init_unique_ = 0;
  uint64_t offered_ = 0;
};

}  // namespace pcache::fusefs
