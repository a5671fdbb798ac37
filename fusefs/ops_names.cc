// Handlers of names: look-ups, creation of everything but open files, removal, rename, links.
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <climits>

#include "fusefs/credentials.h"
#include "fusefs/mount_impl.h"

namespace pcache::fusefs {

bool hidden_name(std::string_view name) { return name.starts_with(".pcache-"); }

bool MountImpl::at(fuse_ino_t ino, At* out, int* err) {
  if (View::owns(ino)) {  // whoever only looks at it is answered before
    *err = EROFS;
    return false;
  }
  out->node = nodes_.find(ino);
  if (!out->node) {
    *err = ESTALE;
    return false;
  }
  out->fd = nodes_.descriptor(out->node, err);
  return out->fd != nullptr;
}

void MountImpl::fill_entry(const NodeRef& node, int fd, const struct stat& st,
                           fuse_entry_param* entry) const {
  *entry = {};
  entry->ino = node->id;
  entry->generation = 1;
  entry->attr = st;
  entry->attr_timeout = attr_seconds(*node, fd);
  entry->entry_timeout = options_.cache_seconds;
}

void MountImpl::attach_served(const NodeRef& node, const ServedRef& served) {
  std::lock_guard lock(node->io);
  if (node->served) return;
  node->served = served;
  node->has_served.store(true, std::memory_order_release);
}

int MountImpl::look_up(const At& parent, const char* name, fuse_entry_param* entry,
                       NodeRef* found) {
  if (hidden_name(name)) return ENOENT;
  struct stat st {};
  NodeRef node;
  int node_err = 0;
  if (const ServedRef served = served_.find(parent.node->key, name)) {
    const int err = served_.stat(served, &st);
    if (err != 0) return err;
    node = nodes_.enter_known(parent.node->id, name, served->inode);
    if (!node) {
      UniqueFd fd(::open(ProcPath(served->file.get()).c_str(), O_PATH | O_CLOEXEC));
      if (!fd) return errno;
      node = nodes_.enter(parent.node->id, name, st, std::move(fd));
    }
    attach_served(node, served);
    fill_entry(node, served->file.get(), st, entry);
    if (found != nullptr) *found = node;
    return 0;
  }
  if (::fstatat(parent.get(), name, &st, AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT) != 0) return errno;
  node = nodes_.enter_known(parent.node->id, name, InodeKey::of(st));
  if (!node) {
    UniqueFd fd(open_retrying(
        nodes_, [&] { return ::openat(parent.get(), name, O_PATH | O_NOFOLLOW | O_CLOEXEC); }));
    if (!fd || ::fstat(fd.get(), &st) != 0) return errno;
    node = nodes_.enter(parent.node->id, name, st, std::move(fd));
  }
  // The descriptor is needed only where there may be a mapping.
  FdRef fd;
  if (node->maybe_mapped.load()) fd = nodes_.descriptor(node, &node_err);
  fill_entry(node, fd ? fd->get() : -1, st, entry);
  if (node->has_served.load(std::memory_order_acquire)) {
    if (const ServedRef served = served_of(node)) (void)served_.stat(served, &entry->attr);
  }
  if (found != nullptr) *found = node;
  return 0;
}

void MountImpl::reply_entry(fuse_req_t req, const fuse_entry_param& entry) {
  if (fuse_reply_entry(req, &entry) == -ENOENT) nodes_.forget(entry.ino, 1);
}

void MountImpl::op_lookup(fuse_req_t req, fuse_ino_t parent_ino, const char* name) {
  At parent;
  fuse_entry_param entry;
  int err = 0;
  if (View::owns(parent_ino)) {
    const auto found = view_.find(parent_ino, name);
    if (found)
      fuse_reply_entry(req, &*found);
    else
      fuse_reply_err(req, ENOENT);
    return;
  }
  if (!at(parent_ino, &parent, &err) || (err = look_up(parent, name, &entry)) != 0) {
    if (err == ENOENT && names_view(parent_ino, name)) {
      entry = view_.directory();
      fuse_reply_entry(req, &entry);
      return;
    }
    fuse_reply_err(req, err);
    return;
  }
  reply_entry(req, entry);
}

void MountImpl::op_forget(fuse_req_t req, fuse_ino_t ino, uint64_t count) {
  nodes_.forget(ino, count);
  fuse_reply_none(req);
}

void MountImpl::op_forget_multi(fuse_req_t req, size_t count, fuse_forget_data* forgets) {
  for (size_t i = 0; i < count; ++i) nodes_.forget(forgets[i].ino, forgets[i].nlookup);
  fuse_reply_none(req);
}

void MountImpl::op_readlink(fuse_req_t req, fuse_ino_t ino) {
  At link;
  int err = 0;
  if (View::owns(ino)) {
    fuse_reply_err(req, EINVAL);
    return;
  }
  if (!at(ino, &link, &err)) {
    fuse_reply_err(req, err);
    return;
  }
  char target[PATH_MAX + 1];
  const ssize_t n = ::readlinkat(link.get(), "", target, sizeof target - 1);
  if (n < 0) {
    fuse_reply_err(req, errno);
    return;
  }
  target[n] = '\0';
  fuse_reply_readlink(req, target);
}

// The common end of everything that creates a name.
void MountImpl::reply_created(fuse_req_t req, const At& parent, const char* name, TreeOp op,
                              int err) {
  fuse_entry_param entry;
  if (err == 0) err = look_up(parent, name, &entry);
  post_name(req, op, parent, name, err);
  if (err != 0) {
    fuse_reply_err(req, err);
    return;
  }
  reply_entry(req, entry);
}

void MountImpl::op_mknod(fuse_req_t req, fuse_ino_t parent_ino, const char* name, mode_t mode,
                         dev_t rdev) {
  At parent;
  int err = 0;
  if (!at(parent_ino, &parent, &err)) {
    fuse_reply_err(req, err);
    return;
  }
  if (hidden_name(name)) {
    err = EPERM;
  } else if (served_.find(parent.node->key, name)) {
    err = EEXIST;
  } else {
    const fuse_ctx* ctx = fuse_req_ctx(req);
    const ActAs caller(ctx->uid, ctx->gid, ctx->umask, mode);
    if (::mknodat(parent.get(), name, mode, rdev) != 0) err = errno;
  }
  reply_created(req, parent, name, TreeOp::kCreate, err);
}

void MountImpl::op_mkdir(fuse_req_t req, fuse_ino_t parent_ino, const char* name, mode_t mode) {
  At parent;
  int err = 0;
  if (!at(parent_ino, &parent, &err)) {
    fuse_reply_err(req, err);
    return;
  }
  if (hidden_name(name)) {
    err = EPERM;
  } else if (served_.find(parent.node->key, name)) {
    err = EEXIST;
  } else {
    const fuse_ctx* ctx = fuse_req_ctx(req);
    const ActAs caller(ctx->uid, ctx->gid, ctx->umask, mode);
    if (::mkdirat(parent.get(), name, mode) != 0) err = errno;
  }
  reply_created(req, parent, name, TreeOp::kMakeDir, err);
}

void MountImpl::op_symlink(fuse_req_t req, const char* target, fuse_ino_t parent_ino,
                           const char* name) {
  At parent;
  int err = 0;
  if (!at(parent_ino, &parent, &err)) {
    fuse_reply_err(req, err);
    return;
  }
  if (hidden_name(name)) {
    err = EPERM;
  } else if (served_.find(parent.node->key, name)) {
    err = EEXIST;
  } else {
    const fuse_ctx* ctx = fuse_req_ctx(req);
    const ActAs caller(ctx->uid, ctx->gid, 0, 0);
    if (::symlinkat(target, parent.get(), name) != 0) err = errno;
  }
  reply_created(req, parent, name, TreeOp::kCreate, err);
}

void MountImpl::op_unlink(fuse_req_t req, fuse_ino_t parent_ino, const char* name) {
  At parent;
  int err = 0;
  if (!at(parent_ino, &parent, &err)) {
    fuse_reply_err(req, err);
    return;
  }
  const NodeTable::Pin pin(nodes_, parent_ino, name);
  if (!served_.drop(parent.node->key, name) && ::unlinkat(parent.get(), name, 0) != 0) err = errno;
  post_name(req, TreeOp::kRemove, parent, name, err);
  if (err == 0) nodes_.unlinked(parent_ino, name);
  fuse_reply_err(req, err);
}

void MountImpl::op_rmdir(fuse_req_t req, fuse_ino_t parent_ino, const char* name) {
  At parent;
  int err = 0;
  if (!at(parent_ino, &parent, &err)) {
    fuse_reply_err(req, err);
    return;
  }
  const NodeTable::Pin pin(nodes_, parent_ino, name);
  struct stat st {};
  if (names_view(parent_ino, name)) {
    err = EROFS;
  } else if (served_.any() && ::fstatat(parent.get(), name, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
             served_.has_entries(InodeKey::of(st))) {
    err = ENOTEMPTY;
  } else if (::unlinkat(parent.get(), name, AT_REMOVEDIR) != 0) {
    err = errno;
  }
  post_name(req, TreeOp::kRemove, parent, name, err);
  if (err == 0) nodes_.unlinked(parent_ino, name);
  fuse_reply_err(req, err);
}

// --- rename ------------------------------------------------------------------------------------
// What rename does where names are served (flags are 0 or RENAME_NOREPLACE; an exchange publishes
// both first):
//   source    target             effect
//   served    absent             the overlay entry moves
//   served    lower or served    the overlay entry moves, the target is removed (EEXIST: NOREPLACE)
//   lower     served             lower rename, the target is dropped (EEXIST: NOREPLACE)
//   directory with names served below: they are keyed by the directory's inode and go with it
//   a directory over one with names served in it: ENOTEMPTY

int MountImpl::rename_lower(const At& from, const std::string& name, const At& to,
                            const std::string& new_name, unsigned int flags) {
  if (served_.any()) {
    struct stat st {};
    if ((flags & RENAME_EXCHANGE) == 0 &&
        ::fstatat(to.get(), new_name.c_str(), &st, AT_SYMLINK_NOFOLLOW) == 0 &&
        S_ISDIR(st.st_mode) && served_.has_entries(InodeKey::of(st))) {
      return (flags & RENAME_NOREPLACE) != 0 ? EEXIST : ENOTEMPTY;
    }
    bool handled = false;
    const int err = served_.rename(from.node->key, from.get(), name, to.node->key, to.get(),
                                   new_name, (flags & RENAME_NOREPLACE) != 0, &handled);
    if (handled || err != 0) return err;
  }
  return ::renameat2(from.get(), name.c_str(), to.get(), new_name.c_str(), flags) == 0 ? 0 : errno;
}

void MountImpl::do_rename(fuse_req_t req, const At& from, const std::string& name, const At& to,
                          const std::string& new_name, unsigned int flags) {
  const NodeTable::Pin source(nodes_, from.node->id, name);
  const NodeTable::Pin target(nodes_, to.node->id, new_name);
  const int err = rename_lower(from, name, to, new_name, flags);
  post_name(req, TreeOp::kRename, from, name, err);
  post_name(req, TreeOp::kRename, to, new_name, err);
  if (err == 0) {
    nodes_.renamed(from.node->id, name, to.node->id, new_name, (flags & RENAME_EXCHANGE) != 0);
  }
  fuse_reply_err(req, err);
}

void MountImpl::op_rename(fuse_req_t req, fuse_ino_t parent_ino, const char* name,
                          fuse_ino_t new_parent_ino, const char* new_name, unsigned int flags) {
  At from, to;
  int err = 0;
  if (!at(parent_ino, &from, &err) || !at(new_parent_ino, &to, &err)) {
    fuse_reply_err(req, err);
    return;
  }
  if ((flags & ~static_cast<unsigned>(RENAME_NOREPLACE | RENAME_EXCHANGE)) != 0) {
    fuse_reply_err(req, EINVAL);
    return;
  }
  if (hidden_name(new_name)) {
    fuse_reply_err(req, EPERM);
    return;
  }
  if (names_view(parent_ino, name) || names_view(new_parent_ino, new_name)) {
    fuse_reply_err(req, EROFS);
    return;
  }
  if ((flags & RENAME_EXCHANGE) != 0) {
    for (const ServedRef& served :
         {served_.find(from.node->key, name), served_.find(to.node->key, new_name)}) {
      if (!served) continue;
      once_published(req, served,
                     [this, req, parent_ino, new_parent_ino, flags, old_name = std::string(name),
                      name_to = std::string(new_name)] {
                       op_rename(req, parent_ino, old_name.c_str(), new_parent_ino, name_to.c_str(),
                                 flags);
                     });
      return;
    }
  }
  do_rename(req, from, name, to, new_name, flags);
}

void MountImpl::do_link(fuse_req_t req, const At& source, const At& parent,
                        const std::string& name) {
  int err = 0;
  if (hidden_name(name)) {
    err = EPERM;
  } else if (served_.find(parent.node->key, name)) {
    err = EEXIST;
  } else if (::linkat(AT_FDCWD, ProcPath(source.get()).c_str(), parent.get(), name.c_str(),
                      AT_SYMLINK_FOLLOW) != 0) {
    err = errno;
  }
  reply_created(req, parent, name.c_str(), TreeOp::kLink, err);
}

void MountImpl::op_link(fuse_req_t req, fuse_ino_t ino, fuse_ino_t new_parent,
                        const char* new_name) {
  At source, parent;
  int err = 0;
  if (!at(ino, &source, &err) || !at(new_parent, &parent, &err)) {
    fuse_reply_err(req, err);
    return;
  }
  const ServedRef served = served_of(source.node);
  if (served && served->state.load() == ServedState::kPending) {
    once_published(req, served, [this, req, source, parent, name = std::string(new_name)] {
      do_link(req, source, parent, name);
    });
    return;
  }
  do_link(req, source, parent, new_name);
}

}  // namespace pcache::fusefs
