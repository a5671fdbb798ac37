// store::Tree over the mount: the lower tree with the served names in it, and what the kernel is
// told.
//
// Runs on any thread but a request thread or the worker. Notifications are sent with no lock held.
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "fusefs/mount_impl.h"

namespace pcache::fusefs {

ServedRef MountImpl::find_served(const std::string& rel) const {
  if (!served_.any() || rel.empty()) return nullptr;
  UniqueFd parent;
  std::string name;
  struct stat st {};
  if (lower_.open_parent(rel, &parent, &name) != 0 || ::fstat(parent.get(), &st) != 0) {
    return nullptr;
  }
  return served_.find(InodeKey::of(st), name);
}

int MountImpl::stat(const std::string& rel, struct stat* st) const {
  if (const ServedRef served = find_served(rel)) return served_.stat(served, st);
  return lower_.stat(rel, st);
}

int MountImpl::open_read(const std::string& rel, UniqueFd* fd) const {
  const ServedRef served = find_served(rel);
  if (!served) return lower_.open_read(rel, fd);
  fd->reset(::open(ProcPath(served->blob.get()).c_str(), O_RDONLY | O_CLOEXEC));
  return *fd ? 0 : errno;
}

int MountImpl::read_link(const std::string& rel, std::string* target) const {
  if (find_served(rel)) return EINVAL;
  return lower_.read_link(rel, target);
}

int MountImpl::list(const std::string& rel, std::vector<store::DirEntry>* entries) const {
  std::vector<std::pair<std::string, ServedRef>> names;
  if (served_.any()) {
    if (find_served(rel)) return ENOTDIR;
    struct stat st {};
    if (lower_.stat(rel, &st) == 0) names = served_.entries(InodeKey::of(st));
  }
  const int err = lower_.list(rel, entries);
  if (err != 0) return err;
  std::erase_if(*entries, [](const store::DirEntry& e) { return hidden_name(e.name); });
  for (const auto& [name, served] : names) {
    std::erase_if(*entries, [&n = name](const store::DirEntry& e) { return e.name == n; });
    entries->push_back({'f', name});
  }
  return 0;
}

int MountImpl::get_xattr(const std::string& rel, const std::string& name,
                         std::string* value) const {
  const ServedRef served = find_served(rel);
  if (!served) return lower_.get_xattr(rel, name, value);
  value->resize(65536);
  const ssize_t n = ::fgetxattr(served->file.get(), name.c_str(), value->data(), value->size());
  value->resize(n < 0 ? 0 : static_cast<size_t>(n));
  return n < 0 ? errno : 0;
}

int MountImpl::list_xattr(const std::string& rel, std::string* names) const {
  const ServedRef served = find_served(rel);
  if (!served) return lower_.list_xattr(rel, names);
  names->resize(65536);
  const ssize_t n = ::flistxattr(served->file.get(), names->data(), names->size());
  names->resize(n < 0 ? 0 : static_cast<size_t>(n));
  return n < 0 ? errno : 0;
}

int MountImpl::statfs(const std::string& rel, struct statfs* buf) const {
  const ServedRef served = find_served(rel);
  if (!served) return lower_.statfs(rel, buf);
  return ::fstatfs(served->file.get(), buf) == 0 ? 0 : errno;
}

std::optional<store::Digest> MountImpl::served_digest(const std::string& rel) const {
  const ServedRef served = find_served(rel);
  if (!served) return std::nullopt;
  return served->digest;
}

bool MountImpl::shows_own_view() const {
  struct stat st {};
  return view_.any() && stat(std::string(store::kOwnView), &st) == ENOENT;
}

int MountImpl::open_parent(const std::string& rel, UniqueFd* parent, std::string* name) const {
  return lower_.open_parent(rel, parent, name);
}

int MountImpl::publish(const std::string& rel) {
  const ServedRef served = find_served(rel);
  return served ? served_.publish(served) : 0;
}

bool MountImpl::drop_served(const std::string& rel) {
  const ServedRef served = find_served(rel);
  if (!served) return false;
  UniqueFd parent;
  std::string name;
  struct stat st {};
  if (lower_.open_parent(rel, &parent, &name) != 0 || ::fstat(parent.get(), &st) != 0) return false;
  return served_.drop(InodeKey::of(st), name);
}

int MountImpl::serve(const std::string& rel, const store::Digest& blob, UniqueFd blob_fd,
                     uint64_t size, mode_t mode) {
  if (!alive()) return ENOTSUP;
  UniqueFd parent;
  std::string name;
  struct stat st {};
  int err = lower_.open_parent(rel, &parent, &name);
  if (err == 0 && ::fstat(parent.get(), &st) != 0) err = errno;
  if (err != 0) return err;
  return served_.add(std::move(parent), InodeKey::of(st), name, rel, blob, std::move(blob_fd), size,
                     mode);
}

// --- telling the kernel ------------------------------------------------------------------------

void MountImpl::send(const Notifier::Note& note) {
  if (!alive()) return;
  if (!note.name.empty()) {
    (void)fuse_lowlevel_notify_inval_entry(session_, note.node, note.name.c_str(),
                                           note.name.size());
  } else {
    (void)fuse_lowlevel_notify_inval_inode(session_, note.node, -1, 0);
  }
}

// Attributes, and without passthrough the cached contents.
void MountImpl::invalidate_node(const Node& node) {
  const bool contents = !kernel_.passthrough() && node.type == S_IFREG;
  (void)fuse_lowlevel_notify_inval_inode(session_, node.id, contents ? 0 : -1, 0);
}

// A directory's entry is only expired: dropping it, or a new epoch for all names, would break
// getcwd() of the processes inside until somebody looks the whole path up again.
void MountImpl::drop_name(uint64_t parent, const std::string& name, bool directory) {
  if (directory)
    (void)fuse_lowlevel_notify_expire_entry(session_, parent, name.c_str(), name.size(),
                                            FUSE_LL_EXPIRE_ONLY);
  else
    (void)fuse_lowlevel_notify_inval_entry(session_, parent, name.c_str(), name.size());
}

void MountImpl::invalidate(const std::string& rel) {
  if (!alive()) return;
  const NodeTable::Known known = nodes_.resolve(rel);
  if (known.node) {
    if (known.parent != 0) drop_name(known.parent, known.name, known.node->type == S_IFDIR);
    invalidate_node(*known.node);
  }
  if (known.parent != 0) (void)fuse_lowlevel_notify_inval_inode(session_, known.parent, -1, 0);
}

void MountImpl::invalidate_all() {
  if (!alive()) return;
  for (const NodeRef& node : nodes_.all()) {
    if (const auto rel = nodes_.path(node->id)) {
      const NodeTable::Known known = nodes_.resolve(*rel);
      // What is being executed stays a name; it is looked up again, that is all.
      if (known.parent != 0 &&
          fuse_lowlevel_notify_expire_entry(session_, known.parent, known.name.c_str(),
                                            known.name.size(), FUSE_LL_EXPIRE_ONLY) == -ENOSYS)
        drop_name(known.parent, known.name, node->type == S_IFDIR);
    }
    // Cached contents go by themselves once a new mtime or size is seen.
    send({node->id, ""});
  }
}

void MountImpl::on_published(const ServedRef& served) {
  const NodeRef node = nodes_.find_inode(served->inode);
  if (served->state.load() == ServedState::kPublished) {
    if (node) (void)served_of(node);
    if (listening_.load(std::memory_order_acquire)) {
      struct stat st {};
      std::shared_lock lock(listener_mutex_);
      const auto rel = node ? nodes_.path(node->id) : std::nullopt;
      if (listener_ != nullptr && ::fstat(served->file.get(), &st) == 0) {
        listener_->on_published(rel ? *rel : served->rel, served->digest, st);
      }
    }
    return;
  }
  // The name was taken behind the mount: the kernel must not keep ours.
  if (node) {
    if (const auto rel = nodes_.path(node->id)) {
      const NodeTable::Known known = nodes_.resolve(*rel);
      if (known.parent != 0) notifier_.post({known.parent, known.name});
    }
  }
}

}  // namespace pcache::fusefs
