#include "store/file_io.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdio>

namespace pcache::store {

int FileIo::create(const char* path, mode_t mode) {
  return ::open(path, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, mode);
}

ssize_t FileIo::write(int fd, const void* data, size_t size) { return ::write(fd, data, size); }

int FileIo::rename(const char* from, const char* to) { return ::rename(from, to); }

int FileIo::unlink(const char* path) { return ::unlink(path); }

int FileIo::mkdir(const char* path, mode_t mode) { return ::mkdir(path, mode); }

FileIo& FileIo::system() {
  static FileIo io;
  return io;
}

}  // namespace pcache::store
