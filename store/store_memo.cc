// The parts of the store that are kept in memory and written behind: hash memos, own outputs, key
// parts.
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <ctime>

#include "store/codec.h"
#include "store/store_impl.h"

namespace pcache::store {

namespace {

constexpr size_t kBehindEntries = 1024;
constexpr size_t kNewMemos = 4096;
constexpr size_t kMemosInMemory = 500000;
constexpr int64_t kYoungNs = 20'000'000;

int64_t nanoseconds(const struct timespec& t) {
  return static_cast<int64_t>(t.tv_sec) * 1000000000 + t.tv_nsec;
}

std::string own_key(const Digest& weak, const std::string& root, const std::string& path) {
  return weak.bytes() + Hasher().add(root).add(path).finish().bytes();
}

// Hash of a pseudo-file: its size says 0 whatever it holds. Nothing is remembered of it.
Result<Digest> hash_to_end(int fd) {
  std::string bytes(64 * 1024, '\0');
  size_t done = 0;
  for (;;) {
    const ssize_t got =
        pread(fd, bytes.data() + done, bytes.size() - done, static_cast<off_t>(done));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return system_error("cannot read a file");
    if (got == 0) return hash_bytes({bytes.data(), done});
    done += static_cast<size_t>(got);
    if (done == bytes.size()) bytes.resize(bytes.size() * 2);
    if (done > 16u << 20) return make_error(ErrorKind::kBusy, "a file grew while it was read");
  }
}

}  // namespace

int64_t realtime_ns() {
  struct timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  return nanoseconds(now);
}

Stamp Stamp::of(const struct stat& st) {
  return {st.st_dev, st.st_ino, static_cast<uint64_t>(st.st_size), nanoseconds(st.st_mtim),
          nanoseconds(st.st_ctim)};
}

bool Stamp::young(int64_t now_ns) const {
  return now_ns - mtime_ns < kYoungNs || now_ns - ctime_ns < kYoungNs;
}

size_t StampHash::operator()(const Stamp& s) const { return XXH3_64bits(&s, sizeof s); }

// --- written behind ---

void StoreImpl::write_later(Column column, std::string key, std::string value) {
  if (options_.read_only) return;
  bool many;
  {
    const std::lock_guard lock(behind_mutex_);
    behind_[{column, std::move(key)}] = std::move(value);
    many = behind_.size() >= kBehindEntries;
  }
  if (many) (void)write_behind();
}

std::optional<std::string> StoreImpl::read_behind(Column column, const std::string& key) {
  {
    const std::lock_guard lock(behind_mutex_);
    if (const auto it = behind_.find({column, key}); it != behind_.end()) return it->second;
  }
  Result<std::optional<std::string>> found = db_->get(column, key);
  return found ? std::move(*found) : std::nullopt;
}

Result<void> StoreImpl::write_locked(Batch batch) {
  Behind behind;
  {
    const std::lock_guard lock(behind_mutex_);
    behind = behind_;  // stays readable until it is in the database
  }
  for (const auto& [key, value] : behind) batch.put(key.column, key.key, value);
  std::vector<std::pair<Stamp, Digest>> memos;
  {
    const std::lock_guard lock(memo_mutex_);
    memos.swap(new_memos_);
  }
  for (const auto& [stamp, digest] : memos) {
    batch.put(Column::kMemo, encode_stamp(stamp), digest.bytes());
  }
  FileBlobStore::Pending notes = blobs_.take_pending();
  for (const auto& [digest, stamp] : notes) {
    if (stamp) {
      batch.put(Column::kBlob, digest.bytes(), encode_stamp(*stamp));
    } else {
      batch.erase(Column::kBlob, digest.bytes());
    }
  }
  if (batch.empty()) return {};
  Result<void> written = db_->write(batch);
  if (!written) {
    blobs_.put_back(std::move(notes));
    return written;  // the memos stay in memory; they are not worth a second try
  }
  const std::lock_guard lock(behind_mutex_);
  for (const auto& [key, value] : behind) {
    if (const auto it = behind_.find(key); it != behind_.end() && it->second == value) {
      behind_.erase(it);
    }
  }
  return {};
}

Result<void> StoreImpl::write_behind() {
  const std::lock_guard lock(write_mutex_);
  return write_locked({});
}

// --- hash memo ---

std::optional<Digest> StoreImpl::memo(const Stamp& stamp) {
  {
    const std::lock_guard lock(memo_mutex_);
    if (const auto it = memo_.find(stamp); it != memo_.end()) return it->second;
  }
  const Result<std::optional<std::string>> found = db_->get(Column::kMemo, encode_stamp(stamp));
  if (!found || !*found) return std::nullopt;
  const std::optional<Digest> digest = Digest::from_bytes(**found);
  if (digest) {
    const std::lock_guard lock(memo_mutex_);
    memo_.emplace(stamp, *digest);
  }
  return digest;
}

void StoreImpl::remember(const Stamp& stamp, const Digest& digest, int64_t now_ns) {
  if (stamp.young(now_ns)) return;
  bool many;
  {
    const std::lock_guard lock(memo_mutex_);
    if (memo_.size() >= kMemosInMemory) memo_.clear();  // all but the newest are in the database
    if (!memo_.insert_or_assign(stamp, digest).second) return;
    if (options_.read_only) return;
    new_memos_.emplace_back(stamp, digest);
    many = new_memos_.size() >= kNewMemos;
  }
  if (many) (void)write_behind();
}

Result<Digest> StoreImpl::hash_file(int fd, const struct stat& st) {
  const Stamp stamp = Stamp::of(st);
  // Before the reading: a write that comes in the clock's same tick as the file's own time, while
  // we read, would leave the stamp as it is.
  const int64_t now = realtime_ns();
  struct stat before, after;
  if (fstat(fd, &before) != 0) return system_error("cannot stat a file");
  const auto changed = [] {
    return make_error(ErrorKind::kBusy, "the file changed while it was read");
  };
  if (Stamp::of(before) != stamp) return changed();
  if (st.st_size == 0) return hash_to_end(fd);
  if (const std::optional<Digest> known = memo(stamp)) return *known;
  PCACHE_ASSIGN(const Digest digest, hash_descriptor(fd, stamp.size));
  if (fstat(fd, &after) != 0) return system_error("cannot stat a file");
  if (Stamp::of(after) != stamp) return changed();
  remember(stamp, digest, now);
  return digest;
}

// --- own outputs, key parts ---

void StoreImpl::remember_own(const Digest& weak, const std::string& root, const std::string& path,
                             const Stamp& stamp) {
  write_later(Column::kOwn, own_key(weak, root, path), encode_stamp(stamp));
}

std::optional<Stamp> StoreImpl::own(const Digest& weak, const std::string& root,
                                    const std::string& path) {
  const std::optional<std::string> bytes = read_behind(Column::kOwn, own_key(weak, root, path));
  return bytes ? decode_stamp(*bytes) : std::nullopt;
}

void StoreImpl::remember_parts(const Digest& command, const KeyParts& parts) {
  std::string bytes = serialize_parts(parts);
  if (read_behind(Column::kParts, command.bytes()) == bytes) return;
  write_later(Column::kParts, command.bytes(), std::move(bytes));
}

std::optional<Store::KeyParts> StoreImpl::parts(const Digest& command) {
  const std::optional<std::string> bytes = read_behind(Column::kParts, command.bytes());
  return bytes ? parse_parts(*bytes) : std::nullopt;
}

}  // namespace pcache::store
