// Where a sparse file has data: copies leave the rest as it is, a hole. Contents are the same
// either way; what is kept is the room on the disk.
#pragma once

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>

namespace pcache::store {

struct Extent {
  uint64_t begin, end;
};

// Whether the file can have holes at all: most have none, and need not be asked for each.
inline bool may_be_sparse(int fd) {
  struct stat st;
  constexpr int64_t kBlock = 512;
  return fstat(fd, &st) == 0 && static_cast<int64_t>(st.st_blocks) * kBlock < st.st_size;
}

// The first data at or after `at`, within `size`; empty at `size` where only a hole follows. Moves
// the descriptor's offset. Where the file system cannot tell, everything is data.
inline Extent next_data(int fd, uint64_t at, uint64_t size) {
  const off_t begin = lseek(fd, static_cast<off_t>(at), SEEK_DATA);
  if (begin < 0) return errno == ENXIO ? Extent{size, size} : Extent{at, size};
  const off_t end = lseek(fd, begin, SEEK_HOLE);
  const uint64_t first = std::min(static_cast<uint64_t>(begin), size);
  return {first, end < 0 ? size : std::clamp(static_cast<uint64_t>(end), first, size)};
}

}  // namespace pcache::store
