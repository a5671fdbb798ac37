#include "store/database.h"

#include <rocksdb/cache.h>
#include <rocksdb/db.h>
#include <rocksdb/filter_policy.h>
#include <rocksdb/table.h>
#include <rocksdb/write_batch.h>

#include <atomic>
#include <chrono>

namespace pcache::store {

namespace {

constexpr const char* kColumnNames[kColumns] = {"weak",  "pathset", "record", "memo", "own",
                                                "parts", "run",     "meta",   "blob", "output"};

class SilentLogger : public rocksdb::Logger {
 public:
  using rocksdb::Logger::Logv;
  void Logv(const char*, va_list) override {}
};

Error to_error(const rocksdb::Status& status, const std::string& what) {
  ErrorKind kind = ErrorKind::kSystem;
  if (status.IsNoSpace()) kind = ErrorKind::kNoSpace;
  if (status.IsCorruption()) kind = ErrorKind::kCorrupt;
  return Error{kind, status.IsNoSpace() ? ENOSPC : 0, what + ": " + status.ToString()};
}

rocksdb::Slice slice(std::string_view s) { return {s.data(), s.size()}; }

// The daemon is one of many programs on a developer's machine: small buffers, few files, two
// threads.
rocksdb::ColumnFamilyOptions column_options(const rocksdb::BlockBasedTableOptions& table) {
  rocksdb::ColumnFamilyOptions options;
  options.write_buffer_size = 4 << 20;
  options.max_write_buffer_number = 2;
  options.arena_block_size = 64 << 10;
  options.target_file_size_base = 8 << 20;
  options.max_bytes_for_level_base = 64 << 20;
  options.table_factory.reset(rocksdb::NewBlockBasedTableFactory(table));
  return options;
}

rocksdb::DBOptions db_options() {
  rocksdb::DBOptions options;
  options.create_if_missing = true;
  options.create_missing_column_families = true;
  options.info_log = std::make_shared<SilentLogger>();
  options.info_log_level = rocksdb::InfoLogLevel::HEADER_LEVEL;
  options.db_write_buffer_size = 16 << 20;
  options.max_total_wal_size = 32 << 20;
  options.max_background_jobs = 2;
  options.max_open_files = 256;
  // A start must be quick, for the first command waits for it: no 16 threads for each column
  // family.
  options.max_file_opening_threads = 1;
  options.avoid_flush_during_recovery = true;
  options.skip_stats_update_on_db_open = true;
  options.skip_checking_sst_file_sizes_on_db_open = true;
  options.keep_log_file_num = 1;
  options.stats_dump_period_sec = 0;
  options.stats_persist_period_sec = 0;
  return options;
}

class RocksDatabase : public Database {
 public:
  explicit RocksDatabase(std::string dir) : dir_(std::move(dir)) {}

  ~RocksDatabase() override {
    if (!db_) return;
    for (rocksdb::ColumnFamilyHandle* handle : all_handles_) {
      (void)db_->DestroyColumnFamilyHandle(handle);
    }
    (void)db_->Close();
  }

  Result<void> open() {
    rocksdb::BlockBasedTableOptions table;
    table.block_cache = rocksdb::NewLRUCache(16 << 20);
    table.filter_policy.reset(rocksdb::NewBloomFilterPolicy(10));
    table.cache_index_and_filter_blocks = true;
    const rocksdb::ColumnFamilyOptions column = column_options(table);

    // A newer pcache may have made column families that we do not know: they must be opened too, so
    // that the answer can be "newer format" and not RocksDB's.
    std::vector<std::string> names;
    if (!rocksdb::DB::ListColumnFamilies(db_options(), dir_, &names).ok()) names.clear();
    const auto add = [&](const std::string& name) {
      for (const std::string& known : names) {
        if (known == name) return;
      }
      names.push_back(name);
    };
    add(rocksdb::kDefaultColumnFamilyName);
    for (const char* name : kColumnNames) add(name);
    std::vector<rocksdb::ColumnFamilyDescriptor> descriptors;
    descriptors.reserve(names.size());
    for (const std::string& name : names) descriptors.emplace_back(name, column);

    rocksdb::DB* db = nullptr;
    const rocksdb::Status status =
        rocksdb::DB::Open(db_options(), dir_, descriptors, &all_handles_, &db);
    if (!status.ok()) {
      Error error = to_error(status, "cannot open the database " + dir_);
      if (status.ToString().find("lock") != std::string::npos) {
        error.kind = ErrorKind::kBusy;
        error.context = "the database " + dir_ + " is in use by another pcached";
      } else if (error.kind == ErrorKind::kCorrupt) {
        error.context += " (remedy: remove " + dir_ + ", it is only a cache)";
      }
      return tl::make_unexpected(std::move(error));
    }
    db_.reset(db);
    for (size_t i = 0; i < kColumns; ++i) {
      for (size_t j = 0; j < names.size(); ++j) {
        if (names[j] == kColumnNames[i]) handles_[i] = all_handles_[j];
      }
    }
    return {};
  }

