#include "store/replay.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <set>

#include "store/journal.h"

namespace pcache::store {

namespace {

// Blobs are opened before anything is changed, but not so many that descriptors run out: of the
// others it is checked that they are there.
constexpr size_t kBlobsOpen = 256;
// A name that only the mount has costs more than writing this much.
constexpr uint64_t kNeverServed = 16 * 1024;
constexpr mode_t kPermissions = 07777;

struct timespec to_timespec(const std::optional<int64_t>& ns) {
  if (!ns) return {0, UTIME_OMIT};
  int64_t seconds = *ns / 1000000000, rest = *ns % 1000000000;
  if (rest < 0) {
    --seconds;
    rest += 1000000000;
  }
  return {seconds, rest};
}

bool has_explicit_meta(const Effect& e) {
  return e.uid || e.gid || e.atime_ns || e.mtime_ns || !e.xattrs.empty();
}

class Replay {
 public:
  Replay(const Record& record, const Observer& observer)
      : record_(record),
        observer_(observer),
        tree_(observer.tree()),
        parents_(observer),
        journal_(observer, parents_) {}

  Result<ReplayResult> run() {
    PCACHE_TRY(open_blobs());
    const Result<void> applied = apply_all();
    if (!applied) journal_.undo();
    for (const std::string& rel : changed_) tree_.invalidate(rel);
    if (!applied) return tl::make_unexpected(applied.error());
    collect();
    return std::move(result_);
  }

 private:
  Result<void> open_blobs();
  Result<void> apply_all();
  void collect();

  int apply(size_t index);
  int apply_file(size_t index);
  int rewrite_in_place(size_t index, int parent, const std::string& name, bool* absent);
  int serve(size_t index, bool* served);
  int create_file(size_t index);
  int remove(const Effect& e);
  int remove_dir(const Effect& e);
  int make_dir(const Effect& e);
  int make_link(const Effect& e);
  int hard_link(const Effect& e);
  int make_fifo(const Effect& e);
  int touch(const Effect& e);
  int meta(const Effect& e);
  int set_times(const Effect& e);
  int finish_directory(const Effect& e);

  int blob_of(size_t index, UniqueFd* fd);
  int fill(size_t index, int fd);
  int set_attributes(int path_fd, const Effect& e, const struct stat& st, bool with_mode);
  // Makes the name free: forgets a served file, unlinks another (journaled).
  int make_free(const TreePath& path);
  int drop_served(const TreePath& path);
  int open_path(const TreePath& path, UniqueFd* fd);
  void changed(const TreePath& path) {
    if (path.in_root()) changed_.insert(path.text);
  }

