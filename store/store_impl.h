// StoreImpl: the store over a Database and a FileBlobStore.
//
// Three things are kept in memory and written behind: hash memos, own outputs and key parts. They
// ride on the next put()'s batch, or go out when there are many, or on flush(). What a killed
// daemon loses of them costs a miss or a hash, never a wrong answer.
//
// Locks, in this order, none held while a caller's code runs: write_mutex_ (one batch at a time, so
// that an older value never overtakes a newer one), then one of candidates_mutex_, cache_mutex_,
// memo_mutex_, behind_mutex_, stats_mutex_ (never two of these).
#pragma once

#include <memory>
#include <mutex>
#include <string>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "store/blob_store.h"
#include "store/database.h"
#include "store/lru.h"
#include "store/store.h"

namespace pcache::store {

class StoreImpl : public Store, private BlobNotes {
 public:
  StoreImpl(std::string dir, const StoreOptions& options);
  ~StoreImpl() override;
  Result<void> start();

  const std::string& dir() const override { return dir_; }
  BlobStore& blobs() override { return blobs_; }
  Result<std::vector<Candidate>> candidates(const Digest& weak) override;
  Result<std::shared_ptr<const PathSet>> path_set(const Digest& digest) override;
  Result<std::shared_ptr<const Record>> record(const Digest& strong) override;
  Result<Digest> put(Record record) override;
  void touch(const Digest& weak, const Digest& strong) override;
  std::optional<Digest> memo(const Stamp& stamp) override;
  void remember(const Stamp& stamp, const Digest& digest, int64_t now_ns) override;
  Result<Digest> hash_file(int fd, const struct stat& st) override;
  void remember_own(const Digest& weak, const std::string& root, const std::string& path,
                    const Stamp& stamp) override;
  std::optional<Stamp> own(const Digest& weak, const std::string& root,
                           const std::string& path) override;
  void remember_parts(const Digest& command, const KeyParts& parts) override;
  std::optional<KeyParts> parts(const Digest& command) override;
  void note_output(const std::string& root, const std::string& path, const Digest& strong, bool hit,
                   int64_t began_ns) override;
  std::optional<Producer> producer(const std::string& root, const std::string& path) override;
  std::optional<Digest> maker(const std::string& path, const Digest& contents) override;
  Result<void> put_run(const std::string& json, uint64_t hits, uint64_t misses,
                       uint64_t uncacheable, uint64_t saved_ns, uint64_t bytes_served) override;
  std::optional<std::string> last_run() override;
  std::vector<uint64_t> runs() override;
  std::optional<std::string> run(uint64_t number) override;
  std::optional<uint64_t> run_with(const std::string& text) override;
  StoreStats stats() override;
  void zero_stats() override;
  uint64_t disk_bytes() override;
  bool over_limit() override;
  Result<Evicted> evict(const EvictOptions& options) override;
  Result<Evicted> evict_to_limits() override;
  Result<Verified> verify(double sample, const VerifyProgress& progress) override;
  Result<void> clear() override;
  Result<void> flush() override;

 private:
  struct Used {
    Candidate candidate;
    int64_t used_ns = 0;
  };
  using UsedList = std::vector<Used>;
  static std::string encode_used(const UsedList& list);
  static UsedList decode_used(std::string_view bytes);
  struct BehindKey {
    Column column;
    std::string key;
    bool operator==(const BehindKey&) const = default;
  };
  struct BehindHash {
    size_t operator()(const BehindKey& k) const {
      return std::hash<std::string>()(k.key) ^ static_cast<size_t>(k.column);
    }
  };
  using Behind = std::unordered_map<BehindKey, std::string, BehindHash>;

  // BlobNotes
  std::optional<Stamp> load(const Digest& digest) override;
  bool each(const std::function<void(const Digest&, const Stamp&)>& visit) override;

  // producers.cc
  void add_makers(const Record& record, Batch* batch);
  void keep_maker(const std::string& path, const Digest& inner, const Digest& outer);
  Result<void> drop_producers(const std::unordered_set<Digest, DigestHash>& gone, Batch* batch);

  // eviction.cc
  struct Survey;
  Result<void> survey(const EvictOptions& options, Survey* out);
  Result<Evicted> remove(const Survey& survey);

  // verify.cc
  struct Check;
  Result<void> check_all_blobs(double sample, Check* check);
  Result<void> check_all_records(Check* check);
  Result<void> remove_damaged(const Check& check);

  Result<void> check_format();
  Result<void> check_last_stop();
  void note_stop(bool clean);
  Result<void> load_meta();
  Result<UsedList> used_list(const Digest& weak);
  void cache_used_list(const Digest& weak, const UsedList& list);
  Result<void> check_blobs(const Record& record);

  // Written behind.
  void write_later(Column column, std::string key, std::string value);
  std::optional<std::string> read_behind(Column column, const std::string& key);
  // Writes `batch` and all that waits; write_mutex_ is held.
  Result<void> write_locked(Batch batch);
  Result<void> write_behind();
  std::string encode_stats_locked() const;

  const std::string dir_;
  const std::string store_dir_;
  const StoreOptions options_;
  FileIo& io_;
  std::unique_ptr<Database> db_;
  FileBlobStore blobs_;

  std::mutex evict_mutex_;  // one eviction at a time; before write_mutex_
  // Blobs and path sets of records put while an eviction is under way: it must not remove them.
  // Under write_mutex_.
  std::optional<std::unordered_set<Digest, DigestHash>> put_meanwhile_;

  std::mutex write_mutex_;

  std::mutex candidates_mutex_;
  Lru<Digest, UsedList, DigestHash> used_lists_;

  std::mutex cache_mutex_;
  Lru<Digest, std::shared_ptr<const PathSet>, DigestHash> path_sets_;
  Lru<Digest, std::shared_ptr<const Record>, DigestHash> records_;

  std::mutex memo_mutex_;
  std::unordered_map<Stamp, Digest, StampHash> memo_;
  std::vector<std::pair<Stamp, Digest>> new_memos_;

  std::mutex behind_mutex_;
  Behind behind_;

  std::mutex stats_mutex_;
  StoreStats stats_;
  uint64_t record_count_ = 0;
  uint64_t next_run_ = 1;
};

}  // namespace pcache::store
