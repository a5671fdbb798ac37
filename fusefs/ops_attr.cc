// Handlers of attributes: getattr, setattr, statfs, extended attributes.
//
// Those of a served file are those of its reserved inode, so they can be read and changed while it
// is pending; only a change of its size has to wait for the contents.
#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <cerrno>
#include <vector>

#include "fusefs/credentials.h"
#include "fusefs/mount_impl.h"

namespace pcache::fusefs {
namespace {

// True while somebody may write to the inode, be it through a mapping alone: a read lease is
// refused then. `fd` may be an O_PATH descriptor.
bool open_for_writing(int fd) {
  UniqueFd reader(::open(ProcPath(fd).c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC));
  if (!reader) return true;
  // Should a writer come in this very moment, the signal is one that nobody minds.
  (void)::fcntl(reader.get(), F_SETSIG, SIGURG);
  if (::fcntl(reader.get(), F_SETLEASE, F_RDLCK) != 0) return true;
  (void)::fcntl(reader.get(), F_SETLEASE, F_UNLCK);
  return false;
}

}  // namespace

// How long the kernel may keep a node's attributes. Under passthrough it does not see what a shared
// mapping writes, so not at all while there may be one.
double MountImpl::attr_seconds(Node& node, int fd) const {
  if (!kernel_.passthrough()) return options_.cache_seconds;
  if (node.writers.load() > 0) return 0;
  if (node.maybe_mapped.load()) {
    if (open_for_writing(fd)) return 0;
    node.maybe_mapped.store(false);
  }
  return options_.cache_seconds;
}

int MountImpl::node_stat(const At& at, struct stat* st) {
  if (at.node->has_served.load(std::memory_order_acquire)) {
    if (const ServedRef served = served_of(at.node)) return served_.stat(served, st);
  }
  return ::fstat(at.get(), st) == 0 ? 0 : errno;
}

void MountImpl::op_getattr(fuse_req_t req, fuse_ino_t ino, fuse_file_info*) {
  At target;
  struct stat st {};
  int err = 0;
  if (View::owns(ino)) {
    st = view_.attributes(ino);
    fuse_reply_attr(req, &st, 0);
    return;
  }
  if (!at(ino, &target, &err) || (err = node_stat(target, &st)) != 0) {
    fuse_reply_err(req, err);
    return;
  }
  fuse_reply_attr(req, &st, attr_seconds(*target.node, target.get()));
}

int MountImpl::set_attributes(const At& target, const struct stat& attr, int to_set,
                              const Handle* handle) {
  const ProcPath path(target.get());
  if ((to_set & FUSE_SET_ATTR_MODE) != 0) {
    const KeepSetIdBits keep;
    if (::chmod(path.c_str(), attr.st_mode & 07777) != 0) return errno;
  }
  if ((to_set & (FUSE_SET_ATTR_UID | FUSE_SET_ATTR_GID)) != 0) {
    const uid_t uid = (to_set & FUSE_SET_ATTR_UID) != 0 ? attr.st_uid : static_cast<uid_t>(-1);
    const gid_t gid = (to_set & FUSE_SET_ATTR_GID) != 0 ? attr.st_gid : static_cast<gid_t>(-1);
    if (::fchownat(target.get(), "", uid, gid, AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW) != 0) {
      return errno;
    }
  }
  if ((to_set & FUSE_SET_ATTR_SIZE) != 0) {
    const bool by_handle = handle != nullptr && handle->write && handle->fd;
    const int result = by_handle ? ::ftruncate(handle->fd.get(), attr.st_size)
                                 : ::truncate(path.c_str(), attr.st_size);
    if (result != 0) return errno;
  }
  if ((to_set & (FUSE_SET_ATTR_ATIME | FUSE_SET_ATTR_MTIME)) != 0) {
    struct timespec times[2] = {attr.st_atim, attr.st_mtim};
    if ((to_set & FUSE_SET_ATTR_ATIME) == 0) times[0].tv_nsec = UTIME_OMIT;
    if ((to_set & FUSE_SET_ATTR_MTIME) == 0) times[1].tv_nsec = UTIME_OMIT;
    if ((to_set & FUSE_SET_ATTR_ATIME_NOW) != 0) times[0].tv_nsec = UTIME_NOW;
    if ((to_set & FUSE_SET_ATTR_MTIME_NOW) != 0) times[1].tv_nsec = UTIME_NOW;
    const ServedRef served = served_of(target.node);
    if (served && served->state.load() != ServedState::kPublished) {
      served_.set_times(served, times);
    } else if (::utimensat(target.get(), "", times, AT_EMPTY_PATH) != 0) {
      return errno;
    }
  }
  return 0;
}

void MountImpl::do_setattr(fuse_req_t req, const At& target, const struct stat& attr, int to_set,
                           const Handle* handle) {
  const ServedRef served = served_of(target.node);
  if (served && (to_set & FUSE_SET_ATTR_SIZE) != 0) {
    if (served->state.load() == ServedState::kPending) {
      once_published(req, served, [this, req, target, attr, to_set, handle] {
        do_setattr(req, target, attr, to_set, handle);
      });
      return;
    }
    // Old readers keep the blob: the kernel looks up again and finds a new node.
    detach(target.node, served);
    fuse_reply_err(req, ESTALE);
    return;
  }
  int err = set_attributes(target, attr, to_set, handle);
  struct stat st {};
  if (err == 0) err = node_stat(target, &st);
  post_node(req, TreeOp::kSetAttr, *target.node, err);
  if (err != 0) {
    fuse_reply_err(req, err);
    return;
  }
  fuse_reply_attr(req, &st, attr_seconds(*target.node, target.get()));
}

void MountImpl::op_setattr(fuse_req_t req, fuse_ino_t ino, struct stat* attr, int to_set,
                           fuse_file_info* fi) {
  At target;
  int err = 0;
  if (!at(ino, &target, &err)) {
    fuse_reply_err(req, err);
    return;
  }
  const auto* handle = fi == nullptr ? nullptr : reinterpret_cast<const Handle*>(fi->fh);
  do_setattr(req, target, *attr, to_set, handle);
}

void MountImpl::op_statfs(fuse_req_t req, fuse_ino_t ino) {
  At target;
  struct statvfs buf {};
  int err = 0;
  if (!at(View::owns(ino) ? fuse_ino_t{NodeTable::kRootId} : ino, &target, &err)) {
    fuse_reply_err(req, err);
  } else if (::fstatvfs(target.get(), &buf) != 0) {
    fuse_reply_err(req, errno);
  } else {
    fuse_reply_statfs(req, &buf);
  }
}

void MountImpl::op_setxattr(fuse_req_t req, fuse_ino_t ino, const char* name, const char* value,
                            size_t size, int flags) {
  At target;
  int err = 0;
  if (!at(ino, &target, &err)) {
    fuse_reply_err(req, err);
    return;
  }
  if (::setxattr(ProcPath(target.get()).c_str(), name, value, size, flags) != 0) err = errno;
  post_node(req, TreeOp::kSetAttr, *target.node, err);
  fuse_reply_err(req, err);
}

void MountImpl::op_removexattr(fuse_req_t req, fuse_ino_t ino, const char* name) {
  At target;
  int err = 0;
  if (!at(ino, &target, &err)) {
    fuse_reply_err(req, err);
    return;
  }
  if (::removexattr(ProcPath(target.get()).c_str(), name) != 0) err = errno;
  post_node(req, TreeOp::kSetAttr, *target.node, err);
  fuse_reply_err(req, err);
}

void MountImpl::op_getxattr(fuse_req_t req, fuse_ino_t ino, const char* name, size_t size) {
  At target;
  int err = 0;
  if (View::owns(ino)) {
    fuse_reply_err(req, ENODATA);
    return;
  }
  if (!at(ino, &target, &err)) {
    fuse_reply_err(req, err);
    return;
  }
  std::vector<char> value(size);
  const ssize_t n = ::getxattr(ProcPath(target.get()).c_str(), name, value.data(), size);
  if (n < 0) {
    fuse_reply_err(req, errno);
  } else if (size == 0) {
    fuse_reply_xattr(req, static_cast<size_t>(n));
  } else {
    fuse_reply_buf(req, value.data(), static_cast<size_t>(n));
  }
}

void MountImpl::op_listxattr(fuse_req_t req, fuse_ino_t ino, size_t size) {
  At target;
  int err = 0;
  if (View::owns(ino)) {
    if (size == 0)
      fuse_reply_xattr(req, 0);
    else
      fuse_reply_buf(req, nullptr, 0);
    return;
  }
  if (!at(ino, &target, &err)) {
    fuse_reply_err(req, err);
    return;
  }
  std::vector<char> names(size);
  const ssize_t n = ::listxattr(ProcPath(target.get()).c_str(), names.data(), size);
  if (n < 0) {
    fuse_reply_err(req, errno);
  } else if (size == 0) {
    fuse_reply_xattr(req, static_cast<size_t>(n));
  } else {
    fuse_reply_buf(req, names.data(), static_cast<size_t>(n));
  }
}

}  // namespace pcache::fusefs