  Result<std::optional<std::string>> get(Column column, std::string_view key) override {
    std::string value;
    const rocksdb::Status status =
        db_->Get(rocksdb::ReadOptions(), handle(column), slice(key), &value);
    if (status.ok()) return std::optional<std::string>(std::move(value));
    if (status.IsNotFound()) return std::optional<std::string>();
    return tl::make_unexpected(to_error(status, "cannot read the database " + dir_));
  }

  Result<void> write(const Batch& batch) override {
    rocksdb::WriteBatch out;
    for (const Batch::Operation& op : batch.operations()) {
      const rocksdb::Status status = op.value ? out.Put(handle(op.column), op.key, *op.value)
                                              : out.Delete(handle(op.column), op.key);
      if (!status.ok()) return tl::make_unexpected(to_error(status, "cannot prepare a write"));
    }
    const rocksdb::Status status = db_->Write(rocksdb::WriteOptions(), &out);
    if (status.ok()) return {};
    resume_sometimes();
    return tl::make_unexpected(to_error(status, "cannot write to the database " + dir_));
  }

  Result<void> each(Column column, const Visit& visit) override {
    const std::unique_ptr<rocksdb::Iterator> it(
        db_->NewIterator(rocksdb::ReadOptions(), handle(column)));
    for (it->SeekToFirst(); it->Valid(); it->Next()) {
      const rocksdb::Slice key = it->key(), value = it->value();
      if (!visit({key.data(), key.size()}, {value.data(), value.size()})) return {};
    }
    if (it->status().ok()) return {};
    return tl::make_unexpected(to_error(it->status(), "cannot read the database " + dir_));
  }

  uint64_t estimated_keys(Column column) override {
    uint64_t keys = 0;
    db_->GetIntProperty(handle(column), rocksdb::DB::Properties::kEstimateNumKeys, &keys);
    return keys;
  }

  uint64_t disk_bytes() override {
    uint64_t bytes = 0;
    db_->GetAggregatedIntProperty(rocksdb::DB::Properties::kTotalSstFilesSize, &bytes);
    return bytes;
  }

  Result<void> clear(Column column) override {
    const std::string end(64, '\xff');  // behind every key but paths, which hold no such bytes
    rocksdb::Status status =
        db_->DeleteRange(rocksdb::WriteOptions(), handle(column), rocksdb::Slice(), end);
    if (status.ok()) {
      status = db_->CompactRange(rocksdb::CompactRangeOptions(), handle(column), nullptr, nullptr);
    }
    if (status.ok()) return {};
    return tl::make_unexpected(to_error(status, "cannot clear the database " + dir_));
  }

  Result<void> flush() override {
    const rocksdb::Status status = db_->FlushWAL(false);
    if (status.ok()) return {};
    return tl::make_unexpected(to_error(status, "cannot flush the database " + dir_));
  }

 private:
  rocksdb::ColumnFamilyHandle* handle(Column column) const {
    return handles_[static_cast<size_t>(column)];
  }

  // After a failed background flush RocksDB refuses writes until it is told to go on; a disk that
  // was full may have space again.
  void resume_sometimes() {
    const int64_t now = std::chrono::steady_clock::now().time_since_epoch().count();
    int64_t last = last_resume_.load();
    if (now - last < 5'000'000'000 || !last_resume_.compare_exchange_strong(last, now)) return;
    (void)db_->Resume();
  }

  const std::string dir_;
  std::unique_ptr<rocksdb::DB> db_;
  std::vector<rocksdb::ColumnFamilyHandle*> all_handles_;
  rocksdb::ColumnFamilyHandle* handles_[kColumns] = {};
  std::atomic<int64_t> last_resume_{0};
};

}  // namespace

Result<std::unique_ptr<Database>> Database::open(const std::string& dir) {
  auto database = std::make_unique<RocksDatabase>(dir);
  PCACHE_TRY(database->open());
  return std::unique_ptr<Database>(std::move(database));
}

}  // namespace pcache::store
