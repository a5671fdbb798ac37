// Eviction: which records go when the store is too large, and which blobs go with them.
//
// First a survey, with no lock held but for single look-ups: the records in the order of their last
// use, and which blobs the ones to stay name. Then, under the write lock, what is to go goes:
// records and path sets in one batch, blobs after it. Whoever puts a record meanwhile tells its
// blobs (put_meanwhile_), and a record that was used since the survey stays, with its blobs.
#include <algorithm>

#include "store/codec.h"
#include "store/store_impl.h"

namespace pcache::store {

namespace {

constexpr uint64_t kTenths = 9;  // of a limit are left by evict_to_limits()
using DigestSet = std::unordered_set<Digest, DigestHash>;

}  // namespace

struct StoreImpl::Survey {
  struct Entry {
    Digest weak;
    Candidate candidate;
    int64_t used_ns = 0;
  };
  std::vector<Entry> doomed;
  DigestSet kept_blobs, kept_path_sets;
  std::vector<std::pair<Digest, uint64_t>> loose;  // blobs no kept record names, and their sizes
};

uint64_t StoreImpl::disk_bytes() { return blobs_.totals().bytes + db_->disk_bytes(); }

bool StoreImpl::over_limit() {
  const Limits& limits = options_.limits;
  return (limits.max_bytes != 0 && disk_bytes() > limits.max_bytes) ||
         (limits.min_free > 0 && blobs_.room() < 0);
}

Result<void> StoreImpl::survey(const EvictOptions& options, Survey* out) {
  std::vector<Survey::Entry> entries;
  PCACHE_TRY(write_behind());  // the last uses are in the database
  PCACHE_TRY(db_->each(Column::kWeak, [&](std::string_view key, std::string_view value) {
    const std::optional<Digest> weak = Digest::from_bytes(key);
    if (!weak) return true;
    for (const Used& used : decode_used(value))
      entries.push_back({*weak, used.candidate, used.used_ns});
    return true;
  }));
  std::sort(entries.begin(), entries.end(),
            [](const auto& a, const auto& b) { return a.used_ns > b.used_ns; });

  std::unordered_map<Digest, uint64_t, DigestHash> sizes;
  blobs_.each([&](const Digest& digest, const Stamp& stamp) { sizes[digest] = stamp.size; });
  const uint64_t database = db_->disk_bytes();
  uint64_t bytes = options.max_bytes == 0 ? 0 : std::min(database, options.max_bytes);
  bool full = false;
  uint64_t looked_at = 0;
  for (Survey::Entry& entry : entries) {
    if (options.progress) options.progress(++looked_at, entries.size());
    full = full || entry.used_ns < options.used_before_ns;
    Result<std::shared_ptr<const Record>> known = record(entry.candidate.strong);
    const bool chosen = known && options.chosen && options.chosen(**known);
    if (!full && known && !chosen) {
      uint64_t more = 0;
      each_blob(**known, [&](const Digest& blob) {
        if (!out->kept_blobs.contains(blob)) more += sizes[blob];
      });
      full = options.max_bytes != 0 && bytes + more > options.max_bytes;
      if (!full) {
        bytes += more;
        each_blob(**known, [&](const Digest& blob) { out->kept_blobs.insert(blob); });
      }
    }
    if (full || !known || chosen)
      out->doomed.push_back(std::move(entry));
    else
      out->kept_path_sets.insert(entry.candidate.path_set);
  }
  for (const auto& [digest, size] : sizes)
    if (!out->kept_blobs.contains(digest)) out->loose.emplace_back(digest, size);
  return {};
}

Result<Evicted> StoreImpl::remove(const Survey& survey) {
  Evicted evicted;
  const std::lock_guard lock(write_mutex_);
  Batch batch;
  std::vector<Digest> gone;
  DigestSet path_sets;
  for (const Survey::Entry& entry : survey.doomed) {
    PCACHE_ASSIGN(UsedList list, used_list(entry.weak));
    const auto used = std::find_if(list.begin(), list.end(), [&](const Used& u) {
      return u.candidate.strong == entry.candidate.strong;
    });
    if (used != list.end() && used->used_ns > entry.used_ns) {  // used since: its blobs stay
      put_meanwhile_->insert(entry.candidate.path_set);
      if (const auto known = record(entry.candidate.strong))
        each_blob(**known, [&](const Digest& blob) { put_meanwhile_->insert(blob); });
      continue;
    }
    if (used != list.end()) list.erase(used);
    cache_used_list(entry.weak, list);
    {
      const std::lock_guard behind(behind_mutex_);
      behind_.erase({Column::kWeak, entry.weak.bytes()});
    }
    if (list.empty())
      batch.erase(Column::kWeak, entry.weak.bytes());
    else
      batch.put(Column::kWeak, entry.weak.bytes(), encode_used(list));
    batch.erase(Column::kRecord, entry.candidate.strong.bytes());
    if (!survey.kept_path_sets.contains(entry.candidate.path_set))
      path_sets.insert(entry.candidate.path_set);
    gone.push_back(entry.candidate.strong);
  }
  for (const Digest& path_set : path_sets)
    if (!put_meanwhile_->contains(path_set)) batch.erase(Column::kPathSet, path_set.bytes());
  if (!gone.empty()) PCACHE_TRY(drop_producers({gone.begin(), gone.end()}, &batch));
  record_count_ -= std::min<uint64_t>(record_count_, gone.size());
  batch.put(Column::kMeta, "records", encode_u64(record_count_));
  PCACHE_TRY(write_locked(std::move(batch)));
  {
    const std::lock_guard cache(cache_mutex_);
    for (const Digest& strong : gone) records_.erase(strong);
    for (const Digest& path_set : path_sets) path_sets_.erase(path_set);
  }
  for (const auto& [digest, size] : survey.loose) {
    if (put_meanwhile_->contains(digest)) continue;
    blobs_.remove(digest);
    ++evicted.blobs;
    evicted.bytes += size;
  }
  evicted.records = gone.size();
  PCACHE_TRY(write_locked({}));
  return evicted;
}

Result<Evicted> StoreImpl::evict(const EvictOptions& options) {
  if (options_.read_only)
    return make_error(ErrorKind::kUnsupported, "the store was opened to read only");
  const std::lock_guard one(evict_mutex_);
  {
    const std::lock_guard lock(write_mutex_);
    put_meanwhile_.emplace();
  }
  Survey survey;
  Result<Evicted> result = Evicted{};
  if (auto surveyed = this->survey(options, &survey); !surveyed) {
    result = tl::make_unexpected(std::move(surveyed).error());
  } else if (options.dry_run) {
    result->records = survey.doomed.size();
    result->blobs = survey.loose.size();
    for (const auto& [digest, size] : survey.loose) result->bytes += size;
  } else {
    result = remove(survey);
  }
  const std::lock_guard lock(write_mutex_);
  put_meanwhile_.reset();
  return result;
}

Result<Evicted> StoreImpl::evict_to_limits() {
  const Limits& limits = options_.limits;
  const uint64_t now = disk_bytes();
  uint64_t allowed = limits.max_bytes == 0 ? now : std::min(now, limits.max_bytes);
  if (const int64_t room = blobs_.room(); limits.min_free > 0 && room < 0)
    allowed -= std::min(allowed, static_cast<uint64_t>(-room));
  EvictOptions options;
  options.max_bytes = std::max<uint64_t>(1, allowed / 10 * kTenths);
  return evict(options);
}

}  // namespace pcache::store
