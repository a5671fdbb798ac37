#include "store/path_ops.h"

#include <dirent.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <sys/syscall.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <cerrno>
#include <climits>
#include <cstdio>
#include <cstring>
#include <optional>
#include <string_view>
#include <unordered_map>
#include <utility>

#include "store/observer.h"

namespace pcache::store::path_ops {

namespace {

struct ProcPath {
  // xattr calls take no O_PATH descriptor; its name under /proc/self/fd leads to the very inode.
  explicit ProcPath(int fd) { snprintf(text, sizeof text, "/proc/self/fd/%d", fd); }
  char text[32];
};

char type_of_dirent(int dir, const dirent64& entry) {
  switch (entry.d_type) {
    case DT_REG:
      return 'f';
    case DT_DIR:
      return 'd';
    case DT_LNK:
      return 'l';
    case DT_FIFO:
      return 'p';
    case DT_SOCK:
      return 's';
    case DT_CHR:
      return 'c';
    case DT_BLK:
      return 'b';
    default: {
      struct stat st;
      if (fstatat(dir, entry.d_name, &st, AT_SYMLINK_NOFOLLOW) != 0) return 0;
      return entry_type(st.st_mode);
    }
  }
}

int open_at(Base base, const char* path, int flags, UniqueFd* fd) {
  struct open_how how {};
  how.flags = static_cast<uint64_t>(flags | O_CLOEXEC);
  how.resolve = RESOLVE_NO_SYMLINKS | (base.beneath ? RESOLVE_BENEATH : 0);
  for (;;) {
    const long got = syscall(SYS_openat2, base.fd, *path ? path : ".", &how, sizeof how);
    if (got >= 0) {
      fd->reset(static_cast<int>(got));
      return 0;
    }
    if (errno != EINTR && errno != EAGAIN) return errno;
  }
}

// The directories of a DirectoryScope, or the errno that opening them gave.
struct Directory {
  UniqueFd fd;
  int err = 0;
};

struct DirectoryKey {
  int base;
  std::string path;
};

struct DirectoryHash {
  using is_transparent = void;
  size_t operator()(const std::pair<int, std::string_view>& k) const {
    return std::hash<std::string_view>()(k.second) + static_cast<size_t>(k.first);
  }
  size_t operator()(const DirectoryKey& k) const {
    return (*this)(std::pair<int, std::string_view>(k.base, k.path));
  }
};

struct DirectoryEqual {
  using is_transparent = void;
  template <class A, class B>
  bool operator()(const A& a, const B& b) const {
    return view(a) == view(b);
  }
  static std::pair<int, std::string_view> view(const DirectoryKey& k) { return {k.base, k.path}; }
  static std::pair<int, std::string_view> view(const std::pair<int, std::string_view>& k) {
    return k;
  }
};

constexpr size_t kOpenDirectories = 256;
thread_local int scope_depth = 0;
thread_local std::optional<
    std::unordered_map<DirectoryKey, Directory, DirectoryHash, DirectoryEqual>>
    directories;

// Within a scope: makes the directory of `path` the base and the last component the path.
int start_at_directory(Base* base, const char** path) {
  if (scope_depth == 0) return 0;
  const char* slash = strrchr(*path, '/');
  if (slash == nullptr || slash == *path) return 0;
  const std::string_view text(*path, static_cast<size_t>(slash - *path));
  auto it = directories->find(std::pair<int, std::string_view>(base->fd, text));
  if (it == directories->end()) {
    if (directories->size() >= kOpenDirectories) directories->clear();
    std::string directory(text);
    Directory opened;
    opened.err = open_at(*base, directory.c_str(), O_PATH | O_DIRECTORY, &opened.fd);
    it =
        directories->emplace(DirectoryKey{base->fd, std::move(directory)}, std::move(opened)).first;
  }
  if (it->second.err != 0) return it->second.err;
  base->fd = it->second.fd.get();
  *path = slash + 1;
  return 0;
}

// Calls `get(buffer, size)` as getxattr and listxattr want it: until the buffer is large enough.
template <class Get>
int read_growing(std::string* out, Get get) {
  out->resize(256);
  for (;;) {
    const ssize_t got = get(out->data(), out->size());
    if (got >= 0) {
      out->resize(static_cast<size_t>(got));
      return 0;
    }
    if (errno != ERANGE || out->size() >= 1u << 20) {
      const int err = errno;
      out->clear();
      return err;
    }
    out->resize(out->size() * 8);
  }
}

}  // namespace

DirectoryScope::DirectoryScope() {
  if (scope_depth++ == 0) directories.emplace();
}

DirectoryScope::~DirectoryScope() {
  if (--scope_depth == 0) directories.reset();
}

int open(Base base, const char* path, int flags, UniqueFd* fd) {
  if (const int err = start_at_directory(&base, &path)) return err;
  return open_at(base, path, flags, fd);
}

int open_path(Base base, const char* path, UniqueFd* fd) {
  return open(base, path, O_PATH | O_NOFOLLOW, fd);
}

int stat(Base base, const char* path, struct stat* st) {
  if (const int err = start_at_directory(&base, &path)) return err;
  if (*path == '\0') return fstat(base.fd, st) == 0 ? 0 : errno;
  // A name directly below the base crosses no other name: one call instead of three.
  if (strchr(*path == '/' ? path + 1 : path, '/') == nullptr) {
    return fstatat(base.fd, path, st, AT_SYMLINK_NOFOLLOW) == 0 ? 0 : errno;
  }
  UniqueFd fd;
  if (const int err = open_at(base, path, O_PATH | O_NOFOLLOW, &fd)) return err;
  return fstat(fd.get(), st) == 0 ? 0 : errno;
}

int open_read(Base base, const char* path, UniqueFd* fd) {
  // O_NONBLOCK: a FIFO that took the file's place must not hold us.
  return open(base, path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY, fd);
}

int read_link(Base base, const char* path, std::string* target) {
  if (const int err = start_at_directory(&base, &path)) return err;
  char buffer[PATH_MAX];
  if (*path != '\0' && strchr(path, '/') == nullptr) {
    const ssize_t got = readlinkat(base.fd, path, buffer, sizeof buffer);
    if (got < 0) return errno;
    target->assign(buffer, static_cast<size_t>(got));
    return 0;
  }
  UniqueFd fd;
  if (const int err = open_at(base, path, O_PATH | O_NOFOLLOW, &fd)) return err;
  const ssize_t got = readlinkat(fd.get(), "", buffer, sizeof buffer);
  // With an empty path the kernel calls something that is no link ENOENT.
  if (got < 0) return errno == ENOENT ? EINVAL : errno;
  target->assign(buffer, static_cast<size_t>(got));
  return 0;
}

int list(Base base, const char* path, std::vector<DirEntry>* entries) {
  UniqueFd fd;
  if (const int err = open(base, path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW, &fd)) return err;
  entries->clear();
  alignas(dirent64) char buffer[32 * 1024];
  for (;;) {
    const long got = syscall(SYS_getdents64, fd.get(), buffer, sizeof buffer);
    if (got < 0) return errno;
    if (got == 0) return 0;
    for (long at = 0; at < got;) {
      const auto* entry = reinterpret_cast<const dirent64*>(buffer + at);
      at += entry->d_reclen;
      const char* name = entry->d_name;
      if (name[0] == '.' && (name[1] == '\0' || (name[1] == '.' && name[2] == '\0'))) continue;
      // Type 0: it vanished between getdents and stat, so that it was not there.
      if (const char type = type_of_dirent(fd.get(), *entry)) entries->push_back({type, name});
    }
  }
}

int get_xattr(Base base, const char* path, const std::string& name, std::string* value) {
  UniqueFd fd;
  if (const int err = open_path(base, path, &fd)) return err;
  const ProcPath proc(fd.get());
  return read_growing(value, [&](char* data, size_t size) {
    return getxattr(proc.text, name.c_str(), data, size);
  });
}

int list_xattr(Base base, const char* path, std::string* names) {
  UniqueFd fd;
  if (const int err = open_path(base, path, &fd)) return err;
  const ProcPath proc(fd.get());
  return read_growing(names,
                      [&](char* data, size_t size) { return listxattr(proc.text, data, size); });
}

int statfs(Base base, const char* path, struct statfs* buf) {
  UniqueFd fd;
  if (const int err = open_path(base, path, &fd)) return err;
  return fstatfs(fd.get(), buf) == 0 ? 0 : errno;
}

int access(Base base, const char* path, int bits) {
  if (const int err = start_at_directory(&base, &path)) return err;
  if (*path != '\0' && strchr(path, '/') == nullptr)
    return syscall(SYS_faccessat2, base.fd, path, bits, AT_SYMLINK_NOFOLLOW) == 0 ? 0 : errno;
  UniqueFd fd;
  if (const int err = open_at(base, path, O_PATH | O_NOFOLLOW, &fd)) return err;
  return bits == F_OK ? 0 : access(fd.get(), bits);
}

int access(int fd, int bits) {
  return syscall(SYS_faccessat2, fd, "", bits, AT_EMPTY_PATH) == 0 ? 0 : errno;
}

}  // namespace pcache::store::path_ops
