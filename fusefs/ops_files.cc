// Handlers of open files.
//
// How an open is answered (passthrough mode; without it, every row is ordinary I/O of the same
// source and ESTALE never arises, since reads go to the lower file once a blob is published):
//   node                        for reading               for writing, O_TRUNC, truncate
//   ordinary                    lower file                lower file
//   served, pending             blob                      publish first, then the next rows
//   published, no blob reader   lower file                lower file
//   published, blob readers     blob (one id a node)      detach the node, ESTALE
//   unlinked before published   blob                      ESTALE
//   detached                    ESTALE                    ESTALE
// One backing id a node, and never passthrough and ordinary opens of one node at the same time: the
// kernel answers EIO. Releases come late, so this side's counts are never lower than the kernel's.
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include <cerrno>
#include <vector>

#include "fusefs/credentials.h"
#include "fusefs/mount_impl.h"

namespace pcache::fusefs {
namespace {

Handle* handle_of(const fuse_file_info* fi) { return reinterpret_cast<Handle*>(fi->fh); }

bool may_write(int flags) { return (flags & O_ACCMODE) != O_RDONLY || (flags & O_TRUNC) != 0; }

// O_APPEND comes with each write; O_DIRECT is the kernel's own business above this file system.
int lower_flags(int flags) {
  return (flags & ~(O_CREAT | O_EXCL | O_NOFOLLOW | O_APPEND | O_DIRECT | O_NOATIME)) | O_CLOEXEC;
}

// Of an execve's own open, whose caller may execute the file but perhaps not read it; no flag of
// open(2) (the kernel's FMODE_EXEC).
constexpr int kOpenedByExec = 0x20;

// One reply of at most this much, so that no request thread copies for seconds.
constexpr size_t kMostCopied = 16u << 20;

}  // namespace

ServedRef MountImpl::served_of(const NodeRef& node) {
  if (!node->has_served.load(std::memory_order_acquire)) return nullptr;
  std::lock_guard lock(node->io);
  if (node->served && node->backing_refs == 0 && !node->detached &&
      node->served->state.load() == ServedState::kPublished) {
    node->served.reset();
    node->has_served.store(false, std::memory_order_release);
  }
  return node->served;
}

void MountImpl::detach(const NodeRef& node, const ServedRef& served) {
  {
    std::lock_guard lock(node->io);
    node->detached = true;
  }
  served->detached.store(true, std::memory_order_release);
  nodes_.detach(node);
}

void MountImpl::once_published(fuse_req_t req, const ServedRef& served,
                               std::function<void()> then) {
  // Whoever claims the request answers it: the worker, or the interrupt.
  struct Wait {
    fuse_req_t req;
    std::atomic<bool> claimed{false};
  };
  const auto wait = std::make_shared<Wait>();
  wait->req = req;
  fuse_req_interrupt_func(
      req,
      [](fuse_req_t interrupted, void* data) {
        if (!static_cast<Wait*>(data)->claimed.exchange(true)) fuse_reply_err(interrupted, EINTR);
      },
      wait.get());
  const auto resume = [wait, then = std::move(then)](int err) {
    if (wait->claimed.exchange(true)) return;
    fuse_req_interrupt_func(wait->req, nullptr, nullptr);  // waits for one that is running
    if (err != 0) {
      fuse_reply_err(wait->req, err);
    } else {
      then();
    }
  };
  if (served_.when_published(served, resume) == 0) resume(0);
}

int MountImpl::acquire_backing(Node& node, const Handle& handle, int source_fd) {
  std::lock_guard lock(node.io);
  if (node.backing_refs > 0) {
    if (node.backing_is_blob && handle.write) return -ESTALE;
    ++node.backing_refs;
    return node.backing_id;
  }
  if (node.cached_refs > 0) return 0;
  int id = 0;
  if (handle.served) {
    const HonourModes honour;
    id = Kernel::open_backing(session_fd_, source_fd);
  } else {
    id = Kernel::open_backing(session_fd_, source_fd);
  }
  if (id <= 0) return 0;
  node.backing_id = id;
  node.backing_refs = 1;
  node.backing_is_blob = handle.served != nullptr;
  if (handle.served) {
    // It may have been published, and the node made ordinary, since this open began.
    node.served = handle.served;
    node.has_served.store(true, std::memory_order_release);
  }
  return id;
}

bool MountImpl::may_keep_cache(Node& node, int fd) {
  struct stat st {};
  if (::fstat(fd, &st) != 0) return false;
  std::lock_guard lock(node.io);
  const bool same = node.seen_size == st.st_size && node.seen_mtime.tv_sec == st.st_mtim.tv_sec &&
                    node.seen_mtime.tv_nsec == st.st_mtim.tv_nsec &&
                    node.seen_ctime.tv_sec == st.st_ctim.tv_sec &&
                    node.seen_ctime.tv_nsec == st.st_ctim.tv_nsec;
  node.seen_size = st.st_size;
  node.seen_mtime = st.st_mtim;
  node.seen_ctime = st.st_ctim;
  return same;
}

void MountImpl::remember_contents(Node& node, int fd) { (void)may_keep_cache(node, fd); }

// Replies to an open or create. `source` is what reads come from: the blob, or the node itself.
void MountImpl::reply_open(fuse_req_t req, std::unique_ptr<Handle> handle, const fuse_file_info& fi,
                           const fuse_entry_param* entry, int source) {
  Node& node = *handle->node;
  node.handles.fetch_add(1);
  if (handle->write) {
    node.writers.fetch_add(1);
    write_handles_.fetch_add(1);
  }
  const int backing = kernel_.passthrough() ? acquire_backing(node, *handle, source) : 0;
  handle->passthrough = backing > 0;
  if (backing <= 0) {
    {
      std::lock_guard lock(node.io);
      ++node.cached_refs;
    }
    int err = 0;
    if (backing < 0) {
      const NodeRef stale = handle->node;
      close_handle(std::move(handle));
      if (const ServedRef served = served_of(stale)) detach(stale, served);
      fuse_reply_err(req, ESTALE);
      return;
    }
    if (!handle->fd && !handle->served && handle_fd(*handle, &err) < 0) {
      close_handle(std::move(handle));
      if (entry != nullptr) nodes_.forget(entry->ino, 1);
      fuse_reply_err(req, err);
      return;
    }
  }
  if (backing > 0 && (handle->flags & O_ACCMODE) == O_RDWR) {
    node.maybe_mapped.store(true);
    // Attributes from before this open may have been given out for long.
    if (entry == nullptr) notifier_.post({node.id, ""});
  }
  Handle* raw = open_.add(std::move(handle));
  int sent;
  if (backing > 0) {
    sent = Kernel::reply_open_passthrough(req, entry, reinterpret_cast<uint64_t>(raw), backing);
  } else {
    fuse_file_info out = fi;
    out.fh = reinterpret_cast<uint64_t>(raw);
    out.noflush = 1;
    out.keep_cache = raw->fd && may_keep_cache(node, raw->fd.get()) ? 1 : 0;
    sent = entry == nullptr ? fuse_reply_open(req, &out) : fuse_reply_create(req, entry, &out);
  }
  if (sent == -ENOENT) {  // interrupted: no RELEASE follows
    close_handle(open_.remove(raw));
    if (entry != nullptr) nodes_.forget(entry->ino, 1);
  }
}

void MountImpl::open_blob(fuse_req_t req, const At& target, const fuse_file_info& fi,
                          const ServedRef& served) {
  auto handle = std::make_unique<Handle>();
  handle->node = target.node;
  handle->served = served;
  handle->flags = fi.flags;
  post_node(req, TreeOp::kOpenRead, *target.node, 0);
  reply_open(req, std::move(handle), fi, nullptr, served->blob.get());
}

void MountImpl::do_open(fuse_req_t req, const At& target, fuse_file_info fi) {
  const bool write = may_write(fi.flags);
  if (const ServedRef served = served_of(target.node)) {
    bool detached;
    {
      std::lock_guard lock(target.node->io);
      detached = target.node->detached;
    }
    if (!write && !detached) {
      open_blob(req, target, fi, served);
    } else if (!detached && served->state.load() == ServedState::kPending) {
      once_published(req, served, [this, req, target, fi] { do_open(req, target, fi); });
    } else {
      if (!detached && served->state.load() == ServedState::kPublished) {
        detach(target.node, served);
      }
      fuse_reply_err(req, ESTALE);
    }
    return;
  }
  auto handle = std::make_unique<Handle>();
  handle->node = target.node;
  handle->flags = fi.flags;
  handle->write = (fi.flags & O_ACCMODE) != O_RDONLY;
  int err = 0;
  if (write || !kernel_.passthrough()) {
    handle->fd.reset(open_retrying(
        nodes_, [&] { return ::open(ProcPath(target.get()).c_str(), lower_flags(fi.flags)); }));
    if (!handle->fd && errno == EACCES && (fi.flags & kOpenedByExec) != 0)
      handle->fd.reset(open_to_execute(target.get()));
    if (!handle->fd) err = errno;
  }
  post_node(req, write ? TreeOp::kOpenWrite : TreeOp::kOpenRead, *target.node, err);
  if (err != 0) {
    fuse_reply_err(req, err);
    return;
  }
  if (handle->write && (fi.flags & O_TRUNC) != 0) note_unfinished(req, *handle);
  reply_open(req, std::move(handle), fi, nullptr, target.get());
}

void MountImpl::op_open(fuse_req_t req, fuse_ino_t ino, fuse_file_info* fi) {
  if (View::owns(ino)) return view_.open(req, ino, *fi, open_);
  At target;
  int err = 0;
  if (!at(ino, &target, &err)) {
    fuse_reply_err(req, err);
    return;
  }
  do_open(req, target, *fi);
}

void MountImpl::op_create(fuse_req_t req, fuse_ino_t parent_ino, const char* name, mode_t mode,
                          fuse_file_info* fi) {
  At parent;
  int err = 0;
  if (!at(parent_ino, &parent, &err)) {
    fuse_reply_err(req, err);
    return;
  }
  auto handle = std::make_unique<Handle>();
  if (hidden_name(name)) {
    err = EPERM;
  } else if (served_.find(parent.node->key, name)) {
    err = EEXIST;
  } else {
    const fuse_ctx* ctx = fuse_req_ctx(req);
    const ActAs caller(ctx->uid, ctx->gid, ctx->umask, mode);
    handle->fd.reset(
        ::openat(parent.get(), name, lower_flags(fi->flags & ~O_TRUNC) | O_CREAT | O_EXCL, mode));
    if (!handle->fd) err = errno;
  }
  fuse_entry_param entry;
  if (err == 0) {
    struct stat st {};
    UniqueFd path(open_retrying(
        nodes_, [&] { return ::open(ProcPath(handle->fd.get()).c_str(), O_PATH | O_CLOEXEC); }));
    if (!path || ::fstat(path.get(), &st) != 0) {
      err = errno;
    } else {
      handle->node = nodes_.enter(parent_ino, name, st, std::move(path));
      fill_entry(handle->node, handle->fd.get(), st, &entry);
      if (kernel_.passthrough() && (fi->flags & O_ACCMODE) != O_RDONLY) entry.attr_timeout = 0;
    }
  }
  post_name(req, TreeOp::kCreate, parent, name, err);
  if (err != 0) {
    // The kernel believed the name to be free; without O_EXCL it has to look again and open it.
    const bool stale = err == EEXIST && (fi->flags & O_EXCL) == 0;
    fuse_reply_err(req, stale ? ESTALE : err);
    return;
  }
  handle->flags = fi->flags;
  handle->write = (fi->flags & O_ACCMODE) != O_RDONLY;
  if (handle->write) note_unfinished(req, *handle);
  const int source = handle->fd.get();
  reply_open(req, std::move(handle), *fi, &entry, source);
}

// The lower descriptor of a handle, opened now if its open did not need one. -1 with *err set.
int MountImpl::handle_fd(Handle& handle, int* err) {
  if (handle.served) {
    const bool own =
        handle.served->state.load() == ServedState::kPublished && !handle.served->detached.load();
    return own ? handle.served->file.get() : handle.served->blob.get();
  }
  {
    std::lock_guard lock(handle.node->io);
    if (handle.fd) return handle.fd.get();
  }
  const FdRef path = nodes_.descriptor(handle.node, err);
  if (!path) return -1;
  UniqueFd fd(::open(ProcPath(path->get()).c_str(), lower_flags(handle.flags & ~O_TRUNC)));
  if (!fd) {
    *err = errno;
    return -1;
  }
  std::lock_guard lock(handle.node->io);
  if (!handle.fd) handle.fd = std::move(fd);
  return handle.fd.get();
}

void MountImpl::op_read(fuse_req_t req, fuse_ino_t ino, size_t size, off_t offset,
                        fuse_file_info* fi) {
  if (View::owns(ino)) {
    const std::string& text = reinterpret_cast<View::OpenFile*>(fi->fh)->contents;
    const size_t begin = std::min(static_cast<size_t>(offset), text.size());
    fuse_reply_buf(req, text.data() + begin, std::min(size, text.size() - begin));
    return;
  }
  Handle& handle = *handle_of(fi);
  int err = 0;
  const int fd = handle_fd(handle, &err);
  if (fd < 0) {
    fuse_reply_err(req, err);
    return;
  }
  reads_in_flight_.fetch_add(1, std::memory_order_relaxed);
  fuse_bufvec data = FUSE_BUFVEC_INIT(size);
  data.buf[0].flags = static_cast<fuse_buf_flags>(FUSE_BUF_IS_FD | FUSE_BUF_FD_SEEK);
  data.buf[0].fd = fd;
  data.buf[0].pos = offset;
  fuse_reply_data(req, &data, FUSE_BUF_SPLICE_MOVE);
  reads_in_flight_.fetch_sub(1, std::memory_order_relaxed);
}

void MountImpl::op_write_buf(fuse_req_t req, fuse_ino_t, fuse_bufvec* data, off_t offset,
                             fuse_file_info* fi) {
  Handle& handle = *handle_of(fi);
  int err = 0;
  const int fd = handle_fd(handle, &err);
  if (fd < 0) {
    fuse_reply_err(req, err);
    return;
  }
  const bool append = (fi->flags & O_APPEND) != 0 && !fi->writepage;
  size_t done = 0;
  // SPLICE_READ is not asked for, so the data is in memory.
  const auto* from = static_cast<const char*>(data->buf[0].mem);
  const size_t size = data->buf[0].size;
  while (done < size && err == 0) {
    struct iovec part = {const_cast<char*>(from) + done, size - done};
    const ssize_t n =
        ::pwritev2(fd, &part, 1, offset + static_cast<off_t>(done), append ? RWF_APPEND : 0);
    if (n > 0) {
      done += static_cast<size_t>(n);
    } else if (n == 0) {
      break;
    } else if (errno != EINTR) {
      err = errno;
    }
  }
  if (done == 0 && err != 0) {
    fuse_reply_err(req, err);
  } else {
    fuse_reply_write(req, done);
  }
}

void MountImpl::close_handle(std::unique_ptr<Handle> handle) {
  Node& node = *handle->node;
  {
    std::lock_guard lock(node.io);
    if (!handle->passthrough) {
      --node.cached_refs;
    } else if (--node.backing_refs == 0) {
      Kernel::close_backing(session_fd_, std::exchange(node.backing_id, 0));
    }
  }
  unfinished_.end(handle->unfinished);
  if (handle->write) {
    if (handle->passthrough && (handle->flags & O_ACCMODE) == O_RDWR) node.maybe_mapped.store(true);
    if (!handle->passthrough && handle->fd) remember_contents(node, handle->fd.get());
    node.writers.fetch_sub(1);
    write_handles_.fetch_sub(1);
  }
  node.handles.fetch_sub(1);
  (void)served_of(handle->node);
}

void MountImpl::op_release(fuse_req_t req, fuse_ino_t ino, fuse_file_info* fi) {
  if (View::owns(ino)) {
    open_.remove(reinterpret_cast<View::OpenFile*>(fi->fh)).reset();
    fuse_reply_err(req, 0);
    return;
  }
  close_handle(open_.remove(handle_of(fi)));
  fuse_reply_err(req, 0);
}

void MountImpl::op_fsync(fuse_req_t req, fuse_ino_t ino, int data_only, fuse_file_info* fi) {
  if (View::owns(ino)) {
    fuse_reply_err(req, 0);
    return;
  }
  Handle& handle = *handle_of(fi);
  int err = 0;
  const int fd = handle_fd(handle, &err);
  if (fd >= 0 && (data_only != 0 ? ::fdatasync(fd) : ::fsync(fd)) != 0) err = errno;
  fuse_reply_err(req, err);
}

void MountImpl::op_fallocate(fuse_req_t req, fuse_ino_t ino, int mode, off_t offset, off_t length,
                             fuse_file_info* fi) {
  if (View::owns(ino)) {
    fuse_reply_err(req, EROFS);
    return;
  }
  Handle& handle = *handle_of(fi);
  int err = 0;
  const int fd = handle_fd(handle, &err);
  if (fd >= 0 && ::fallocate(fd, mode, offset, length) != 0) err = errno;
  fuse_reply_err(req, err);
}

void MountImpl::op_lseek(fuse_req_t req, fuse_ino_t ino, off_t offset, int whence,
                         fuse_file_info* fi) {
  if (View::owns(ino)) {
    fuse_reply_err(req, EINVAL);
    return;
  }
  int err = 0;
  const int fd = handle_fd(*handle_of(fi), &err);
  const off_t result = fd < 0 ? -1 : ::lseek(fd, offset, whence);
  if (result < 0) {
    fuse_reply_err(req, fd < 0 ? err : errno);
  } else {
    fuse_reply_lseek(req, result);
  }
}

void MountImpl::op_copy_file_range(fuse_req_t req, fuse_ino_t ino_in, off_t off_in,
                                   fuse_file_info* fi_in, fuse_ino_t ino_out, off_t off_out,
                                   fuse_file_info* fi_out, size_t length, int flags) {
  if (View::owns(ino_in) || View::owns(ino_out)) {  // the kernel copies it by reading
    fuse_reply_err(req, EOPNOTSUPP);
    return;
  }
  int err = 0;
  const int from = handle_fd(*handle_of(fi_in), &err);
  const int to = from < 0 ? -1 : handle_fd(*handle_of(fi_out), &err);
  if (to < 0) {
    fuse_reply_err(req, err);
    return;
  }
  const ssize_t n = ::copy_file_range(from, &off_in, to, &off_out, std::min(length, kMostCopied),
                                      static_cast<unsigned>(flags));
  if (n < 0) {
    fuse_reply_err(req, errno);
  } else {
    fuse_reply_write(req, static_cast<size_t>(n));
  }
}

}  // namespace pcache::fusefs
