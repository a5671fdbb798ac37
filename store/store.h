// Store: everything pcache remembers. One process opens it (RocksDB's rule): the daemon.
//
// Layout of PCACHE_DIR/store: db/ (RocksDB), blobs/xx/<hex> (immutable contents, mode 0400), tmp/.
// A record never names a blob that is not there: blob to a temporary file, rename, then the record
// and everything that leads to it in one WriteBatch. A full disk or a damaged file is an Error the
// caller answers by running uncached; RocksDB's own log is replaced (it aborts on a full disk).
//
// All functions are thread-safe.
#pragma once

#include <sys/stat.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "store/digest.h"
#include "store/record.h"
#include "store/result.h"
#include "store/unique_fd.h"

namespace pcache::store {

inline constexpr uint32_t kFormatVersion = 1;

// If equal and old enough, the content hash is still known.
struct Stamp {
  uint64_t dev = 0, ino = 0, size = 0;
  int64_t mtime_ns = 0, ctime_ns = 0;

  auto operator<=>(const Stamp&) const = default;
  static Stamp of(const struct stat& st);
  // True when a later write could leave this stamp as it is (the kernel's clock is coarse):
  // `now_ns` (CLOCK_REALTIME) is less than 20 ms after mtime or ctime, or before them.
  bool young(int64_t now_ns) const;
};

struct StampHash {
  size_t operator()(const Stamp& s) const;
};

// Immutable contents by hash.
class BlobStore {
 public:
  virtual ~BlobStore() = default;
  // Copies `size` bytes of `fd` (from offset 0; its own offset is not moved), hashing them.
  // Fails with kBusy when the file turned out shorter.
  virtual Result<Digest> put_file(int fd, uint64_t size) = 0;
  virtual Result<Digest> put_bytes(std::string_view bytes) = 0;
  // Read-only descriptor. kNotFound if evicted or lost; checks the size.
  virtual Result<UniqueFd> open(const Digest& digest, uint64_t size) = 0;
  virtual bool has(const Digest& digest, uint64_t size) = 0;
  virtual uint64_t total_bytes() = 0;
};

// A record that a weak key may lead to; the most recently used first.
struct Candidate {
  Digest path_set;
  Digest strong;
};

// Who left a path last.
struct Producer {
  Digest strong;
  int64_t when_ns = 0;  // CLOCK_REALTIME
  bool hit = false;     // it was served, nothing ran
};

struct StoreStats {
  uint64_t records = 0, blobs = 0, blob_bytes = 0;
  // since the last --zero
  uint64_t runs = 0, hits = 0, misses = 0, uncacheable = 0, bytes_served = 0;
  uint64_t saved_ns = 0;
};

class FileIo;

struct Limits {
  uint64_t max_bytes = uint64_t{20} << 30;  // blobs and database; 0: no limit
  double min_free = 0.05;                   // of the store's file system; never taken
};

struct StoreOptions {
  bool read_only = false;  // hit, never record
  FileIo* io = nullptr;    // for tests (file_io.h); nullptr: the system's
  Limits limits;
};

struct EvictOptions {
  uint64_t max_bytes = 0;      // evict until the store holds at most this; 0: no such limit
  int64_t used_before_ns = 0;  // and what was last used before then (CLOCK_REALTIME); 0: nothing
  std::function<bool(const Record&)> chosen;  // and what this chooses, whenever it was used
  bool dry_run = false;                       // only count
  // Records looked at, and how many there are: most of the work. No lock is held that others need.
  std::function<void(uint64_t, uint64_t)> progress;
};

struct Evicted {
  uint64_t records = 0, blobs = 0, bytes = 0;  // bytes: of blobs
};

// What `verify` found. The damaged is removed already.
struct Damage {
  std::string what;  // "contents", "record", "questions"
  std::string name;  // 32 digits
  std::string why;
};
struct Verified {
  uint64_t blobs = 0, bytes = 0, records = 0;  // that are whole
  std::vector<Damage> damaged;
};
// Bytes hashed and bytes to hash; returns false to give up.
using VerifyProgress = std::function<bool(uint64_t, uint64_t)>;

class Store {
 public:
  virtual ~Store() = default;

  // `dir` is PCACHE_DIR. Creates the directory (0700) when missing. Errors name the path and the
  // remedy: a newer format, a locked database, no space, no permission.
  static Result<std::unique_ptr<Store>> open(const std::string& dir, const StoreOptions& options);

  virtual const std::string& dir() const = 0;
  virtual BlobStore& blobs() = 0;

