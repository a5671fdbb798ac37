// FileBlobStore: immutable contents as files, blobs/xx/<hex>, mode 0400.
//
// A blob is written to tmp/ and renamed, so that a name stands for a whole content. Its stamp is
// noted when it is made (through BlobNotes, which the store keeps in RocksDB). When the stamp of a
// blob is not the noted one — somebody changed its mode or, worse, its bytes — the content is
// hashed before it is given out; a damaged blob is removed and counts as lost. A stamp here leaves
// the device out: it changes from boot to boot.
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

class FileBlobStore : public BlobStore {
 public:
  // `dir` holds blobs/ and tmp/; both are made by open_dirs().
  FileBlobStore(std::string dir, FileIo& io, BlobNotes& notes);

  Result<void> open_dirs();  // also empties tmp/

  Result<Digest> put_file(int fd, uint64_t size) override;
  Result<Digest> put_bytes(std::string_view bytes) override;
  Result<UniqueFd> open(const Digest& digest, uint64_t size) override;
  bool has(const Digest& digest, uint64_t size) override;
  uint64_t total_bytes() override;
  struct Totals {
    uint64_t count = 0, bytes = 0;
  };
  Totals totals();  // walks all notes: some 50 ms for 100,000 blobs

  // Notes that are not in the database yet; the caller writes them (nullopt: the blob is gone).
  using Pending = std::vector<std::pair<Digest, std::optional<Stamp>>>;
  Pending take_pending();
  void put_back(Pending pending);

  Result<void> clear();

 private:
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
  std::mutex mutex_;
  Lru<Digest, Stamp, DigestHash> stamps_;
  std::unordered_map<Digest, std::optional<Stamp>, DigestHash> pending_;
  uint64_t next_temporary_ = 0;
};

}  // namespace pcache::store
