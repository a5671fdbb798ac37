// Verifying: every blob is hashed against its name, every record decoded and asked for its blobs.
//
// What is damaged is removed: a record that is gone is a miss, and its command runs again.
// Evictions wait meanwhile; everything else goes on. A record is removed by its key, under the
// write lock, so that one put at the same moment under the same key is lost at worst, and never
// kept damaged.
#include <algorithm>
#include <random>

#include "store/codec.h"
#include "store/store_impl.h"

namespace pcache::store {

struct StoreImpl::Check {
  using DigestSet = std::unordered_set<Digest, DigestHash>;
  const VerifyProgress& progress;
  Verified found;
  DigestSet records, path_sets;  // that are whole
  std::vector<Digest> doomed_records, doomed_path_sets;
  struct Leaf {
    Digest weak;
    Candidate candidate;
  };
  std::vector<Leaf> doomed_leaves;  // what leads to a record that is not whole

  void damaged(const char* what, const std::string& name, const std::string& why) {
    found.damaged.push_back({what, name, why});
  }
};

Result<void> StoreImpl::check_all_blobs(double sample, Check* check) {
  std::vector<std::pair<Digest, uint64_t>> files = blobs_.files();
  if (sample < 1) {
    std::shuffle(files.begin(), files.end(), std::mt19937_64(std::random_device()()));
    files.resize(static_cast<size_t>(static_cast<double>(files.size()) * sample + 0.999));
  }
  uint64_t total = 0, done = 0;
  for (const auto& [digest, size] : files) total += size;
  for (const auto& [digest, size] : files) {
    if (check->progress && !check->progress(done, total))
      return make_error(ErrorKind::kBusy, "given up");
    switch (blobs_.verify(digest)) {
      case BlobState::kWhole:
        ++check->found.blobs;
        check->found.bytes += size;
        break;
      case BlobState::kDamaged:
        check->damaged("contents", digest.hex(), "its bytes are not those of its name");
        break;
      case BlobState::kUnreadable:
        check->damaged("contents", digest.hex(), "it cannot be read");
        break;
      case BlobState::kGone:
        break;
    }
    done += size;
  }
  return {};
}

Result<void> StoreImpl::check_all_records(Check* check) {
  PCACHE_TRY(db_->each(Column::kPathSet, [&](std::string_view key, std::string_view value) {
    const std::optional<Digest> digest = Digest::from_bytes(key);
    const std::optional<PathSet> keys = parse_path_set(value);
    if (!digest) return true;
    if (keys && path_set_digest(*keys) == *digest) {
      check->path_sets.insert(*digest);
    } else {
      check->damaged("questions", digest->hex(), "they cannot be read");
      check->doomed_path_sets.push_back(*digest);
    }
    return true;
  }));
  PCACHE_TRY(db_->each(Column::kRecord, [&](std::string_view key, std::string_view value) {
    const std::optional<Digest> strong = Digest::from_bytes(key);
    if (!strong) return true;
    const std::optional<Record> record = parse_record(std::string(value));
    if (!record || record->strong != *strong) {
      check->damaged("record", strong->hex(), "it cannot be read");
      check->doomed_records.push_back(*strong);
    } else if (const auto blobs = check_blobs(*record); !blobs) {
      check->damaged("record", strong->hex(), blobs.error().to_string());
      check->doomed_records.push_back(*strong);
    } else {
      check->records.insert(*strong);
    }
    return true;
  }));
  // A put meanwhile is in the database before its candidate is: what leads nowhere now is damage.
  return db_->each(Column::kWeak, [&](std::string_view key, std::string_view value) {
    const std::optional<Digest> weak = Digest::from_bytes(key);
    if (!weak) return true;
    for (const Used& used : decode_used(value)) {
      if (check->records.contains(used.candidate.strong) &&
          check->path_sets.contains(used.candidate.path_set))
        continue;
      check->doomed_leaves.push_back({*weak, used.candidate});
    }
    return true;
  });
}

Result<void> StoreImpl::remove_damaged(const Check& check) {
  const std::lock_guard lock(write_mutex_);
  Batch batch;
  for (const Digest& strong : check.doomed_records) batch.erase(Column::kRecord, strong.bytes());
  for (const Digest& set : check.doomed_path_sets) batch.erase(Column::kPathSet, set.bytes());
  uint64_t gone = check.doomed_records.size();
  const auto doomed = [](const std::vector<Digest>& list, const Digest& digest) {
    return std::find(list.begin(), list.end(), digest) != list.end();
  };
  for (const Check::Leaf& leaf : check.doomed_leaves) {
    // One that was put since the look at the records is there, and stays.
    PCACHE_ASSIGN(const auto record, db_->get(Column::kRecord, leaf.candidate.strong.bytes()));
    PCACHE_ASSIGN(const auto set, db_->get(Column::kPathSet, leaf.candidate.path_set.bytes()));
    const bool whole = record && set && !doomed(check.doomed_records, leaf.candidate.strong) &&
                       !doomed(check.doomed_path_sets, leaf.candidate.path_set);
    if (whole) continue;
    PCACHE_ASSIGN(UsedList list, used_list(leaf.weak));
    std::erase_if(list,
                  [&](const Used& used) { return used.candidate.strong == leaf.candidate.strong; });
    cache_used_list(leaf.weak, list);
    {
      const std::lock_guard behind(behind_mutex_);
      behind_[{Column::kWeak, leaf.weak.bytes()}] = encode_used(list);
    }
    if (record && !doomed(check.doomed_records, leaf.candidate.strong)) {
      batch.erase(Column::kRecord, leaf.candidate.strong.bytes());
      ++gone;
    }
  }
  record_count_ -= std::min<uint64_t>(record_count_, gone);
  batch.put(Column::kMeta, "records", encode_u64(record_count_));
  PCACHE_TRY(write_locked(std::move(batch)));
  const std::lock_guard cache(cache_mutex_);
  for (const Digest& strong : check.doomed_records) records_.erase(strong);
  for (const Check::Leaf& leaf : check.doomed_leaves) records_.erase(leaf.candidate.strong);
  for (const Digest& set : check.doomed_path_sets) path_sets_.erase(set);
  return {};
}

Result<Verified> StoreImpl::verify(double sample, const VerifyProgress& progress) {
  if (options_.read_only)
    return make_error(ErrorKind::kUnsupported, "the store was opened to read only");
  const std::lock_guard one(evict_mutex_);
  Check check{progress, {}, {}, {}, {}, {}, {}};
  PCACHE_TRY(write_behind());
  PCACHE_TRY(check_all_blobs(sample, &check));
  PCACHE_TRY(check_all_records(&check));
  check.found.records = check.records.size();
  if (!check.found.damaged.empty() || !check.doomed_leaves.empty())
    PCACHE_TRY(remove_damaged(check));
  return std::move(check.found);
}

}  // namespace pcache::store
