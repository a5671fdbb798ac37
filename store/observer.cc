#include "store/observer.h"

#include <fcntl.h>
#include <sys/syscall.h>

#include <algorithm>
#include <cerrno>

#include "store/path_ops.h"
#include "store/pseudo_file.h"

namespace pcache::store {

namespace {

constexpr path_ops::Base kOutside{AT_FDCWD, false};
constexpr uint32_t kPermissions = 07777;

int64_t nanoseconds(const struct timespec& t) {
  return static_cast<int64_t>(t.tv_sec) * 1000000000 + t.tv_nsec;
}

FactValue failed(int err) {
  FactValue value;
  value.err = err;
  return value;
}

// What access(2) says of a file that only the mount has, whose mode is all there is to ask.
int access_by_mode(const struct stat& st, int bits) {
  if (getuid() == 0) return (bits & X_OK) && (st.st_mode & 0111) == 0 ? EACCES : 0;
  const int shift = st.st_uid == getuid() ? 6 : st.st_gid == getgid() ? 3 : 0;
  return (static_cast<int>(st.st_mode >> shift) & bits & 7) == bits ? 0 : EACCES;
}

int access_in_tree(const Tree& tree, const TreePath& path, int bits) {
  struct stat st;
  if (const int err = tree.stat(path.text, &st)) return err;
  if (bits == F_OK) return 0;
  if (path.text.empty()) return path_ops::access(tree.lower_fd(), bits);
  UniqueFd parent;
  std::string name;
  if (const int err = tree.open_parent(path.text, &parent, &name)) return err;
  if (syscall(SYS_faccessat2, parent.get(), name.c_str(), bits, AT_SYMLINK_NOFOLLOW) == 0) return 0;
  return errno == ENOENT ? access_by_mode(st, bits) : errno;
}

int access_outside(const TreePath& path, int bits) {
  return path_ops::access(kOutside, path.text.c_str(), bits);
}

bool surely_readable(const struct stat& st) {
  return (st.st_mode & 0444) == 0444 || geteuid() == 0 ||
         (st.st_uid == geteuid() && (st.st_mode & 0400));
}

}  // namespace

char entry_type(mode_t mode) {
  switch (mode & S_IFMT) {
    case S_IFDIR:
      return 'd';
    case S_IFLNK:
      return 'l';
    case S_IFIFO:
      return 'p';
    case S_IFSOCK:
      return 's';
    case S_IFCHR:
      return 'c';
    case S_IFBLK:
      return 'b';
    default:
      return 'f';
  }
}

int Observer::stat(const TreePath& path, struct stat* st) const {
  if (path.in_root()) return tree_.stat(path.text, st);
  return path_ops::stat(kOutside, path.text.c_str(), st);
}

int Observer::open_read(const TreePath& path, UniqueFd* fd) const {
  if (path.in_root()) return tree_.open_read(path.text, fd);
  return path_ops::open_read(kOutside, path.text.c_str(), fd);
}

int Observer::read_link(const TreePath& path, std::string* target) const {
  if (path.in_root()) return tree_.read_link(path.text, target);
  return path_ops::read_link(kOutside, path.text.c_str(), target);
}

int Observer::list(const TreePath& path, std::vector<DirEntry>* entries) const {
  if (path.in_root()) return tree_.list(path.text, entries);
  return path_ops::list(kOutside, path.text.c_str(), entries);
}

int Observer::open_parent(const TreePath& path, UniqueFd* parent, std::string* name) const {
  if (path.in_root()) return tree_.open_parent(path.text, parent, name);
  if (path.text == "/") return EBUSY;
  *name = path.name();
  return path_ops::open(kOutside, path.parent().text.c_str(), O_PATH | O_DIRECTORY, parent);
}

int Observer::content_hash(const TreePath& path, const struct stat& st, Digest* digest) const {
  if (path.in_root()) {
    if (const std::optional<Digest> served = tree_.served_digest(path.text)) {
      *digest = *served;
      return 0;
    }
  }
  const bool pseudo = is_pseudo_file(path.text);
  // A file whose hash is known must be one that its reader could have opened.
  if (!pseudo && surely_readable(st)) {
    if (const std::optional<Digest> known = store_.memo(Stamp::of(st))) {
      *digest = *known;
      return 0;
    }
  }
  UniqueFd fd;
  if (const int err = open_read(path, &fd)) return err;
  if (pseudo) return hash_pseudo_file(path.text, fd.get(), digest);
  const Result<Digest> hashed = store_.hash_file(fd.get(), st);
  if (hashed) {
    *digest = *hashed;
    return 0;
  }
  if (hashed.error().kind == ErrorKind::kBusy) return EBUSY;
  return hashed.error().sys_errno != 0 ? hashed.error().sys_errno : EIO;
}

FactValue Observer::identity_value(const struct stat& st, uint32_t param) {
  FactValue value;
  value.mode = st.st_mode & (S_IFMT | kPermissions);
  value.uid = st.st_uid;
  value.gid = st.st_gid;
  if (S_ISREG(st.st_mode)) {
    value.nlink = st.st_nlink;
    if (!(param & kOwnContents)) value.size = static_cast<uint64_t>(st.st_size);
    if ((param & kWithMtime) && !(param & kOwnContents)) value.mtime_ns = nanoseconds(st.st_mtim);
    // cp, tar and test -ef see that two names are one file: then, and only then, which one it is.
    if (st.st_nlink > 1) value.text = std::to_string(st.st_dev) + ":" + std::to_string(st.st_ino);
  } else if (S_ISLNK(st.st_mode) || S_ISFIFO(st.st_mode) || S_ISSOCK(st.st_mode)) {
    value.size = static_cast<uint64_t>(st.st_size);
    if (param & kWithMtime) value.mtime_ns = nanoseconds(st.st_mtim);
    if (S_ISLNK(st.st_mode) && st.st_nlink > 1)
      value.text = std::to_string(st.st_dev) + ":" + std::to_string(st.st_ino);
  } else if (S_ISDIR(st.st_mode)) {
    if (param & kWithDirMtime) value.mtime_ns = nanoseconds(st.st_mtim);
  } else if (S_ISCHR(st.st_mode) || S_ISBLK(st.st_mode)) {
    value.size = st.st_rdev;
  }
  return value;
}

FactValue Observer::kind_value(const struct stat& st) {
  FactValue value;
  value.mode = st.st_mode & (S_IFMT | kPermissions);
  return value;
}

FactValue Observer::content_value(const struct stat& st, const Digest& hash) {
  FactValue value;
  value.mode = st.st_mode & S_IFMT;
  if (S_ISREG(st.st_mode)) {
    value.mode = st.st_mode & (S_IFMT | kPermissions);
    value.uid = st.st_uid;
    value.gid = st.st_gid;
    value.hash = hash;
  } else if (S_ISLNK(st.st_mode)) {
    value.hash = hash;  // of the target's text
  } else if (!S_ISDIR(st.st_mode)) {
    value.size = st.st_rdev;
  }
  return value;
}

bool is_importable(const DirEntry& entry) {
  static constexpr std::string_view kSuffixes[] = {".py",  ".pyc", ".so",        ".pth",
                                                   ".egg", ".zip", ".dist-info", ".egg-info"};
  for (const std::string_view suffix : kSuffixes)
    if (entry.name.ends_with(suffix)) return true;
  // A package: a directory, or a link that may lead to one.
  return (entry.type == 'd' || entry.type == 'l') &&
         entry.name.find_first_of(".- ") == std::string::npos;
}

FactValue Observer::listing_value(const std::vector<DirEntry>& entries,
                                  const std::vector<std::string>& left_out, uint32_t param) {
  FactValue value;
  value.entries.reserve(entries.size());
  for (const DirEntry& entry : entries) {
    if (std::binary_search(left_out.begin(), left_out.end(), entry.name)) continue;
    if ((param & kImportable) != 0 && !is_importable(entry)) continue;
    std::string& text = value.entries.emplace_back();
    text.reserve(entry.name.size() + 1);
    text += entry.type;
    text += entry.name;
  }
  std::sort(value.entries.begin(), value.entries.end());
  return value;
}

FactValue Observer::replaced_value(const FactKey& key, int stat_errno, const struct stat& st,
                                   const Digest& /*weak*/) const {
  FactValue value;
  const bool blind = key.param & kReplacedBlind;
  if (stat_errno != 0) {
    if (stat_errno != ENOENT || !blind) return failed(stat_errno);
    value.text = "replaceable";
    return value;
  }
  if (blind && (key.param & kReplacedUnlinked)) {
    if (S_ISREG(st.st_mode) || S_ISLNK(st.st_mode)) value.text = "replaceable";
  } else if (blind && S_ISREG(st.st_mode) && st.st_nlink == 1 && st.st_uid == geteuid() &&
             st.st_gid == getegid() && (st.st_mode & kPermissions) == (key.param & kPermissions)) {
    std::string names;
    const int err = key.path.in_root()
                        ? tree_.list_xattr(key.path.text, &names)
                        : path_ops::list_xattr(kOutside, key.path.text.c_str(), &names);
    if (names.empty() && (err == 0 || err == ENOTSUP)) value.text = "replaceable";
  }
  if (!value.text.empty()) return value;
  if (const auto own = store_.own(Digest{}, tree_.root(), key.path.text); own == Stamp::of(st)) {
    value.text = "own";
    value.mode = st.st_mode & kPermissions;
    return value;
  }
  value = identity_value(st, kWithMtime);
  value.text.clear();  // "replaceable" and "own" stand there
  return value;
}

FactValue Observer::observe(const FactKey& key, const Digest& weak) const {
  const bool in_root = key.path.in_root();
  FactValue value;
  struct stat st {};
  switch (key.kind) {
    case FactKind::kContent: {
      if (const int err = stat(key.path, &st)) return failed(err);
      Digest hash;
      if (S_ISREG(st.st_mode)) {
        if (const int err = content_hash(key.path, st, &hash)) return failed(err);
      } else if (S_ISLNK(st.st_mode)) {
        std::string target;
        if (const int err = read_link(key.path, &target)) return failed(err);
        hash = hash_bytes(target);
      }
      return content_value(st, hash);
    }
    case FactKind::kIdentity:
      if (const int err = stat(key.path, &st)) return failed(err);
      return identity_value(st, key.param);
    case FactKind::kKind:
      if (const int err = stat(key.path, &st)) return failed(err);
      return kind_value(st);
    case FactKind::kAccess: {
      const int bits = static_cast<int>(key.param & (R_OK | W_OK | X_OK));
      // A path that was followed is no link: one that has become a link is another thing.
      if (stat(key.path, &st) == 0 && S_ISLNK(st.st_mode)) value.mode = S_IFLNK;
      value.err = in_root ? access_in_tree(tree_, key.path, bits) : access_outside(key.path, bits);
      return value;
    }
    case FactKind::kLink:
      value.err = read_link(key.path, &value.text);
      return value;
    case FactKind::kListing: {
      std::vector<DirEntry> entries;
      if (const int err = list(key.path, &entries)) return failed(err);
      return listing_value(entries, key.names, key.param);
    }
    case FactKind::kReplaced: {
      const int err = stat(key.path, &st);
      return replaced_value(key, err, st, weak);
    }
    case FactKind::kXattr: {
      const std::string name = key.names.empty() ? std::string() : key.names[0];
      const char* path = key.path.text.c_str();
      std::string text;
      // A path that was followed is no link, as with kAccess.
      if (stat(key.path, &st) == 0 && S_ISLNK(st.st_mode)) value.mode = S_IFLNK;
      if (name.empty()) {
        value.err = in_root ? tree_.list_xattr(key.path.text, &text)
                            : path_ops::list_xattr(kOutside, path, &text);
      } else {
        value.err = in_root ? tree_.get_xattr(key.path.text, name, &text)
                            : path_ops::get_xattr(kOutside, path, name, &text);
      }
      if (value.err == 0) value.hash = hash_bytes(text);
      return value;
    }
    case FactKind::kStatfs: {
      struct statfs fs {};
      if (stat(key.path, &st) == 0 && S_ISLNK(st.st_mode)) value.mode = S_IFLNK;
      value.err = in_root ? tree_.statfs(key.path.text, &fs)
                          : path_ops::statfs(kOutside, key.path.text.c_str(), &fs);
      if (value.err == 0) value.size = static_cast<uint64_t>(fs.f_type);
      return value;
    }
    case FactKind::kTerminal:
    case FactKind::kStdin:
    case FactKind::kAffinity:
    case FactKind::kEnvironment:
    case FactKind::kStream:
      return failed(ENOSYS);
  }
  return failed(ENOSYS);
}

}  // namespace pcache::store
