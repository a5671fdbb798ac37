// FileBlobStore: immutable contents as files, blobs/xx/<hex>, mode 0400.
//
// A blob is written to tmp/ and renamed, so that a name stands for a whole content. Its stamp is
// noted when it is made (through BlobNotes, which the store keeps in RocksDB). When the stamp of a
// blob is not the noted one — somebody changed its mode or, worse, its bytes — the content is
// hashed before it is given out; a damaged blob is removed and counts as lost. A stamp here leaves
// the device out: it changes from boot to boot. Blobs older than distrust_before() are hashed as
// well, once: then their ctime is made new.
//
// The last part of the disk (`min_free`) is never taken: what would need it is not put.
//
// Thread-safe. `mutex_` guards the maps and is never held while a file is read or written.
#pragma once

#include <functional>
#include <mutex>
#include <string>
#include <unordered_map>
#include <vector>

#include "store/file_io.h"
#include "store/lru.h"
#include "store/store.h"

namespace pcache::store {

// Where the stamps of blobs are kept over restarts.
class BlobNotes {
 public:
  virtual ~BlobNotes() = default;
  virtual std::optional<Stamp> load(const Digest& digest) = 0;
  // Every note, for the total; false when they cannot be read.
  virtual bool each(const std::function<void(const Digest&, const Stamp&)>& visit) = 0;
};

// Hash of the first `size` bytes of a descriptor, whose offset is not moved. kBusy if it is
// shorter.
Result<Digest> hash_descriptor(int fd, uint64_t size);

enum class BlobState : uint8_t { kWhole, kDamaged, kUnreadable, kGone };

class FileBlobStore : public BlobStore {
 public:
  // `dir` holds blobs/ and tmp/; both are made by open_dirs().
  FileBlobStore(std::string dir, FileIo& io, BlobNotes& notes, double min_free);
  void distrust_before(int64_t realtime_ns) { distrusted_ns_ = realtime_ns; }

  Result<void> open_dirs();  // also empties tmp/

  Result<Digest> put_file(int fd, uint64_t size) override;
  Result<Digest> put_bytes(std::string_view bytes) override;
  Result<UniqueFd> open(const Digest& digest, uint64_t size) override;
  bool has(const Digest& digest, uint64_t size) override;
  uint64_t total_bytes() override;
  struct Totals {
    uint64_t count = 0, bytes = 0;
  };
  Totals totals();  // counted once (some 50 ms for 100,000 blobs), kept up to date then
  // Every blob there is.
  void each(const std::function<void(const Digest&, const Stamp&)>& visit);
  void remove(const Digest& digest);
  // The files themselves, noted or not, with their sizes.
  std::vector<std::pair<Digest, uint64_t>> files();
  // Hashes it whatever its stamp says; a damaged one is removed.
  BlobState verify(const Digest& digest);
  // Bytes that may still be put; negative when the disk has less free than it should.
  int64_t room();

  // Notes that are not in the database yet; the caller writes them (nullopt: the blob is gone).
  using Pending = std::vector<std::pair<Digest, std::optional<Stamp>>>;
  Pending take_pending();
  void put_back(Pending pending);

  Result<void> clear();

 private:
  bool trusted(const std::optional<Stamp>& known, const Stamp& now) const;
  Result<void> check_room(uint64_t size);
  std::string blob_path(const Digest& digest) const;
  std::string temporary_path();
  std::optional<Stamp> noted(const Digest& digest);
  void note(const Digest& digest, const Stamp& stamp);
  void forget(const Digest& digest);
  // Gives the finished temporary file its name, or removes it if there is such a blob.
  Result<Digest> publish(const UniqueFd& fd, const std::string& temporary, const Digest& digest);
  Result<Digest> copy_streaming(int fd, uint64_t size);
  Result<void> write_all(int fd, const char* data, size_t size);

  const std::string dir_;
  FileIo& io_;
  BlobNotes& notes_;
  const double min_free_;
  int64_t distrusted_ns_ = 0;
  std::mutex mutex_;
  Lru<Digest, Stamp, DigestHash> stamps_;
  std::unordered_map<Digest, std::optional<Stamp>, DigestHash> pending_;
  uint64_t next_temporary_ = 0;
  std::optional<Totals> totals_;
};

}  // namespace pcache::store
