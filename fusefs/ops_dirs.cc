// Handlers of open directories. A listing is taken whole at the first read and after a rewind: the
// lower entries and the served names together, without pcache's own temporary names.
#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <unordered_set>

#include "fusefs/mount_impl.h"

namespace pcache::fusefs {
namespace {

DirHandle* dir_of(const fuse_file_info* fi) { return reinterpret_cast<DirHandle*>(fi->fh); }

struct LinuxDirent {  // struct linux_dirent64
  uint64_t ino;
  int64_t off;
  unsigned short reclen;
  unsigned char type;
};
constexpr size_t kDirentName = 19;

bool is_dot(const std::string& name) { return name == "." || name == ".."; }

}  // namespace

void MountImpl::op_opendir(fuse_req_t req, fuse_ino_t ino, fuse_file_info* fi) {
  At target;
  int err = 0;
  if (View::owns(ino)) {
    fuse_reply_open(req, fi);
    return;
  }
  if (!at(ino, &target, &err)) {
    fuse_reply_err(req, err);
    return;
  }
  auto dir = std::make_unique<DirHandle>();
  dir->node = target.node;
  // By the descriptor itself: "." below it would ask for the right to enter.
  const std::string self = "/proc/self/fd/" + std::to_string(target.get());
  dir->fd.reset(open_retrying(
      nodes_, [&] { return ::open(self.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC); }));
  if (!dir->fd) {
    fuse_reply_err(req, errno);
    return;
  }
  target.node->handles.fetch_add(1);
  fuse_file_info out = *fi;
  DirHandle* raw = open_.add(std::move(dir));
  out.fh = reinterpret_cast<uint64_t>(raw);
  if (fuse_reply_open(req, &out) == -ENOENT) {
    raw->node->handles.fetch_sub(1);
    open_.remove(raw);
  }
}

// Called with dir.mutex held.
int MountImpl::fill_directory(DirHandle& dir) {
  dir.items.clear();
  // The overlay first: a name that is published meanwhile is then seen twice, never missed.
  std::unordered_set<std::string> seen;
  for (auto& [name, served] : served_.entries(dir.node->key)) {
    dir.items.push_back({name, served->inode.ino, DT_REG, served});
    seen.insert(name);
  }
  if (::lseek(dir.fd.get(), 0, SEEK_SET) < 0) return errno;
  alignas(8) char buffer[64 * 1024];
  while (true) {
    const long n = ::syscall(SYS_getdents64, dir.fd.get(), buffer, sizeof buffer);
    if (n < 0) return errno;
    if (n == 0) return 0;
    for (long pos = 0; pos < n;) {
      LinuxDirent entry;
      std::memcpy(&entry, buffer + pos, sizeof entry);
      std::string name(buffer + pos + kDirentName);
      pos += entry.reclen;
      if (hidden_name(name) || (!seen.empty() && seen.contains(name))) continue;
      dir.items.push_back({std::move(name), entry.ino, entry.type, nullptr});
    }
  }
}

void MountImpl::read_directory(fuse_req_t req, size_t size, off_t offset, fuse_file_info* fi,
                               bool plus) {
  DirHandle& dir = *dir_of(fi);
  std::vector<char> buffer(size);
  size_t used = 0;
  int err = 0;
  {
    std::lock_guard lock(dir.mutex);
    if (offset == 0) {
      err = fill_directory(dir);
      post_node(req, TreeOp::kList, *dir.node, err);
    }
    if (err == 0) err = pack_entries(req, dir, static_cast<size_t>(offset), plus, buffer, &used);
  }
  // From the reply on the directory may be released by another thread.
  if (err != 0) {
    fuse_reply_err(req, err);
  } else {
    fuse_reply_buf(req, buffer.data(), used);
  }
}

// Entries from index `first` on, as many as fit. Called with dir.mutex held.
int MountImpl::pack_entries(fuse_req_t req, const DirHandle& dir, size_t first, bool plus,
                            std::vector<char>& buffer, size_t* used_out) {
  At at;
  at.node = dir.node;
  if (plus) {
    int err = 0;
    at.fd = nodes_.descriptor(dir.node, &err);
    if (!at.fd) return err;
  }
  size_t used = 0;
  for (size_t i = first; i < dir.items.size(); ++i) {
    const DirHandle::Item& item = dir.items[i];
    const auto next = static_cast<off_t>(i + 1);
    char* at_end = buffer.data() + used;
    const size_t left = buffer.size() - used;
    if (!plus) {
      struct stat st {};
      st.st_ino = item.ino;
      st.st_mode = DTTOIF(item.type);
      const size_t need = fuse_add_direntry(req, at_end, left, item.name.c_str(), &st, next);
      if (need > left) break;
      used += need;
      continue;
    }
    // Measured first: an entry that does not fit must not count a reference.
    if (fuse_add_direntry_plus(req, nullptr, 0, item.name.c_str(), nullptr, 0) > left) break;
    fuse_entry_param entry{};
    entry.attr.st_ino = item.ino;
    entry.attr.st_mode = DTTOIF(item.type);
    if (!is_dot(item.name)) {
      const int err = look_up(at, item.name.c_str(), &entry);
      if (err == ENOENT) continue;  // gone since
      if (err != 0) {
        entry = {};
        entry.attr.st_ino = item.ino;
        entry.attr.st_mode = DTTOIF(item.type);
      }
    }
    used += fuse_add_direntry_plus(req, at_end, left, item.name.c_str(), &entry, next);
  }
  *used_out = used;
  return 0;
}

void MountImpl::op_readdir(fuse_req_t req, fuse_ino_t ino, size_t size, off_t offset,
                           fuse_file_info* fi) {
  if (View::owns(ino)) return view_.read_directory(req, size, offset, false);
  read_directory(req, size, offset, fi, false);
}

void MountImpl::op_readdirplus(fuse_req_t req, fuse_ino_t ino, size_t size, off_t offset,
                               fuse_file_info* fi) {
  if (View::owns(ino)) return view_.read_directory(req, size, offset, true);
  read_directory(req, size, offset, fi, true);
}

void MountImpl::op_releasedir(fuse_req_t req, fuse_ino_t ino, fuse_file_info* fi) {
  if (View::owns(ino)) {
    fuse_reply_err(req, 0);
    return;
  }
  const std::unique_ptr<DirHandle> dir = open_.remove(dir_of(fi));
  dir->node->handles.fetch_sub(1);
  fuse_reply_err(req, 0);
}

void MountImpl::op_fsyncdir(fuse_req_t req, fuse_ino_t ino, int data_only, fuse_file_info* fi) {
  if (View::owns(ino)) {
    fuse_reply_err(req, 0);
    return;
  }
  const int fd = dir_of(fi)->fd.get();
  const int result = data_only != 0 ? ::fdatasync(fd) : ::fsync(fd);
  fuse_reply_err(req, result == 0 ? 0 : errno);
}

}  // namespace pcache::fusefs