  // --- two-phase lookup ---
  virtual Result<std::vector<Candidate>> candidates(const Digest& weak) = 0;
  // Decoded path sets are kept in memory.
  virtual Result<std::shared_ptr<const PathSet>> path_set(const Digest& digest) = 0;
  virtual Result<std::shared_ptr<const Record>> record(const Digest& strong) = 0;  // kNotFound

  // One WriteBatch: record, path set, candidate (at most 256 a weak key, the oldest dropped),
  // makers. Sets record.strong from weak, facts and root, and returns it.
  virtual Result<Digest> put(Record record) = 0;
  virtual void touch(const Digest& weak, const Digest& strong) = 0;  // used now; best effort

  // --- hash memo: stamp → content hash (in memory, written behind) ---
  virtual std::optional<Digest> memo(const Stamp& stamp) = 0;
  // Does nothing for a stamp that is young at `now_ns`.
  virtual void remember(const Stamp& stamp, const Digest& digest, int64_t now_ns) = 0;
  // Content hash of an open regular file through the memo. kBusy if it changed while it was read.
  virtual Result<Digest> hash_file(int fd, const struct stat& st) = 0;

  // --- own outputs (design rule 2): the stamp with which a weak key's run or hit left a path ---
  // `root` separates checkouts; `path` is a TreePath text.
  // (The tracer asks and remembers with an empty `weak`: left by any recorded run or hit. A
  // parent's hit leaves the outputs of its children too, and what replaces them cannot tell.)
  virtual void remember_own(const Digest& weak, const std::string& root, const std::string& path,
                            const Stamp& stamp) = 0;
  virtual std::optional<Stamp> own(const Digest& weak, const std::string& root,
                                   const std::string& path) = 0;

  // --- what the last look at a command was (for explain: which part of the weak key changed) ---
  // `command` = hash of executable path, argv, cwd; `parts` = (name, value hash or text) of the
  // weak key.
  using KeyParts = std::vector<std::pair<std::string, std::string>>;
  virtual void remember_parts(const Digest& command, const KeyParts& parts) = 0;
  virtual std::optional<KeyParts> parts(const Digest& command) = 0;

  // --- for why: who left a path (a TreePath text) ---
  // Notes that the record `strong` left `path`, by running (or `hit`) since `began_ns`
  // (CLOCK_REALTIME). What a command inside that one noted since then stays: a make leaves what
  // its compilers made. `root` separates checkouts; a path outside every root belongs to none.
  virtual void note_output(const std::string& root, const std::string& path, const Digest& strong,
                           bool hit, int64_t began_ns) = 0;
  virtual std::optional<Producer> producer(const std::string& root, const std::string& path) = 0;
  // The innermost record that ever left these contents at `path`, in whatever root.
  virtual std::optional<Digest> maker(const std::string& path, const Digest& contents) = 0;

  // --- runs ---
  // A run's report (the JSON of cli.md); kept: the last 20. Adds its counts to the statistics.
  virtual Result<void> put_run(const std::string& json, uint64_t hits, uint64_t misses,
                               uint64_t uncacheable, uint64_t saved_ns, uint64_t bytes_served) = 0;
  virtual std::optional<std::string> last_run() = 0;
  virtual std::vector<uint64_t> runs() = 0;  // numbers of those kept, in order
  virtual std::optional<std::string> run(uint64_t number) = 0;
  // The latest run whose report has `text` in it.
  virtual std::optional<uint64_t> run_with(const std::string& text) = 0;
  virtual StoreStats stats() = 0;
  virtual void zero_stats() = 0;

  // --- size ---
  virtual uint64_t disk_bytes() = 0;  // blobs and database
  // Past a limit: evict(limits) is due.
  virtual bool over_limit() = 0;
  // Forgets the records that were used least lately, and the blobs that no record names any more.
  // Others go on meanwhile; what they use or put is kept. A hit that finds a blob gone runs.
  virtual Result<Evicted> evict(const EvictOptions& options) = 0;
  // Down to nine tenths of the limits.
  virtual Result<Evicted> evict_to_limits() = 0;

  // Hashes this part (0 to 1) of the blobs, chosen at random, and looks at every record; removes
  // what is damaged and what leads to it. An Error where the database itself cannot be read.
  virtual Result<Verified> verify(double sample, const VerifyProgress& progress) = 0;

  virtual Result<void> clear() = 0;  // records, blobs, memos, runs; the statistics stay
  virtual Result<void> flush() = 0;  // write-behind memos out; called on shutdown
};

int64_t realtime_ns();

}  // namespace pcache::store
