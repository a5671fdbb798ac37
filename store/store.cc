#include "store/store.h"

#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <fstream>

#include "store/codec.h"
#include "store/store_impl.h"

namespace pcache::store {

namespace {

constexpr size_t kMaxCandidates = 256;
constexpr size_t kUsedEntryBytes = 40;
constexpr int64_t kTouchIntervalNs = int64_t{3600} * 1000000000;
constexpr uint64_t kMemosOnDisk = 4000000;
constexpr uint64_t kRunsKept = 20;
// Bounds of the decode caches, in facts (some 150 bytes each).
constexpr size_t kPathSetFacts = 200000;
constexpr size_t kRecordFacts = 100000;

Result<void> make_directories(const std::string& path, FileIo& io) {
  struct stat st;
  if (stat(path.c_str(), &st) == 0) {
    if (S_ISDIR(st.st_mode)) return {};
    return system_error("cannot use " + path, ENOTDIR);
  }
  const size_t slash = path.rfind('/');
  if (slash != std::string::npos && slash > 0) {
    PCACHE_TRY(make_directories(path.substr(0, slash), io));
  }
  if (io.mkdir(path.c_str(), 0700) != 0 && errno != EEXIST) {
    return system_error("cannot create " + path);
  }
  return {};
}

}  // namespace

Result<std::unique_ptr<Store>> Store::open(const std::string& dir, const StoreOptions& options) {
  auto store = std::make_unique<StoreImpl>(dir, options);
  if (auto started = store->start(); !started) {
    return tl::make_unexpected(std::move(started).error().within("cannot open the store " + dir));
  }
  return std::unique_ptr<Store>(std::move(store));
}

StoreImpl::StoreImpl(std::string dir, const StoreOptions& options)
    : dir_(std::move(dir)),
      store_dir_(dir_ + "/store"),
      options_(options),
      io_(options.io != nullptr ? *options.io : FileIo::system()),
      blobs_(store_dir_, io_, *this, options.limits.min_free),
      used_lists_(4096),
      path_sets_(kPathSetFacts),
      records_(kRecordFacts) {}

StoreImpl::~StoreImpl() {
  if (!db_) return;
  note_stop(flush().has_value());
}

Result<void> StoreImpl::start() {
  PCACHE_TRY(make_directories(store_dir_, io_));
  PCACHE_ASSIGN(db_, Database::open(store_dir_ + "/db"));
  if (auto checked = check_format(); !checked) {
    db_.reset();  // nothing of ours may be written into a newer store
    return checked;
  }
  PCACHE_TRY(blobs_.open_dirs());
  PCACHE_TRY(check_last_stop());
  PCACHE_TRY(load_meta());
  if (db_->estimated_keys(Column::kMemo) > kMemosOnDisk) PCACHE_TRY(db_->clear(Column::kMemo));
  return {};
}

Result<void> StoreImpl::check_format() {
  PCACHE_ASSIGN(const std::optional<std::string> found, db_->get(Column::kMeta, "format"));
  if (!found) {
    Batch batch;
    batch.put(Column::kMeta, "format", encode_u64(kFormatVersion));
    return db_->write(batch);
  }
  const std::optional<uint64_t> version = decode_u64(*found);
  if (!version) return make_error(ErrorKind::kCorrupt, "the format version is damaged");
  if (*version == kFormatVersion) return {};
  return make_error(ErrorKind::kUnsupported,
                    fmt::format("{} has format version {}, this pcache knows version {} "
                                "(remedy: use a newer pcache, or empty it with `pcache clear`)",
                                store_dir_, *version, kFormatVersion));
}

// A power cut can leave a blob's name without its bytes. After a stop that was not clean, in an
// earlier boot, what was there before is verified when it is first used.
Result<void> StoreImpl::check_last_stop() {
  std::string boot;
  std::ifstream("/proc/sys/kernel/random/boot_id") >> boot;
  PCACHE_ASSIGN(const std::optional<std::string> last, db_->get(Column::kMeta, "boot"));
  PCACHE_ASSIGN(const std::optional<std::string> clean, db_->get(Column::kMeta, "clean"));
  PCACHE_ASSIGN(const std::optional<std::string> since, db_->get(Column::kMeta, "distrust"));
  int64_t distrusted_ns = since ? static_cast<int64_t>(decode_u64(*since).value_or(0)) : 0;
  if (last && *last != boot && clean != "1") distrusted_ns = realtime_ns();
  blobs_.distrust_before(distrusted_ns);
  if (options_.read_only) return {};
  Batch batch;
  batch.put(Column::kMeta, "boot", boot);
  batch.put(Column::kMeta, "clean", "0");
  batch.put(Column::kMeta, "distrust", encode_u64(static_cast<uint64_t>(distrusted_ns)));
  return db_->write(batch);
}

void StoreImpl::note_stop(bool clean) {
  if (options_.read_only || !clean) return;
  Batch batch;
  batch.put(Column::kMeta, "clean", "1");
  (void)db_->write(batch);
}

Result<void> StoreImpl::load_meta() {
  PCACHE_ASSIGN(const std::optional<std::string> records, db_->get(Column::kMeta, "records"));
  if (records) record_count_ = decode_u64(*records).value_or(0);
  PCACHE_ASSIGN(const std::optional<std::string> stats, db_->get(Column::kMeta, "stats"));
  if (stats && stats->size() == 48) {
    uint64_t* const fields[] = {&stats_.runs,        &stats_.hits,         &stats_.misses,
                                &stats_.uncacheable, &stats_.bytes_served, &stats_.saved_ns};
    for (size_t i = 0; i < 6; ++i)
      *fields[i] = *decode_u64(std::string_view(*stats).substr(8 * i, 8));
  }
  return db_->each(Column::kRun, [this](std::string_view key, std::string_view) {
    next_run_ = decode_u64(key).value_or(0) + 1;
    return true;
  });
}

// --- two-phase lookup ---

Result<StoreImpl::UsedList> StoreImpl::used_list(const Digest& weak) {
  {
    const std::lock_guard lock(candidates_mutex_);
    if (const UsedList* list = used_lists_.find(weak)) return *list;
  }
  UsedList list;
  if (const std::optional<std::string> bytes = read_behind(Column::kWeak, weak.bytes()))
    list = decode_used(*bytes);
  const std::lock_guard lock(candidates_mutex_);
  // Somebody may have been faster, and have changed it since.
  if (const UsedList* known = used_lists_.find(weak)) return *known;
  used_lists_.insert(weak, list);
  return list;
}

void StoreImpl::cache_used_list(const Digest& weak, const UsedList& list) {
  const std::lock_guard lock(candidates_mutex_);
  used_lists_.insert(weak, list);
}

StoreImpl::UsedList StoreImpl::decode_used(std::string_view bytes) {
  UsedList list;
  for (; bytes.size() >= kUsedEntryBytes; bytes.remove_prefix(kUsedEntryBytes))
    list.push_back(
        {{*Digest::from_bytes(bytes.substr(0, 16)), *Digest::from_bytes(bytes.substr(16, 16))},
         static_cast<int64_t>(*decode_u64(bytes.substr(32, 8)))});
  return list;
}

std::string StoreImpl::encode_used(const UsedList& list) {
  std::string out;
  out.reserve(list.size() * kUsedEntryBytes);
  for (const auto& used : list) {
    out += used.candidate.path_set.bytes();
    out += used.candidate.strong.bytes();
    out += encode_u64(static_cast<uint64_t>(used.used_ns));
  }
  return out;
}

Result<std::vector<Candidate>> StoreImpl::candidates(const Digest& weak) {
  PCACHE_ASSIGN(const UsedList list, used_list(weak));
  std::vector<Candidate> out;
  out.reserve(list.size());
  for (const Used& used : list) out.push_back(used.candidate);
  return out;
}

Result<std::shared_ptr<const PathSet>> StoreImpl::path_set(const Digest& digest) {
  {
    const std::lock_guard lock(cache_mutex_);
    if (const auto* known = path_sets_.find(digest)) return *known;
  }
  PCACHE_ASSIGN(const std::optional<std::string> bytes, db_->get(Column::kPathSet, digest.bytes()));
  if (!bytes) return make_error(ErrorKind::kNotFound, "no path set " + digest.hex());
  std::optional<PathSet> keys = parse_path_set(*bytes);
  if (!keys) return make_error(ErrorKind::kCorrupt, "the path set " + digest.hex() + " is damaged");
  auto shared = std::make_shared<const PathSet>(std::move(*keys));
  const std::lock_guard lock(cache_mutex_);
  path_sets_.insert(digest, shared, shared->size() + 1);
  return shared;
}

Result<std::shared_ptr<const Record>> StoreImpl::record(const Digest& strong) {
  {
    const std::lock_guard lock(cache_mutex_);
    if (const auto* known = records_.find(strong)) return *known;
  }
  PCACHE_ASSIGN(const std::optional<std::string> bytes, db_->get(Column::kRecord, strong.bytes()));
  if (!bytes) return make_error(ErrorKind::kNotFound, "no record " + strong.hex());
  std::optional<Record> record = parse_record(*bytes);
  if (!record || record->strong != strong) {
    return make_error(ErrorKind::kCorrupt, "the record " + strong.hex() + " is damaged");
  }
  auto shared = std::make_shared<const Record>(std::move(*record));
  const std::lock_guard lock(cache_mutex_);
  records_.insert(strong, shared, shared->facts.size() + shared->effects.size() + 1);
  return shared;
}

Result<void> StoreImpl::check_blobs(const Record& record) {
  const auto check = [this](const Digest& blob, uint64_t size) -> Result<void> {
    if (blob.empty() || blobs_.has(blob, size)) return {};
    return make_error(ErrorKind::kNotFound,
                      "a record names the blob " + blob.hex() + ", which is not there");
  };
  for (const Effect& effect : record.effects) {
    if (effect.kind == EffectKind::kFile) PCACHE_TRY(check(effect.blob, effect.size));
  }
  uint64_t stream_size = 0;
  for (const StreamSegment& segment : record.streams) stream_size += segment.size;
  return check(record.stream_blob, stream_size);
}

Result<Digest> StoreImpl::put(Record record) {
  if (options_.read_only) {
    return make_error(ErrorKind::kUnsupported, "the store was opened to read only");
  }
  PathSet keys;
  std::vector<FactValue> values;
  keys.reserve(record.facts.size());
  values.reserve(record.facts.size());
  for (const Fact& fact : record.facts) {
    keys.push_back(fact.key);
    values.push_back(fact.value);
  }
  const Digest set = path_set_digest(keys);
  record.strong = strong_key(record.weak, set, values, record.root);
  const Digest weak = record.weak, strong = record.strong;

  const std::lock_guard lock(write_mutex_);
  PCACHE_TRY(check_blobs(record));  // with the lock: an eviction removes blobs under it
  if (put_meanwhile_) {
    put_meanwhile_->insert(set);
    each_blob(record, [&](const Digest& blob) { put_meanwhile_->insert(blob); });
  }
  Batch batch;
  PCACHE_ASSIGN(const std::optional<std::string> earlier,
                db_->get(Column::kRecord, strong.bytes()));
  uint64_t count = record_count_ + (earlier ? 0 : 1);
  batch.put(Column::kRecord, strong.bytes(), serialize_record(record));
  batch.put(Column::kPathSet, set.bytes(), serialize_path_set(keys));
  PCACHE_ASSIGN(UsedList list, used_list(weak));
  std::erase_if(list, [&](const Used& used) { return used.candidate.strong == strong; });
  list.insert(list.begin(), Used{{set, strong}, realtime_ns()});
  for (; list.size() > kMaxCandidates; list.pop_back()) {
    batch.erase(Column::kRecord, list.back().candidate.strong.bytes());
    if (count > 0) --count;
  }
  add_makers(record, &batch);
  batch.put(Column::kMeta, "records", encode_u64(count));
  // What waits may hold an older list (touch): this one must be the last word, so it waits too.
  {
    const std::lock_guard behind(behind_mutex_);
    behind_[{Column::kWeak, weak.bytes()}] = encode_used(list);
  }
  if (auto written = write_locked(std::move(batch)); !written) {
    const std::lock_guard behind(behind_mutex_);
    behind_.erase({Column::kWeak, weak.bytes()});
    return tl::make_unexpected(std::move(written).error());
  }
  record_count_ = count;
  cache_used_list(weak, list);
  const size_t weight = record.facts.size() + record.effects.size() + 1;
  auto shared = std::make_shared<const Record>(std::move(record));
  auto shared_keys = std::make_shared<const PathSet>(std::move(keys));
  const std::lock_guard cache(cache_mutex_);
  records_.insert(strong, shared, weight);
  path_sets_.insert(set, shared_keys, shared_keys->size() + 1);
  return strong;
}

void StoreImpl::touch(const Digest& weak, const Digest& strong) {
  if (options_.read_only) return;
  const std::lock_guard lock(write_mutex_);
  Result<UsedList> list = used_list(weak);
  if (!list) return;
  const auto it = std::find_if(list->begin(), list->end(),
                               [&](const Used& used) { return used.candidate.strong == strong; });
  if (it == list->end()) return;
  const int64_t now = realtime_ns();
  if (it == list->begin() && now - it->used_ns < kTouchIntervalNs) return;
  it->used_ns = now;
  std::rotate(list->begin(), it, it + 1);
  cache_used_list(weak, *list);
  const std::lock_guard behind(behind_mutex_);
  behind_[{Column::kWeak, weak.bytes()}] = encode_used(*list);
}

// --- notes of blobs ---

std::optional<Stamp> StoreImpl::load(const Digest& digest) {
  const Result<std::optional<std::string>> found = db_->get(Column::kBlob, digest.bytes());
  return found && *found ? decode_stamp(**found) : std::nullopt;
}

bool StoreImpl::each(const std::function<void(const Digest&, const Stamp&)>& visit) {
  return db_
      ->each(Column::kBlob,
             [&](std::string_view key, std::string_view value) {
               const std::optional<Digest> digest = Digest::from_bytes(key);
               const std::optional<Stamp> stamp = decode_stamp(value);
               if (digest && stamp) visit(*digest, *stamp);
               return true;
             })
      .has_value();
}

// --- runs and statistics ---

std::string StoreImpl::encode_stats_locked() const {
  std::string out;
  for (const uint64_t number : {stats_.runs, stats_.hits, stats_.misses, stats_.uncacheable,
                                stats_.bytes_served, stats_.saved_ns}) {
    out += encode_u64(number);
  }
  return out;
}

Result<void> StoreImpl::put_run(const std::string& json, uint64_t hits, uint64_t misses,
                                uint64_t uncacheable, uint64_t saved_ns, uint64_t bytes_served) {
  const std::lock_guard lock(write_mutex_);
  Batch batch;
  {
    const std::lock_guard stats(stats_mutex_);
    ++stats_.runs;
    stats_.hits += hits;
    stats_.misses += misses;
    stats_.uncacheable += uncacheable;
    stats_.saved_ns += saved_ns;
    stats_.bytes_served += bytes_served;
    batch.put(Column::kMeta, "stats", encode_stats_locked());
  }
  const uint64_t sequence = next_run_++;
  batch.put(Column::kRun, encode_u64(sequence), json);
  if (sequence > kRunsKept) batch.erase(Column::kRun, encode_u64(sequence - kRunsKept));
  return write_locked(std::move(batch));
}

std::optional<std::string> StoreImpl::last_run() {
  std::optional<std::string> last;
  (void)db_->each(Column::kRun, [&](std::string_view, std::string_view json) {
    last = std::string(json);
    return true;
  });
  return last;
}

std::vector<uint64_t> StoreImpl::runs() {
  std::vector<uint64_t> numbers;
  (void)db_->each(Column::kRun, [&](std::string_view key, std::string_view) {
    if (const auto number = decode_u64(key)) numbers.push_back(*number);
    return true;
  });
  return numbers;
}

std::optional<std::string> StoreImpl::run(uint64_t number) {
  const Result<std::optional<std::string>> found = db_->get(Column::kRun, encode_u64(number));
  return found ? *found : std::nullopt;
}

std::optional<uint64_t> StoreImpl::run_with(const std::string& text) {
  std::optional<uint64_t> latest;
  (void)db_->each(Column::kRun, [&](std::string_view key, std::string_view json) {
    if (json.find(text) != std::string_view::npos) latest = decode_u64(key);
    return true;
  });
  return latest;
}

StoreStats StoreImpl::stats() {
  StoreStats out;
  {
    const std::lock_guard lock(stats_mutex_);
    out = stats_;
  }
  {
    const std::lock_guard lock(write_mutex_);
    out.records = record_count_;
  }
  const FileBlobStore::Totals totals = blobs_.totals();
  out.blobs = totals.count;
  out.blob_bytes = totals.bytes;
  return out;
}

void StoreImpl::zero_stats() {
  const std::lock_guard lock(write_mutex_);
  Batch batch;
  {
    const std::lock_guard stats(stats_mutex_);
    stats_ = StoreStats{};
    batch.put(Column::kMeta, "stats", encode_stats_locked());
  }
  (void)write_locked(std::move(batch));
}

Result<void> StoreImpl::clear() {
  const std::lock_guard lock(write_mutex_);
  {
    const std::lock_guard behind(behind_mutex_);
    behind_.clear();
  }
  {
    const std::lock_guard memos(memo_mutex_);
    memo_.clear();
    new_memos_.clear();
  }
  // Records first: what is left after a failure half-way must not name blobs that are gone.
  for (size_t i = 0; i < kColumns; ++i) {
    if (static_cast<Column>(i) != Column::kMeta) PCACHE_TRY(db_->clear(static_cast<Column>(i)));
  }
  {
    const std::lock_guard candidates(candidates_mutex_);
    used_lists_.clear();
  }
  {
    const std::lock_guard cache(cache_mutex_);
    path_sets_.clear();
    records_.clear();
  }
  record_count_ = 0;
  Batch batch;
  batch.put(Column::kMeta, "records", encode_u64(0));
  PCACHE_TRY(db_->write(batch));
  return blobs_.clear();
}

Result<void> StoreImpl::flush() {
  PCACHE_TRY(write_behind());
  return db_->flush();
}

}  // namespace pcache::store
