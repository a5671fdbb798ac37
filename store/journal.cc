#include "store/journal.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <climits>
#include <cstdio>
#include <memory>

#include "store/holes.h"

namespace pcache::store {

namespace {

constexpr size_t kOpenParents = 64;
constexpr uint64_t kSmallCopy = 128 * 1024;
constexpr uint64_t kMemoryCopy = 1u << 20;

struct ProcPath {
  explicit ProcPath(int fd) { snprintf(text, sizeof text, "/proc/self/fd/%d", fd); }
  char text[32];
};

int write_all(int fd, const char* data, size_t size) {
  while (size > 0) {
    const ssize_t put = write(fd, data, size);
    if (put < 0 && errno == EINTR) continue;
    if (put < 0) return errno;
    data += put;
    size -= static_cast<size_t>(put);
  }
  return 0;
}

int copy_through_memory(int from, int to, uint64_t done, uint64_t size) {
  const size_t chunk = static_cast<size_t>(std::min<uint64_t>(size - done, kSmallCopy));
  const std::unique_ptr<char[]> buffer(new char[chunk + 1]);
  while (done < size) {
    const size_t want = static_cast<size_t>(std::min<uint64_t>(chunk, size - done));
    const ssize_t got = pread(from, buffer.get(), want, static_cast<off_t>(done));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return errno;
    if (got == 0) return EIO;  // shorter than it was said to be
    if (const int err = write_all(to, buffer.get(), static_cast<size_t>(got))) return err;
    done += static_cast<uint64_t>(got);
  }
  return 0;
}

int copy_extent(int from, int to, uint64_t done, uint64_t size) {
  if (size - done > kSmallCopy) {
    off_t offset = static_cast<off_t>(done);
    while (done < size) {
      const ssize_t got = copy_file_range(from, &offset, to, nullptr, size - done, 0);
      if (got < 0 && errno == EINTR) continue;
      if (got < 0 && (errno == ENOSPC || errno == EDQUOT || errno == EFBIG)) return errno;
      if (got <= 0) break;  // other file systems, old kernels: the plain way
      done += static_cast<uint64_t>(got);
    }
  }
  return done == size ? 0 : copy_through_memory(from, to, done, size);
}

}  // namespace

int copy_bytes(int from, int to, uint64_t size) {
  if (!may_be_sparse(from)) return copy_extent(from, to, 0, size);
  for (uint64_t done = 0; done < size;) {
    const Extent data = next_data(from, done, size);
    const off_t reached = lseek(to, static_cast<off_t>(data.begin - done), SEEK_CUR);
    if (reached < 0) return errno;
    if (data.begin == size) return ftruncate(to, reached) == 0 ? 0 : errno;
    if (const int err = copy_extent(from, to, data.begin, data.end)) return err;
    done = data.end;
  }
  return 0;
}

int change_mode(int path_fd, mode_t mode) {
  return chmod(ProcPath(path_fd).text, mode) == 0 ? 0 : errno;
}

int set_xattr(int path_fd, const std::string& name, const std::string& value) {
  const ProcPath proc(path_fd);
  return setxattr(proc.text, name.c_str(), value.data(), value.size(), 0) == 0 ? 0 : errno;
}

int remove_xattr(int path_fd, const std::string& name) {
  if (removexattr(ProcPath(path_fd).text, name.c_str()) == 0 || errno == ENODATA) return 0;
  return errno;
}

int read_xattrs(int path_fd, Xattrs* xattrs) {
  const ProcPath proc(path_fd);
  std::string names(64 * 1024, '\0');
  const ssize_t size = listxattr(proc.text, names.data(), names.size());
  if (size < 0) return errno == ENOTSUP ? 0 : errno;
  for (const char* name = names.data(); name < names.data() + size; name += strlen(name) + 1) {
    std::string value(64 * 1024, '\0');
    const ssize_t got = getxattr(proc.text, name, value.data(), value.size());
    if (got < 0) return errno;
    value.resize(static_cast<size_t>(got));
    xattrs->emplace_back(name, std::move(value));
  }
  return 0;
}

// --- Parents ---

int Parents::get(const TreePath& path, int* fd, std::string* name) {
  std::string directory = path.parent().text;
  // "" is both the root of the tree and what is directly below it.
  if (path.text.empty()) return EBUSY;
  if (const auto it = open_.find(directory); it != open_.end()) {
    *fd = it->second.get();
    *name = path.name();
    return 0;
  }
  UniqueFd opened;
  if (const int err = observer_.open_parent(path, &opened, name)) return err;
  if (open_.size() >= kOpenParents) open_.clear();
  *fd = opened.get();
  open_.emplace(std::move(directory), std::move(opened));
  return 0;
}

void Parents::forget(const TreePath& directory) {
  std::erase_if(open_, [&](const auto& entry) {
    const TreePath path{entry.first};
    return path == directory || path.is_below(directory);
  });
}

// --- what is to be taken back ---

int Journal::before_unlink(const TreePath& path, int parent, const std::string& name,
                           const struct stat& st) {
  Entry entry{Kind::kUnlinked, path, st};
  if (S_ISREG(st.st_mode)) {
    entry.held.reset(openat(parent, name.c_str(), O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC));
    if (!entry.held) return errno;
  } else if (S_ISLNK(st.st_mode)) {
    char target[PATH_MAX];
    const ssize_t got = readlinkat(parent, name.c_str(), target, sizeof target);
    if (got < 0) return errno;
    entry.text.assign(target, static_cast<size_t>(got));
  } else if (!S_ISFIFO(st.st_mode)) {
    return S_ISDIR(st.st_mode) ? EISDIR : EPERM;  // a socket or device could not be made again
  }
  entries_.push_back(std::move(entry));
  return 0;
}

void Journal::before_rmdir(const TreePath& path, const struct stat& st) {
  entries_.push_back({Kind::kRemovedDir, path, st});
}

int Journal::before_truncate(const TreePath& path, int parent, int fd, const struct stat& st) {
  Entry entry{Kind::kTruncated, path, st};
  const uint64_t size = static_cast<uint64_t>(st.st_size);
  // On the file's own file system the copy may cost nothing.
  if (size > kMemoryCopy)
    entry.held.reset(openat(parent, ".", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600));
  if (!entry.held) entry.held.reset(memfd_create("pcache-undo", MFD_CLOEXEC));
  entry.target.reset(fcntl(fd, F_DUPFD_CLOEXEC, 0));
  if (!entry.held || !entry.target) return errno;
  if (const int err = copy_bytes(fd, entry.held.get(), size)) return err;
  entries_.push_back(std::move(entry));
  return 0;
}

int Journal::before_meta(const TreePath& path, int path_fd, const struct stat& st,
                         bool with_xattrs) {
  Entry entry{Kind::kMeta, path, st};
  entry.held.reset(fcntl(path_fd, F_DUPFD_CLOEXEC, 0));
  if (!entry.held) return errno;
  entry.with_xattrs = with_xattrs;
  if (with_xattrs) {
    if (const int err = read_xattrs(path_fd, &entry.xattrs)) return err;
  }
  entries_.push_back(std::move(entry));
  return 0;
}

void Journal::before_drop(const TreePath& path, const Digest& digest, const struct stat& st) {
  Entry entry{Kind::kDropped, path, st};
  entry.digest = digest;
  entries_.push_back(std::move(entry));
}

void Journal::created(const TreePath& path, bool directory) {
  entries_.push_back({directory ? Kind::kCreatedDir : Kind::kCreated, path});
}

void Journal::served(const TreePath& path) { entries_.push_back({Kind::kServed, path}); }

// --- taking back ---

void Journal::undo() {
  for (auto it = entries_.rbegin(); it != entries_.rend(); ++it) undo_one(*it);
  entries_.clear();
}

void Journal::undo_one(Entry& entry) {
  if (entry.kind == Kind::kTruncated) return restore_truncated(entry);
  if (entry.kind == Kind::kMeta) return restore_meta(entry);
  if (entry.kind == Kind::kDropped) return restore_dropped(entry);
  if (entry.kind == Kind::kServed && observer_.tree().drop_served(entry.path.text)) return;
  int parent;
  std::string name;
  if (parents_.get(entry.path, &parent, &name) != 0) return;
  switch (entry.kind) {
    case Kind::kUnlinked:
      restore_unlinked(entry, parent, name);
      break;
    case Kind::kRemovedDir: {
      if (mkdirat(parent, name.c_str(), 0700) != 0) break;
      const UniqueFd fd(openat(parent, name.c_str(), O_PATH | O_NOFOLLOW | O_CLOEXEC));
      (void)fchownat(parent, name.c_str(), entry.st.st_uid, entry.st.st_gid, AT_SYMLINK_NOFOLLOW);
      (void)change_mode(fd.get(), entry.st.st_mode & 07777);
      break;
    }
    case Kind::kCreated:
    case Kind::kServed:  // the worker was faster: it is an ordinary file by now
      (void)unlinkat(parent, name.c_str(), 0);
      break;
    case Kind::kCreatedDir:
      parents_.forget(entry.path);
      (void)unlinkat(parent, name.c_str(), AT_REMOVEDIR);
      break;
    default:
      break;
  }
}

void Journal::restore_unlinked(const Entry& entry, int parent, const std::string& name) {
  const struct stat& st = entry.st;
  const struct timespec times[2] = {st.st_atim, st.st_mtim};
  if (S_ISLNK(st.st_mode)) {
    if (symlinkat(entry.text.c_str(), parent, name.c_str()) != 0) return;
  } else if (S_ISFIFO(st.st_mode)) {
    if (mknodat(parent, name.c_str(), S_IFIFO | (st.st_mode & 07777), 0) != 0) return;
  } else {
    struct stat now;
    if (fstat(entry.held.get(), &now) == 0 && now.st_nlink > 0 &&
        linkat(AT_FDCWD, ProcPath(entry.held.get()).text, parent, name.c_str(),
               AT_SYMLINK_FOLLOW) == 0) {
      return;
    }
    const UniqueFd fd(
        openat(parent, name.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600));
    if (!fd) return;
    if (copy_bytes(entry.held.get(), fd.get(), static_cast<uint64_t>(st.st_size)) != 0) {
      (void)unlinkat(parent, name.c_str(), 0);  // absent is honest, half a file is not
      return;
    }
    (void)fchown(fd.get(), st.st_uid, st.st_gid);
    (void)fchmod(fd.get(), st.st_mode & 07777);
    Xattrs xattrs;
    (void)read_xattrs(entry.held.get(), &xattrs);
    for (const auto& [key, value] : xattrs) (void)set_xattr(fd.get(), key, value);
    (void)futimens(fd.get(), times);
    return;
  }
  (void)fchownat(parent, name.c_str(), st.st_uid, st.st_gid, AT_SYMLINK_NOFOLLOW);
  (void)utimensat(parent, name.c_str(), times, AT_SYMLINK_NOFOLLOW);
}

void Journal::restore_truncated(const Entry& entry) {
  const int fd = entry.target.get();
  if (ftruncate(fd, 0) != 0 || lseek(fd, 0, SEEK_SET) != 0) return;
  (void)copy_bytes(entry.held.get(), fd, static_cast<uint64_t>(entry.st.st_size));
  (void)fchown(fd, entry.st.st_uid, entry.st.st_gid);
  (void)fchmod(fd, entry.st.st_mode & 07777);
  const struct timespec times[2] = {entry.st.st_atim, entry.st.st_mtim};
  (void)futimens(fd, times);
}

void Journal::restore_meta(const Entry& entry) {
  const int fd = entry.held.get();
  if (entry.with_xattrs) {
    Xattrs now;
    (void)read_xattrs(fd, &now);
    for (const auto& [name, value] : now) (void)remove_xattr(fd, name);
    for (const auto& [name, value] : entry.xattrs) (void)set_xattr(fd, name, value);
  }
  (void)fchownat(fd, "", entry.st.st_uid, entry.st.st_gid, AT_EMPTY_PATH);
  if (!S_ISLNK(entry.st.st_mode)) (void)change_mode(fd, entry.st.st_mode & 07777);
  const struct timespec times[2] = {entry.st.st_atim, entry.st.st_mtim};
  (void)utimensat(AT_FDCWD, ProcPath(fd).text, times, 0);
}

void Journal::restore_dropped(const Entry& entry) {
  Tree& tree = observer_.tree();
  const uint64_t size = static_cast<uint64_t>(entry.st.st_size);
  Result<UniqueFd> blob = observer_.store().blobs().open(entry.digest, size);
  if (!blob) return;
  if (tree.serve(entry.path.text, entry.digest, std::move(*blob), size, entry.st.st_mode & 07777) !=
          0 ||
      tree.publish(entry.path.text) != 0) {
    return;
  }
  int parent;
  std::string name;
  if (parents_.get(entry.path, &parent, &name) != 0) return;
  const struct timespec times[2] = {entry.st.st_atim, entry.st.st_mtim};
  (void)utimensat(parent, name.c_str(), times, AT_SYMLINK_NOFOLLOW);
}

}  // namespace pcache::store
