#include "store/blob_store.h"

#include <dirent.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <memory>

#include "store/holes.h"

namespace pcache::store {

namespace {

constexpr size_t kChunk = 256 * 1024;
constexpr uint64_t kWholeBytes = 1u << 20;  // hashed in memory before anything is written

tl::unexpected<Error> shorter(uint64_t size) {
  return make_error(ErrorKind::kBusy,
                    fmt::format("the file became shorter than {} bytes while it was read", size));
}

// Bytes read, at most `size`; -1 and errno.
ssize_t read_at(int fd, char* data, size_t size, uint64_t offset) {
  size_t done = 0;
  while (done < size) {
    const ssize_t got = pread(fd, data + done, size - done, static_cast<off_t>(offset + done));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return -1;
    if (got == 0) break;
    done += static_cast<size_t>(got);
  }
  return static_cast<ssize_t>(done);
}

// What was a hole a moment ago may have been written since.
bool only_zeros(const char* data, size_t size) {
  return size == 0 || (data[0] == 0 && memcmp(data, data + 1, size - 1) == 0);
}

bool same_blob(const Stamp& a, const Stamp& b) {
  return a.ino == b.ino && a.size == b.size && a.mtime_ns == b.mtime_ns && a.ctime_ns == b.ctime_ns;
}

Result<void> remove_files_in(const std::string& dir, FileIo& io) {
  DIR* stream = opendir(dir.c_str());
  if (stream == nullptr) {
    if (errno == ENOENT) return {};
    return system_error("cannot read " + dir);
  }
  const std::unique_ptr<DIR, int (*)(DIR*)> closer(stream, closedir);
  while (const dirent* entry = readdir(stream)) {
    if (entry->d_name[0] == '.') continue;
    const std::string path = dir + "/" + entry->d_name;
    if (io.unlink(path.c_str()) != 0 && errno != ENOENT) {
      return system_error("cannot remove " + path);
    }
  }
  return {};
}

}  // namespace

Result<Digest> hash_descriptor(int fd, uint64_t size) {
  static thread_local std::unique_ptr<char[]> buffer(new char[kChunk]);
  XXH3_state_t state;
  XXH3_128bits_reset(&state);
  for (uint64_t done = 0; done < size;) {
    const size_t want = static_cast<size_t>(std::min<uint64_t>(kChunk, size - done));
    const ssize_t got = read_at(fd, buffer.get(), want, done);
    if (got < 0) return system_error("cannot read a file");
    if (static_cast<size_t>(got) < want) return shorter(size);
    if (done == 0 && want == size) return hash_bytes({buffer.get(), want});
    XXH3_128bits_update(&state, buffer.get(), want);
    done += want;
  }
  const XXH128_hash_t h = XXH3_128bits_digest(&state);
  return Digest{h.high64, h.low64};
}

FileBlobStore::FileBlobStore(std::string dir, FileIo& io, BlobNotes& notes, double min_free)
    : dir_(std::move(dir)), io_(io), notes_(notes), min_free_(min_free), stamps_(100000) {}

bool FileBlobStore::trusted(const std::optional<Stamp>& known, const Stamp& now) const {
  return known && same_blob(*known, now) && now.ctime_ns >= distrusted_ns_;
}

int64_t FileBlobStore::room() {
  struct statvfs fs {};
  if (statvfs(dir_.c_str(), &fs) != 0) return 0;
  const double unit = static_cast<double>(fs.f_frsize);
  const double all = static_cast<double>(fs.f_blocks) * unit;
  return static_cast<int64_t>(static_cast<double>(fs.f_bavail) * unit - all * min_free_);
}

Result<void> FileBlobStore::check_room(uint64_t size) {
  if (min_free_ <= 0 || room() >= static_cast<int64_t>(size)) return {};
  return make_error(ErrorKind::kNoSpace,
                    fmt::format("the disk of {} is nearly full, {:.0f} % of it are left free "
                                "(remedy: free some, or set PCACHE_MIN_FREE to fewer percent)",
                                dir_, min_free_ * 100));
}

Result<void> FileBlobStore::open_dirs() {
  for (const char* name : {"/blobs", "/tmp"}) {
    const std::string path = dir_ + name;
    if (io_.mkdir(path.c_str(), 0700) != 0 && errno != EEXIST) {
      return system_error("cannot create " + path);
    }
  }
  return remove_files_in(dir_ + "/tmp", io_);
}

std::string FileBlobStore::blob_path(const Digest& digest) const {
  const std::string hex = digest.hex();
  return fmt::format("{}/blobs/{}/{}", dir_, hex.substr(0, 2), hex);
}

std::string FileBlobStore::temporary_path() {
  const std::lock_guard lock(mutex_);
  return fmt::format("{}/tmp/{}-{}", dir_, getpid(), next_temporary_++);
}

std::optional<Stamp> FileBlobStore::noted(const Digest& digest) {
  {
    const std::lock_guard lock(mutex_);
    if (const Stamp* stamp = stamps_.find(digest)) return *stamp;
    if (const auto it = pending_.find(digest); it != pending_.end()) return it->second;
  }
  const std::optional<Stamp> stamp = notes_.load(digest);
  if (stamp) {
    const std::lock_guard lock(mutex_);
    if (stamps_.find(digest) == nullptr) stamps_.insert(digest, *stamp);
  }
  return stamp;
}

void FileBlobStore::note(const Digest& digest, const Stamp& stamp) {
  std::optional<Stamp> before = noted(digest);
  const std::lock_guard lock(mutex_);
  // Another thread may have put the same contents since.
  if (const Stamp* known = stamps_.find(digest)) before = *known;
  if (totals_) {
    totals_->count += before ? 0 : 1;
    totals_->bytes += stamp.size - (before ? before->size : 0);
  }
  stamps_.insert(digest, stamp);
  pending_[digest] = stamp;
}

void FileBlobStore::forget(const Digest& digest) {
  const std::optional<Stamp> before = noted(digest);
  const std::lock_guard lock(mutex_);
  if (totals_ && before) {
    --totals_->count;
    totals_->bytes -= before->size;
  }
  stamps_.erase(digest);
  pending_[digest] = std::nullopt;
}

FileBlobStore::Pending FileBlobStore::take_pending() {
  const std::lock_guard lock(mutex_);
  Pending out(pending_.begin(), pending_.end());
  pending_.clear();
  return out;
}

void FileBlobStore::put_back(Pending pending) {
  const std::lock_guard lock(mutex_);
  for (auto& [digest, stamp] : pending) pending_.try_emplace(digest, stamp);
}

void FileBlobStore::remove(const Digest& digest) {
  io_.unlink(blob_path(digest).c_str());
  forget(digest);
}

std::vector<std::pair<Digest, uint64_t>> FileBlobStore::files() {
  std::vector<std::pair<Digest, uint64_t>> found;
  std::error_code error;
  for (std::filesystem::recursive_directory_iterator it(dir_ + "/blobs", error), end;
       !error && it != end; it.increment(error)) {
    struct stat st {};
    const std::optional<Digest> digest = Digest::from_hex(it->path().filename().string());
    if (digest && lstat(it->path().c_str(), &st) == 0 && S_ISREG(st.st_mode))
      found.emplace_back(*digest, static_cast<uint64_t>(st.st_size));
  }
  return found;
}

BlobState FileBlobStore::verify(const Digest& digest) {
  const UniqueFd fd(::open(blob_path(digest).c_str(), O_RDONLY | O_NOFOLLOW | O_CLOEXEC));
  if (!fd) return errno == ENOENT ? BlobState::kGone : BlobState::kUnreadable;
  struct stat st {};
  if (fstat(fd.get(), &st) != 0) return BlobState::kUnreadable;
  const Result<Digest> found = hash_descriptor(fd.get(), static_cast<uint64_t>(st.st_size));
  if (!found) return BlobState::kUnreadable;
  if (*found == digest) return BlobState::kWhole;
  remove(digest);
  return BlobState::kDamaged;
}

void FileBlobStore::each(const std::function<void(const Digest&, const Stamp&)>& visit) {
  std::unordered_map<Digest, std::optional<Stamp>, DigestHash> pending;
  {
    const std::lock_guard lock(mutex_);
    pending = pending_;
  }
  notes_.each([&](const Digest& digest, const Stamp& stamp) {
    if (!pending.contains(digest)) visit(digest, stamp);
  });
  for (const auto& [digest, stamp] : pending) {
    if (stamp) visit(digest, *stamp);
  }
}

FileBlobStore::Totals FileBlobStore::totals() {
  {
    const std::lock_guard lock(mutex_);
    if (totals_) return *totals_;
  }
  Totals totals;
  each([&](const Digest&, const Stamp& stamp) {
    ++totals.count;
    totals.bytes += stamp.size;
  });
  const std::lock_guard lock(mutex_);
  totals_ = totals;
  return totals;
}

uint64_t FileBlobStore::total_bytes() { return totals().bytes; }

Result<void> FileBlobStore::write_all(int fd, const char* data, size_t size) {
  while (size > 0) {
    const ssize_t put = io_.write(fd, data, size);
    if (put < 0 && errno == EINTR) continue;
    if (put < 0) return system_error("cannot write a blob below " + dir_);
    data += put;
    size -= static_cast<size_t>(put);
  }
  return {};
}

Result<Digest> FileBlobStore::publish(const UniqueFd& fd, const std::string& temporary,
                                      const Digest& digest) {
  const std::string path = blob_path(digest);
  int result = io_.rename(temporary.c_str(), path.c_str());
  if (result != 0 && errno == ENOENT) {
    const std::string dir = path.substr(0, path.rfind('/'));
    if (io_.mkdir(dir.c_str(), 0700) != 0 && errno != EEXIST) {
      return system_error("cannot create " + dir);
    }
    result = io_.rename(temporary.c_str(), path.c_str());
  }
  if (result != 0) return system_error("cannot name the blob " + path);
  struct stat st;
  if (fstat(fd.get(), &st) != 0) return system_error("cannot stat the blob " + path);
  note(digest, Stamp::of(st));
  return digest;
}

Result<Digest> FileBlobStore::put_bytes(std::string_view bytes) {
  const Digest digest = hash_bytes(bytes);
  if (has(digest, bytes.size())) return digest;
  PCACHE_TRY(check_room(bytes.size()));
  const std::string temporary = temporary_path();
  const UniqueFd fd(io_.create(temporary.c_str(), 0400));
  if (!fd) return system_error("cannot create " + temporary);
  Result<Digest> result = digest;
  if (auto written = write_all(fd.get(), bytes.data(), bytes.size()); !written) {
    result = tl::make_unexpected(std::move(written).error());
  } else {
    result = publish(fd, temporary, digest);
  }
  if (!result) io_.unlink(temporary.c_str());
  return result;
}

Result<Digest> FileBlobStore::put_file(int fd, uint64_t size) {
  if (size > kWholeBytes || may_be_sparse(fd)) return copy_streaming(fd, size);
  const std::unique_ptr<char[]> buffer(new char[size + 1]);
  const ssize_t got = read_at(fd, buffer.get(), size, 0);
  if (got < 0) return system_error("cannot read a file");
  if (static_cast<uint64_t>(got) < size) return shorter(size);
  return put_bytes({buffer.get(), static_cast<size_t>(size)});
}

// The bytes that are hashed must be the bytes that are kept, so one pass does both, and a blob that
// turns out to be there already is dropped again.
Result<Digest> FileBlobStore::copy_streaming(int fd, uint64_t size) {
  const bool sparse = may_be_sparse(fd);
  PCACHE_TRY(check_room(size));
  const std::string temporary = temporary_path();
  const UniqueFd out(io_.create(temporary.c_str(), 0400));
  if (!out) return system_error("cannot create " + temporary);
  const auto copy = [&]() -> Result<Digest> {
    const std::unique_ptr<char[]> buffer(new char[kChunk]);
    XXH3_state_t state;
    XXH3_128bits_reset(&state);
    Extent data = sparse ? Extent{0, 0} : Extent{0, size};
    for (uint64_t done = 0; done < size;) {
      if (done == data.end) data = next_data(fd, done, size);
      const bool hole = done < data.begin;
      const uint64_t end = hole ? data.begin : data.end;
      const size_t want = static_cast<size_t>(std::min<uint64_t>(kChunk, end - done));
      const ssize_t got = read_at(fd, buffer.get(), want, done);
      if (got < 0) return system_error("cannot read a file");
      if (static_cast<size_t>(got) < want) return shorter(size);
      XXH3_128bits_update(&state, buffer.get(), want);
      if (!hole || !only_zeros(buffer.get(), want))
        PCACHE_TRY(write_all(out.get(), buffer.get(), want));
      else if (lseek(out.get(), static_cast<off_t>(want), SEEK_CUR) < 0)
        return system_error("cannot write a blob below " + dir_);
      done += want;
    }
    if (sparse && ftruncate(out.get(), static_cast<off_t>(size)) != 0)
      return system_error("cannot write a blob below " + dir_);
    const XXH128_hash_t h = XXH3_128bits_digest(&state);
    const Digest digest{h.high64, h.low64};
    if (has(digest, size)) {
      io_.unlink(temporary.c_str());
      return digest;
    }
    return publish(out, temporary, digest);
  };
  Result<Digest> result = copy();
  if (!result) io_.unlink(temporary.c_str());
  return result;
}

Result<UniqueFd> FileBlobStore::open(const Digest& digest, uint64_t size) {
  const std::string path = blob_path(digest);
  UniqueFd fd(::open(path.c_str(), O_RDONLY | O_NOFOLLOW | O_CLOEXEC));
  if (!fd) return system_error("cannot open the blob " + path);
  struct stat st;
  if (fstat(fd.get(), &st) != 0) return system_error("cannot stat the blob " + path);
  const Stamp stamp = Stamp::of(st);
  const std::optional<Stamp> known = noted(digest);
  if (trusted(known, stamp)) {
    if (stamp.size == size) return fd;
    return make_error(ErrorKind::kNotFound, "the blob " + path + " is of another size");
  }
  const Result<Digest> found = hash_descriptor(fd.get(), stamp.size);
  if (!found) return tl::make_unexpected(found.error());
  if (*found != digest || stamp.size != size) {
    io_.unlink(path.c_str());
    forget(digest);
    return make_error(ErrorKind::kNotFound, "the blob " + path + " was damaged; it is removed");
  }
  if (stamp.ctime_ns < distrusted_ns_ && futimens(fd.get(), nullptr) == 0) fstat(fd.get(), &st);
  note(digest, Stamp::of(st));
  return fd;
}

bool FileBlobStore::has(const Digest& digest, uint64_t size) {
  struct stat st;
  if (lstat(blob_path(digest).c_str(), &st) != 0) return false;
  const std::optional<Stamp> known = noted(digest);
  if (trusted(known, Stamp::of(st)) && known->size == size) return true;
  return open(digest, size).has_value();
}

Result<void> FileBlobStore::clear() {
  {
    const std::lock_guard lock(mutex_);
    stamps_.clear();
    pending_.clear();
    totals_ = Totals{};
  }
  const std::string blobs = dir_ + "/blobs";
  static constexpr char kDigits[] = "0123456789abcdef";
  for (int i = 0; i < 256; ++i) {
    PCACHE_TRY(remove_files_in(blobs + "/" + kDigits[i >> 4] + kDigits[i & 15], io_));
  }
  return {};
}

}  // namespace pcache::store