  const Record& record_;
  const Observer& observer_;
  Tree& tree_;
  Parents parents_;
  Journal journal_;
  std::vector<UniqueFd> blobs_;  // one for each effect; invalid: opened when it is needed
  std::set<std::string> changed_;
  ReplayResult result_;
};

Result<void> Replay::open_blobs() {
  blobs_.resize(record_.effects.size());
  BlobStore& blobs = observer_.store().blobs();
  size_t open = 0;
  for (size_t i = 0; i < record_.effects.size(); ++i) {
    const Effect& e = record_.effects[i];
    if (e.kind != EffectKind::kFile || e.size == 0) continue;
    if (open++ < kBlobsOpen) {
      PCACHE_ASSIGN(blobs_[i], blobs.open(e.blob, e.size));
    } else if (!blobs.has(e.blob, e.size)) {
      return make_error(ErrorKind::kNotFound, "the blob of " + e.path.text + " is lost");
    }
  }
  if (record_.stream_blob.empty()) return {};
  uint64_t size = 0;
  for (const StreamSegment& segment : record_.streams) size += segment.size;
  if (blobs.has(record_.stream_blob, size)) return {};
  return make_error(ErrorKind::kNotFound, "the blob of the output streams is lost");
}

Result<void> Replay::apply_all() {
  const auto error = [](const Effect& e, int err) {
    return system_error("cannot bring back " + e.path.text, err);
  };
  const std::vector<Effect>& effects = record_.effects;
  for (size_t i = 0; i < effects.size(); ++i) {
    if (const int err = apply(i)) return error(effects[i], err);
  }
  const auto is_directory = [](const Effect& e, const Observer& observer) {
    struct stat st;
    return e.kind == EffectKind::kMakeDir ||
           (observer.stat(e.path, &st) == 0 && S_ISDIR(st.st_mode));
  };
  // Times last: everything before may change them; a directory's after those of what it holds. Then
  // the modes of directories, which may forbid going into them.
  std::vector<const Effect*> directories;
  for (const Effect& e : effects) {
    if (e.kind == EffectKind::kOffset) continue;
    if (e.kind == EffectKind::kMakeDir || e.kind == EffectKind::kMeta || e.atime_ns || e.mtime_ns) {
      if (is_directory(e, observer_)) {
        directories.push_back(&e);
      } else if (const int err = set_times(e)) {
        return error(e, err);
      }
    }
  }
  std::stable_sort(directories.begin(), directories.end(), [](const Effect* a, const Effect* b) {
    return a->path.text > b->path.text;  // what is below comes first; of one path, recorded order
  });
  for (const Effect* e : directories) {
    if (const int err = set_times(*e)) return error(*e, err);
  }
  for (const Effect* e : directories) {
    if (const int err = finish_directory(*e)) return error(*e, err);
  }
  return {};
}

void Replay::collect() {
  for (const Effect& e : record_.effects) {
    if (e.kind == EffectKind::kOffset) continue;
    Applied applied;
    applied.path = e.path;
    applied.present = observer_.stat(e.path, &applied.st) == 0;
    result_.applied.push_back(std::move(applied));
  }
}

int Replay::apply(size_t index) {
  const Effect& e = record_.effects[index];
  if (e.kind == EffectKind::kOffset) return 0;
  changed(e.path);
  switch (e.kind) {
    case EffectKind::kFile:
      return apply_file(index);
    case EffectKind::kRemove:
      return remove(e);
    case EffectKind::kRemoveDir:
      return remove_dir(e);
    case EffectKind::kMakeDir:
      return make_dir(e);
    case EffectKind::kSymlink:
      return make_link(e);
    case EffectKind::kHardLink:
      return hard_link(e);
    case EffectKind::kMeta:
      return meta(e);
    case EffectKind::kTouch:
      return touch(e);
    case EffectKind::kFifo:
      return make_fifo(e);
    case EffectKind::kOffset:
      return 0;
  }
  return EINVAL;
}

// --- names ---

int Replay::open_path(const TreePath& path, UniqueFd* fd) {
  if (path.text.empty()) {
    fd->reset(openat(tree_.lower_fd(), ".", O_PATH | O_CLOEXEC));
    return *fd ? 0 : errno;
  }
  int parent;
  std::string name;
  if (const int err = parents_.get(path, &parent, &name)) return err;
  fd->reset(openat(parent, name.c_str(), O_PATH | O_NOFOLLOW | O_CLOEXEC));
  return *fd ? 0 : errno;
}

int Replay::drop_served(const TreePath& path) {
  if (!path.in_root()) return 0;
  const std::optional<Digest> digest = tree_.served_digest(path.text);
  if (!digest) return 0;
  struct stat st;
  if (const int err = tree_.stat(path.text, &st)) return err;
  if (tree_.drop_served(path.text)) journal_.before_drop(path, *digest, st);
  return 0;
}

int Replay::make_free(const TreePath& path) {
  if (const int err = drop_served(path)) return err;
  int parent;
  std::string name;
  if (const int err = parents_.get(path, &parent, &name)) return err;
  struct stat st;
  if (fstatat(parent, name.c_str(), &st, AT_SYMLINK_NOFOLLOW) != 0) {
    return errno == ENOENT ? 0 : errno;
  }
  if (const int err = journal_.before_unlink(path, parent, name, st)) return err;
  return unlinkat(parent, name.c_str(), 0) == 0 ? 0 : errno;
}

int Replay::remove(const Effect& e) {
  return make_free(e.path);  // what is gone already is as it should be
}

int Replay::remove_dir(const Effect& e) {
  int parent;
  std::string name;
  if (const int err = parents_.get(e.path, &parent, &name)) return err;
  struct stat st;
  if (fstatat(parent, name.c_str(), &st, AT_SYMLINK_NOFOLLOW) != 0) return errno;
  if (unlinkat(parent, name.c_str(), AT_REMOVEDIR) != 0) return errno;
  journal_.before_rmdir(e.path, st);
  parents_.forget(e.path);
  return 0;
}

int Replay::make_dir(const Effect& e) {
  int parent;
  std::string name;
  if (const int err = parents_.get(e.path, &parent, &name)) return err;
  // Ours to write into until finish_directory().
  if (mkdirat(parent, name.c_str(), (e.mode & 0777) | 0700) != 0) return errno;
  journal_.created(e.path, true);
  return 0;
}

int Replay::make_link(const Effect& e) {
  if (const int err = make_free(e.path)) return err;
  int parent;
  std::string name;
  if (const int err = parents_.get(e.path, &parent, &name)) return err;
  if (symlinkat(e.text.c_str(), parent, name.c_str()) != 0) return errno;
  journal_.created(e.path, false);
  if (!e.uid && !e.gid) return 0;
  const uid_t uid = e.uid.value_or(static_cast<uid_t>(-1));
  const gid_t gid = e.gid.value_or(static_cast<gid_t>(-1));
  return fchownat(parent, name.c_str(), uid, gid, AT_SYMLINK_NOFOLLOW) == 0 ? 0 : errno;
}

int Replay::hard_link(const Effect& e) {
  const TreePath source{e.text};
  if (source.in_root()) {
    if (const int err = tree_.publish(source.text)) return err;
  }
  changed(source);
  if (const int err = make_free(e.path)) return err;
  UniqueFd from;
  std::string from_name;
  if (const int err = observer_.open_parent(source, &from, &from_name)) return err;
  int parent;
  std::string name;
  if (const int err = parents_.get(e.path, &parent, &name)) return err;
  if (linkat(from.get(), from_name.c_str(), parent, name.c_str(), 0) != 0) return errno;
  journal_.created(e.path, false);
  return 0;
}

int Replay::make_fifo(const Effect& e) {
  if (const int err = make_free(e.path)) return err;
  int parent;
  std::string name;
  if (const int err = parents_.get(e.path, &parent, &name)) return err;
  if (mknodat(parent, name.c_str(), S_IFIFO | (e.mode & 0777), 0) != 0) return errno;
  journal_.created(e.path, false);
  UniqueFd fd;
  if (const int err = open_path(e.path, &fd)) return err;
  struct stat st;
  if (fstat(fd.get(), &st) != 0) return errno;
  return set_attributes(fd.get(), e, st, true);
}

// --- contents ---

int Replay::blob_of(size_t index, UniqueFd* fd) {
  if (blobs_[index]) {
    *fd = std::move(blobs_[index]);
    return 0;
  }
  const Effect& e = record_.effects[index];
  Result<UniqueFd> blob = observer_.store().blobs().open(e.blob, e.size);
  if (!blob) return blob.error().sys_errno != 0 ? blob.error().sys_errno : ENOENT;
  *fd = std::move(*blob);
  return 0;
}

int Replay::fill(size_t index, int fd) {
  const Effect& e = record_.effects[index];
  if (e.size > 0) {
    UniqueFd blob;
    if (const int err = blob_of(index, &blob)) return err;
    if (const int err = copy_bytes(blob.get(), fd, e.size)) return err;
  }
  result_.bytes_written += e.size;
  struct stat st;
  if (fstat(fd, &st) != 0) return errno;
  return set_attributes(fd, e, st, true);
}

int Replay::apply_file(size_t index) {
  const Effect& e = record_.effects[index];
  if (e.in_place) {
    if (e.path.in_root()) {
      if (const int err = tree_.publish(e.path.text)) return err;
    }
    int parent;
    std::string name;
    if (const int err = parents_.get(e.path, &parent, &name)) return err;
    bool absent = false;
    const int err = rewrite_in_place(index, parent, name, &absent);
    if (!absent) return err;
  }
  const bool large = e.size > kServeFileBytes || result_.bytes_written + e.size > kServeSkipBytes;
  if (large && e.size > kNeverServed && e.path.in_root() && !has_explicit_meta(e)) {
    bool served = false;
    const int err = serve(index, &served);
    if (err != 0 || served) return err;
  }
  return create_file(index);
}

int Replay::rewrite_in_place(size_t index, int parent, const std::string& name, bool* absent) {
  const UniqueFd fd(openat(parent, name.c_str(), O_RDWR | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC));
  if (!fd) {
    *absent = errno == ENOENT;
    return errno;
  }
  struct stat st;
  if (fstat(fd.get(), &st) != 0) return errno;
  if (!S_ISREG(st.st_mode)) return EINVAL;
  if (const int err = journal_.before_truncate(record_.effects[index].path, parent, fd.get(), st)) {
    return err;
  }
  // Looking for holes of what was there has moved the descriptor.
  if (ftruncate(fd.get(), 0) != 0 || lseek(fd.get(), 0, SEEK_SET) != 0) return errno;
  return fill(index, fd.get());
}

int Replay::serve(size_t index, bool* served) {
  const Effect& e = record_.effects[index];
  if (const int err = make_free(e.path)) return err;
  UniqueFd blob;
  if (const int err = blob_of(index, &blob)) return err;
  const int err = tree_.serve(e.path.text, e.blob, std::move(blob), e.size, e.mode & kPermissions);
  if (err == ENOTSUP) return 0;  // written at once, then
  if (err != 0) return err;
  journal_.served(e.path);
  result_.bytes_served += e.size;
  *served = true;
  return 0;
}

int Replay::create_file(size_t index) {
  const Effect& e = record_.effects[index];
  if (const int err = drop_served(e.path)) return err;
  int parent;
  std::string name;
  if (const int err = parents_.get(e.path, &parent, &name)) return err;
  // Named when it is whole: if the daemon dies, the output is simply not built.
  if (UniqueFd whole(openat(parent, ".", O_TMPFILE | O_RDWR | O_CLOEXEC, e.mode & 0777)); whole) {
    if (const int err = fill(index, whole.get())) return err;
    const std::string self = "/proc/self/fd/" + std::to_string(whole.get());
    const auto publish = [&] {
      return linkat(AT_FDCWD, self.c_str(), parent, name.c_str(), AT_SYMLINK_FOLLOW) == 0 ? 0
                                                                                          : errno;
    };
    int err = publish();
    if (err == EEXIST) {
      if (const int busy = make_free(e.path)) return busy;
      err = publish();
    }
    if (err == 0) journal_.created(e.path, false);
    return err;
  }
  // A file system without unnamed files.
  constexpr int kFlags = O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC;
  UniqueFd fd(openat(parent, name.c_str(), kFlags, e.mode & 0777));
  if (!fd && errno == EEXIST) {
    if (const int err = make_free(e.path)) return err;
    fd.reset(openat(parent, name.c_str(), kFlags, e.mode & 0777));
  }
  if (!fd) return errno;
  journal_.created(e.path, false);
  return fill(index, fd.get());
}

// --- attributes ---

int Replay::set_attributes(int path_fd, const Effect& e, const struct stat& st, bool with_mode) {
  bool check_mode = with_mode;
  if (e.uid || e.gid) {
    const uid_t uid = e.uid.value_or(static_cast<uid_t>(-1));
    const gid_t gid = e.gid.value_or(static_cast<gid_t>(-1));
    if (fchownat(path_fd, "", uid, gid, AT_EMPTY_PATH) != 0) return errno;
    check_mode = true;  // chown takes set-user-ID bits away
  }
  for (const std::string& name : e.removed_xattrs) {
    if (const int err = remove_xattr(path_fd, name)) return err;
  }
  for (const auto& [name, value] : e.xattrs) {
    if (const int err = set_xattr(path_fd, name, value)) return err;
  }
  if (!check_mode || S_ISLNK(st.st_mode)) return 0;
  const mode_t wanted = (with_mode ? e.mode : st.st_mode) & kPermissions;
  struct stat now = st;
  if ((e.uid || e.gid) && fstat(path_fd, &now) != 0) return errno;
  if ((now.st_mode & kPermissions) == wanted) return 0;
  return change_mode(path_fd, wanted);
}

int Replay::meta(const Effect& e) {
  if (e.path.in_root()) {
    if (const int err = tree_.publish(e.path.text)) return err;
  }
  UniqueFd fd;
  if (const int err = open_path(e.path, &fd)) return err;
  struct stat st;
  if (fstat(fd.get(), &st) != 0) return errno;
  const bool with_xattrs = !e.xattrs.empty() || !e.removed_xattrs.empty();
  if (const int err = journal_.before_meta(e.path, fd.get(), st, with_xattrs)) return err;
  if (S_ISDIR(st.st_mode)) return 0;  // finish_directory()
  return set_attributes(fd.get(), e, st, e.set_mode);
}

int Replay::finish_directory(const Effect& e) {
  if (e.kind != EffectKind::kMeta && e.kind != EffectKind::kMakeDir) return 0;
  UniqueFd fd;
  if (const int err = open_path(e.path, &fd)) return err;
  struct stat st;
  if (fstat(fd.get(), &st) != 0) return errno;
  return set_attributes(fd.get(), e, st, e.kind == EffectKind::kMakeDir || e.set_mode);
}

int Replay::touch(const Effect& e) {
  if (e.path.in_root()) {
    if (const int err = tree_.publish(e.path.text)) return err;
  }
  UniqueFd fd;
  if (const int err = open_path(e.path, &fd)) return err;
  struct stat st;
  if (fstat(fd.get(), &st) != 0) return errno;
  if (const int err = journal_.before_meta(e.path, fd.get(), st, false)) return err;
  return utimensat(AT_FDCWD, fmt::format("/proc/self/fd/{}", fd.get()).c_str(), nullptr, 0) == 0
             ? 0
             : errno;
}

int Replay::set_times(const Effect& e) {
  if (!e.atime_ns && !e.mtime_ns) return 0;
  UniqueFd fd;
  if (const int err = open_path(e.path, &fd)) return err;
  const struct timespec times[2] = {to_timespec(e.atime_ns), to_timespec(e.mtime_ns)};
  return utimensat(AT_FDCWD, fmt::format("/proc/self/fd/{}", fd.get()).c_str(), times, 0) == 0
             ? 0
             : errno;
}

}  // namespace

Result<ReplayResult> apply_effects(const Record& record, const Observer& observer) {
  return Replay(record, observer).run();
}

}  // namespace pcache::store
