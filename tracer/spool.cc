#include "tracer/spool.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

namespace pcache::tracer {

Spool::Spool(const std::string& directory)
    : file_(::open(directory.c_str(), O_TMPFILE | O_RDWR | O_CLOEXEC, 0600)) {
  if (!file_) file_.reset(::memfd_create("pcache-spool", MFD_CLOEXEC));
}

int64_t Spool::append(std::string_view bytes) {
  const uint64_t start = size_;
  for (size_t done = 0; done < bytes.size();) {
    const ssize_t n = ::pwrite(file_.get(), bytes.data() + done, bytes.size() - done,
                               static_cast<off_t>(start + done));
    if (n <= 0) return -1;
    done += static_cast<size_t>(n);
  }
  size_ += bytes.size();
  return static_cast<int64_t>(start);
}

bool Spool::read(uint64_t offset, uint64_t size, std::string* bytes) const {
  bytes->resize(size);
  for (uint64_t done = 0; done < size;) {
    const ssize_t n =
        ::pread(file_.get(), bytes->data() + done, size - done, static_cast<off_t>(offset + done));
    if (n <= 0) return false;
    done += static_cast<uint64_t>(n);
  }
  return true;
}

}  // namespace pcache::tracer
