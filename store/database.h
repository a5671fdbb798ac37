// Database: RocksDB behind the few operations the store needs, with pcache's error model.
//
// No RocksDB type leaves database.cc. A full disk and a damaged file are Errors: RocksDB's own info
// log, which aborts the process on a full disk, is replaced by one that says nothing, and every
// iterator's status is looked at (a flipped byte in an SST shows nowhere else). Thread-safe.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "store/result.h"

namespace pcache::store {

// One column family each. Keys and values, format version 1 (D: 16 bytes of a digest, big-endian;
// N: 8 bytes of a number, big-endian; S: 40 bytes of a stamp):
//   weak     D(weak)            (D(path set) D(strong) N(last used, ns))*, latest first
//   pathset  D(path set)        PathSet (codec.h)
//   record   D(strong)          Record (codec.h)
//   memo     S                  D(content)
//   own      D(weak) D(root, path)  S
//   parts    D(command)         KeyParts (codec.h)
//   run      N(sequence)        JSON
//   meta     "format" N; "records" N; "stats" N*6 (runs hits misses uncacheable served saved);
//            "boot" the kernel's boot id; "clean" 1 after a clean stop; "distrust" N: blobs older
//            than this (CLOCK_REALTIME, ns) are verified before they are used
//   blob     D(content)         S
//   output   path text          D(strong) of the record that made it last
enum class Column : uint8_t {
  kWeak,
  kPathSet,
  kRecord,
  kMemo,
  kOwn,
  kParts,
  kRun,
  kMeta,
  kBlob,
  kOutput,
};
inline constexpr size_t kColumns = 10;

class Batch {
 public:
  struct Operation {
    Column column;
    std::string key;
    std::optional<std::string> value;  // nullopt: erase
  };

  void put(Column column, std::string key, std::string value) {
    operations_.push_back({column, std::move(key), std::move(value)});
  }
  void erase(Column column, std::string key) {
    operations_.push_back({column, std::move(key), std::nullopt});
  }
  bool empty() const { return operations_.empty(); }
  const std::vector<Operation>& operations() const { return operations_; }

 private:
  std::vector<Operation> operations_;
};

class Database {
 public:
  virtual ~Database() = default;

  static Result<std::unique_ptr<Database>> open(const std::string& dir);

  // nullopt: no such key.
  virtual Result<std::optional<std::string>> get(Column column, std::string_view key) = 0;
  // All or nothing. Goes to the log, which is not synced: a power cut loses the last of it.
  virtual Result<void> write(const Batch& batch) = 0;
  // In the order of keys, until `visit` returns false.
  using Visit = std::function<bool(std::string_view key, std::string_view value)>;
  virtual Result<void> each(Column column, const Visit& visit) = 0;
  virtual uint64_t estimated_keys(Column column) = 0;
  virtual uint64_t disk_bytes() = 0;  // of its tables
  virtual Result<void> clear(Column column) = 0;
  virtual Result<void> flush() = 0;  // memory to files
};

}  // namespace pcache::store
