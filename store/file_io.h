// FileIo: the one way in which the store changes files of its own, so that a test can fill the
// disk.
//
// Only what can run out of space or fail half-way is here; reading goes straight to the kernel.
// (RocksDB's files are RocksDB's; its errors come back as a Status.) Thread-safe. Functions are the
// system calls of the same name: -1 and errno.
#pragma once

#include <sys/types.h>

namespace pcache::store {

class FileIo {
 public:
  virtual ~FileIo() = default;
  virtual int create(const char* path, mode_t mode);  // O_RDWR | O_CREAT | O_EXCL
  virtual ssize_t write(int fd, const void* data, size_t size);
  virtual int rename(const char* from, const char* to);
  virtual int unlink(const char* path);
  virtual int mkdir(const char* path, mode_t mode);

  static FileIo& system();
};

}  // namespace pcache::store
