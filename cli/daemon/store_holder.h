// StoreHolder: the daemon's store, opened when it is first needed.
//
// Where it cannot be opened (full disk, damaged, newer format, not writable) the daemon goes on
// without one and tries again at most once a second when somebody asks. Thread-safe.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>

#include "cli/locations.h"
#include "store/store.h"

namespace pcache::cli {

class StoreHolder {
 public:
  StoreHolder(const Locations& locations, const store::Limits& limits)
      : locations_(locations), limits_(limits) {}

  std::shared_ptr<store::Store> get();  // null when unusable: problem() says why
  std::string problem();
  // Forgets the least used where the store is past its limits (max_size, min_free).
  void keep_limits();
  // Empties the store. An unusable one is removed and made anew; gives the bytes freed.
  Result<uint64_t> clear();
  void close();  // flushes

 private:
  std::shared_ptr<store::Store> get_locked();

  const Locations locations_;
  const store::Limits limits_;
  std::atomic<bool> evicting_{false};
  std::mutex mutex_;
  std::shared_ptr<store::Store> store_;
  Error problem_;
  bool failed_ = false;
  std::chrono::steady_clock::time_point retry_at_;
};

}  // namespace pcache::cli
