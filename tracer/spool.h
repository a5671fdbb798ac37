// Spool: the bytes written to stdout and stderr during a session, each once, however many open
// executions they belong to. An unlinked file in the store's directory (or /tmp): nothing stays
// behind. Guarded by the session's lock.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "store/unique_fd.h"

namespace pcache::tracer {

class Spool {
 public:
  explicit Spool(const std::string& directory);

  // The offset of the bytes; -1 when they could not be written (full disk).
  int64_t append(std::string_view bytes);
  bool read(uint64_t offset, uint64_t size, std::string* bytes) const;
  int fd() const { return file_.get(); }

 private:
  UniqueFd file_;
  uint64_t size_ = 0;
};

}  // namespace pcache::tracer
