#include "fusefs/view.h"

#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <time.h>
#include <unistd.h>

#include <cerrno>
#include <exception>
#include <utility>

namespace pcache::fusefs {

struct stat View::attributes(fuse_ino_t ino) const {
  struct stat st {};
  const bool directory = ino == kDirectory;
  st.st_ino = ino;
  // Command lines are nobody else's business.
  st.st_mode = directory ? S_IFDIR | 0500 : S_IFREG | 0400;
  st.st_nlink = directory ? 2 : 1;
  st.st_uid = ::geteuid();
  st.st_gid = ::getegid();
  st.st_blksize = 4096;
  // Their size is not known before they are read, as below /proc; and they are as new as can be, so
  // that nobody takes what they held for what they hold.
  ::clock_gettime(CLOCK_REALTIME, &st.st_mtim);
  st.st_atim = st.st_ctim = st.st_mtim;
  return st;
}

fuse_entry_param View::entry(fuse_ino_t ino) const {
  fuse_entry_param entry{};
  entry.ino = ino;
  entry.generation = 1;
  entry.attr = attributes(ino);
  return entry;  // no time-outs: the kernel asks again each time
}

std::optional<fuse_entry_param> View::find(fuse_ino_t parent, std::string_view name) const {
  if (parent != kDirectory) return std::nullopt;
  for (size_t i = 0; i < files_.size(); ++i)
    if (files_[i].name == name) return entry(kDirectory + 1 + i);
  return std::nullopt;
}

void View::open(fuse_req_t req, fuse_ino_t ino, const fuse_file_info& fi, OpenObjects& opened) {
  const size_t file = ino - kDirectory - 1;
  if (ino == kDirectory || file >= files_.size()) {
    fuse_reply_err(req, ino == kDirectory ? EISDIR : ESTALE);
    return;
  }
  if ((fi.flags & O_ACCMODE) != O_RDONLY || (fi.flags & O_TRUNC) != 0) {
    fuse_reply_err(req, EROFS);
    return;
  }
  const std::lock_guard lock(mutex_);
  if (stop_) {
    fuse_reply_err(req, EIO);
    return;
  }
  if (!thread_.joinable()) thread_ = std::thread([this] { make_contents(); });
  requests_.push_back({req, file, fi, &opened});
  asked_.notify_one();
}

void View::make_contents() {
  sigset_t all;
  sigfillset(&all);
  pthread_sigmask(SIG_BLOCK, &all, nullptr);
  std::unique_lock lock(mutex_);
  while (true) {
    asked_.wait(lock, [this] { return stop_ || !requests_.empty(); });
    if (requests_.empty()) return;
    const Request request = requests_.front();
    requests_.pop_front();
    if (stop_) {
      fuse_reply_err(request.req, EIO);
      continue;
    }
    lock.unlock();
    answer(request);
    lock.lock();
  }
}

void View::answer(const Request& request) const {
  auto file = std::make_unique<OpenFile>();
  try {
    file->contents = files_[request.file].contents();
  } catch (const std::exception&) {
    fuse_reply_err(request.req, EIO);
    return;
  }
  fuse_file_info out = request.fi;
  OpenFile* raw = request.opened->add(std::move(file));
  out.fh = reinterpret_cast<uint64_t>(raw);
  out.direct_io = 1;  // reads go on to the end, whatever the size says
  out.noflush = 1;
  // Interrupted: no RELEASE follows.
  if (fuse_reply_open(request.req, &out) == -ENOENT) request.opened->remove(raw).reset();
}

void View::read_directory(fuse_req_t req, size_t size, off_t offset, bool plus) const {
  std::vector<std::pair<std::string, mode_t>> items = {{".", S_IFDIR}, {"..", S_IFDIR}};
  for (const ViewFile& file : files_) items.emplace_back(file.name, S_IFREG);
  std::vector<char> buffer(size);
  size_t used = 0;
  for (auto i = static_cast<size_t>(offset); i < items.size(); ++i) {
    const auto& [name, type] = items[i];
    fuse_entry_param entry{};  // without a node: nothing is counted
    entry.attr.st_ino = i < 2 ? kDirectory : kDirectory + i - 1;
    entry.attr.st_mode = type;
    char* at = buffer.data() + used;
    const size_t left = buffer.size() - used;
    const auto next = static_cast<off_t>(i + 1);
    const size_t need = plus ? fuse_add_direntry_plus(req, at, left, name.c_str(), &entry, next)
                             : fuse_add_direntry(req, at, left, name.c_str(), &entry.attr, next);
    if (need > left) break;
    used += need;
  }
  fuse_reply_buf(req, buffer.data(), used);
}

void View::stop() {
  {
    const std::lock_guard lock(mutex_);
    stop_ = true;
  }
  asked_.notify_one();
  if (thread_.joinable()) thread_.join();
}

}  // namespace pcache::fusefs
