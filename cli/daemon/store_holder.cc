#include "cli/daemon/store_holder.h"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>

#include "cli/daemon/log.h"
#include "cli/text.h"

namespace pcache::cli {

using std::chrono::steady_clock;

std::shared_ptr<store::Store> StoreHolder::get() {
  const std::lock_guard lock(mutex_);
  return get_locked();
}

std::shared_ptr<store::Store> StoreHolder::get_locked() {
  if (store_ || (failed_ && steady_clock::now() < retry_at_)) return store_;
  auto opened = store::Store::open(locations_.dir, {.limits = limits_});
  failed_ = !opened;
  if (opened) {
    store_ = std::move(*opened);
  } else {
    problem_ = std::move(opened).error();
    retry_at_ = steady_clock::now() + std::chrono::seconds(1);
    log_at(LogLevel::kError, "the store is unusable: " + problem_.to_string());
  }
  return store_;
}

std::string StoreHolder::problem() {
  const std::lock_guard lock(mutex_);
  return failed_ ? problem_.to_string() : "";
}

void StoreHolder::keep_limits() {
  const std::shared_ptr<store::Store> store = get();
  if (!store || evicting_.exchange(true)) return;
  if (store->over_limit()) {
    const auto evicted = store->evict_to_limits();
    if (evicted)
      log_line(fmt::format("the store was too large: {} records and {} of contents are forgotten",
                           evicted->records, format_bytes(evicted->bytes)));
    else
      log_at(LogLevel::kError, "cannot make the store smaller: " + evicted.error().to_string());
  }
  evicting_ = false;
}

Result<uint64_t> StoreHolder::clear() {
  const std::lock_guard lock(mutex_);
  retry_at_ = {};
  if (get_locked()) {
    const uint64_t before = store_->blobs().total_bytes();
    PCACHE_TRY(store_->clear());
    return before - std::min(before, store_->blobs().total_bytes());
  }
  if (problem_.kind == ErrorKind::kBusy) return tl::make_unexpected(problem_);
  std::error_code error;
  std::filesystem::remove_all(locations_.store(), error);
  if (error) return system_error("cannot remove " + locations_.store(), error.value());
  retry_at_ = {};
  if (!get_locked()) return tl::make_unexpected(problem_);
  return 0;
}

void StoreHolder::close() {
  const std::lock_guard lock(mutex_);
  if (!store_) return;
  if (auto flushed = store_->flush(); !flushed) {
    log_at(LogLevel::kError, "cannot flush the store: " + flushed.error().to_string());
  }
  store_.reset();
}

}  // namespace pcache::cli
