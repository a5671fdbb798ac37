#include "fusefs/served.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>

#include "store/holes.h"

namespace pcache::fusefs {
namespace {

constexpr uint64_t kSliceBytes = 8u << 20;
// Each holds three descriptors; more than this are written at once instead.
constexpr uint64_t kMostPending = 1024;
constexpr int kWorkerNice = 10;

int copy_by_hand(int from, int to, uint64_t offset, uint64_t size) {
  std::vector<char> buffer(256 * 1024);
  while (size > 0) {
    const ssize_t n = ::pread(from, buffer.data(), std::min<uint64_t>(size, buffer.size()),
                              static_cast<off_t>(offset));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return errno;
    if (n == 0) return EIO;  // the blob is shorter than it said
    for (ssize_t done = 0; done < n;) {
      const ssize_t w = ::pwrite(to, buffer.data() + done, static_cast<size_t>(n - done),
                                 static_cast<off_t>(offset) + done);
      if (w < 0 && errno == EINTR) continue;
      if (w < 0) return errno;
      done += w;
    }
    offset += static_cast<uint64_t>(n);
    size -= static_cast<uint64_t>(n);
  }
  return 0;
}

}  // namespace

int Served::stat(struct stat* st, const struct timespec kept[2]) const {
  if (::fstat(file.get(), st) != 0) return errno;
  const ServedState now = state.load(std::memory_order_acquire);
  if (now == ServedState::kPublished && !detached.load(std::memory_order_acquire)) return 0;
  st->st_size = static_cast<off_t>(size);
  st->st_blocks = static_cast<blkcnt_t>((size + 511) / 512);
  if (now == ServedState::kPublished) return 0;
  if (now == ServedState::kPending) st->st_nlink = 1;
  st->st_atim = kept[0];
  st->st_mtim = kept[1];
  return 0;
}

ServedFiles::ServedFiles(Hooks hooks) : hooks_(std::move(hooks)), worker_([this] { run(); }) {}

void ServedFiles::stop() {
  {
    std::lock_guard lock(mutex_);
    if (stop_) return;
    stop_ = true;
  }
  work_.notify_all();
  worker_.join();
  for (const ServedRef& served : queue_) {
    for (auto& waiter : served->waiters) waiter.then(ESHUTDOWN);
  }
}

ServedRef ServedFiles::find(const InodeKey& dir, const std::string& name) {
  if (!any()) return nullptr;
  std::lock_guard lock(mutex_);
  const auto names = dirs_.find(dir);
  if (names == dirs_.end()) return nullptr;
  const auto it = names->second.find(name);
  return it == names->second.end() ? nullptr : it->second;
}

bool ServedFiles::has_entries(const InodeKey& dir) {
  if (!any()) return false;
  std::lock_guard lock(mutex_);
  return dirs_.contains(dir);
}

std::vector<std::pair<std::string, ServedRef>> ServedFiles::entries(const InodeKey& dir) {
  if (!any()) return {};
  std::lock_guard lock(mutex_);
  const auto names = dirs_.find(dir);
  if (names == dirs_.end()) return {};
  return {names->second.begin(), names->second.end()};
}

int ServedFiles::stat(const ServedRef& served, struct stat* st) {
  std::lock_guard lock(mutex_);
  return served->stat(st, served->times);
}

void ServedFiles::set_times(const ServedRef& served, const struct timespec times[2]) {
  std::lock_guard lock(mutex_);
  (void)::futimens(served->file.get(), times);
  struct stat st {};
  if (::fstat(served->file.get(), &st) != 0) return;
  // A given time is taken as given: the worker's writes may have moved the inode's already.
  const struct timespec now[2] = {st.st_atim, st.st_mtim};
  for (int i = 0; i < 2; ++i) {
    if (times[i].tv_nsec == UTIME_OMIT) continue;
    served->times[i] = times[i].tv_nsec == UTIME_NOW ? now[i] : times[i];
  }
}

int ServedFiles::add(UniqueFd dir_fd, const InodeKey& dir, const std::string& name,
                     const std::string& rel, const store::Digest& digest, UniqueFd blob,
                     uint64_t size, mode_t mode) {
  if (pending() >= kMostPending) return ENOTSUP;
  auto served = std::make_shared<Served>();
  served->file.reset(::openat(dir_fd.get(), ".", O_TMPFILE | O_RDWR | O_CLOEXEC, mode & 07777));
  if (!served->file) {
    return errno == EOPNOTSUPP || errno == EISDIR || errno == EINVAL ? ENOTSUP : errno;
  }
  // Exactly this mode, whatever the umask or a default ACL made of it.
  if (::fchmod(served->file.get(), mode & 07777) != 0) return errno;
  struct stat st {};
  if (::fstat(served->file.get(), &st) != 0) return errno;
  served->digest = digest;
  served->blob = std::move(blob);
  served->size = size;
  served->inode = InodeKey::of(st);
  served->dir = dir;
  served->dir_fd = std::move(dir_fd);
  served->name = name;
  served->rel = rel;
  served->times[0] = st.st_atim;
  served->times[1] = st.st_mtim;

  std::lock_guard lock(mutex_);
  if (stop_) return ESHUTDOWN;
  if (::faccessat(served->dir_fd.get(), name.c_str(), F_OK, AT_SYMLINK_NOFOLLOW) == 0) {
    return EEXIST;
  }
  auto& names = dirs_[dir];
  if (!names.emplace(name, served).second) return EEXIST;
  pending_.fetch_add(1);
  enqueue_locked(served);
  return 0;
}

void ServedFiles::enqueue_locked(const ServedRef& served) {
  if (served->queued) return;
  served->queued = true;
  served->error = 0;
  queue_.push_back(served);
  work_.notify_one();
}

void ServedFiles::erase_locked(const ServedRef& served) {
  const auto names = dirs_.find(served->dir);
  if (names == dirs_.end()) return;
  const auto it = names->second.find(served->name);
  if (it == names->second.end() || it->second != served) return;
  names->second.erase(it);
  if (names->second.empty()) dirs_.erase(names);
  pending_.fetch_sub(1);
}

void ServedFiles::drop_locked(const ServedRef& served) {
  erase_locked(served);
  served->state.store(ServedState::kDropped, std::memory_order_release);
  work_.notify_one();  // the worker tells the waiters
}

bool ServedFiles::drop(const InodeKey& dir, const std::string& name) {
  if (!any()) return false;
  std::lock_guard lock(mutex_);
  const auto names = dirs_.find(dir);
  if (names == dirs_.end()) return false;
  const auto it = names->second.find(name);
  if (it == names->second.end()) return false;
  const ServedRef served = it->second;
  drop_locked(served);
  return true;
}

int ServedFiles::rename(const InodeKey& dir, int dir_fd, const std::string& name,
                        const InodeKey& new_dir, int new_dir_fd, const std::string& new_name,
                        bool no_replace, bool* handled) {
  *handled = false;
  if (!any()) return 0;
  std::lock_guard lock(mutex_);
  const auto lookup = [this](const InodeKey& d, const std::string& n) -> ServedRef {
    const auto names = dirs_.find(d);
    if (names == dirs_.end()) return nullptr;
    const auto it = names->second.find(n);
    return it == names->second.end() ? nullptr : it->second;
  };
  const ServedRef source = lookup(dir, name);
  const ServedRef target = lookup(new_dir, new_name);
  if (!source && !target) return 0;
  *handled = true;
  if (source == target) return 0;
  if (target && no_replace) return EEXIST;
  if (!source) {
    if (::renameat(dir_fd, name.c_str(), new_dir_fd, new_name.c_str()) != 0) return errno;
    drop_locked(target);
    return 0;
  }
  // The overlay wins over the lower name, so for the mount the change is one step.
  UniqueFd new_fd(::openat(new_dir_fd, ".", O_PATH | O_DIRECTORY | O_CLOEXEC));
  if (!new_fd) return errno;
  const bool exists = ::faccessat(new_dir_fd, new_name.c_str(), F_OK, AT_SYMLINK_NOFOLLOW) == 0;
  if (exists && no_replace) return EEXIST;
  if (exists && ::unlinkat(new_dir_fd, new_name.c_str(), 0) != 0) return errno;
  if (target) drop_locked(target);
  erase_locked(source);
  source->dir = new_dir;
  source->dir_fd = std::move(new_fd);
  source->name = new_name;
  dirs_[new_dir].emplace(new_name, source);
  pending_.fetch_add(1);
  return 0;
}

uint64_t ServedFiles::when_published(const ServedRef& served, std::function<void(int)> then) {
  std::lock_guard lock(mutex_);
  if (served->state.load() != ServedState::kPending) return 0;
  const uint64_t ticket = next_ticket_++;
  served->waiters.push_back({ticket, std::move(then)});
  served->urgent = true;
  enqueue_locked(served);
  return ticket;
}

bool ServedFiles::cancel(const ServedRef& served, uint64_t ticket) {
  std::lock_guard lock(mutex_);
  return std::erase_if(served->waiters, [ticket](const auto& w) { return w.ticket == ticket; }) > 0;
}

int ServedFiles::publish(const ServedRef& served) {
  struct Outcome {
    std::mutex mutex;
    std::condition_variable changed;
    int err = -1;
  };
  const auto outcome = std::make_shared<Outcome>();
  const uint64_t ticket = when_published(served, [outcome](int err) {
    std::lock_guard lock(outcome->mutex);
    outcome->err = err;
    outcome->changed.notify_all();
  });
  if (ticket == 0) return 0;
  std::unique_lock lock(outcome->mutex);
  outcome->changed.wait(lock, [&] { return outcome->err >= 0; });
  return outcome->err;
}

int ServedFiles::publish_all(const std::function<bool()>& cancelled) {
  std::unique_lock lock(mutex_);
  for (auto& [dir, names] : dirs_) {
    for (auto& [name, served] : names) enqueue_locked(served);
  }
  while (pending_.load() > 0) {
    if (queue_.empty()) {
      for (auto& [dir, names] : dirs_) {
        for (auto& [name, served] : names) {
          if (served->error != 0) return served->error;
        }
      }
    }
    done_.wait_for(lock, std::chrono::milliseconds(50));
    if (cancelled) {
      lock.unlock();
      const bool stop = cancelled();
      lock.lock();
      if (stop) return ECANCELED;
    }
  }
  return 0;
}

uint64_t ServedFiles::pending_bytes() {
  if (!any()) return 0;
  uint64_t bytes = 0;
  std::lock_guard lock(mutex_);
  for (const auto& [dir, names] : dirs_) {
    for (const auto& [name, served] : names) bytes += served->size - served->copied;
  }
  return bytes;
}

ServedRef ServedFiles::next_locked() {
  for (const ServedRef& served : queue_) {
    if (served->state.load() == ServedState::kDropped) return served;
  }
  for (const ServedRef& served : queue_) {
    if (served->urgent) return served;
  }
  return queue_.empty() ? nullptr : queue_.front();
}

void ServedFiles::run() {
  (void)::setpriority(PRIO_PROCESS, static_cast<id_t>(::syscall(SYS_gettid)), kWorkerNice);
  sigset_t all;
  sigfillset(&all);
  pthread_sigmask(SIG_BLOCK, &all, nullptr);
  if (hooks_.worker_started) hooks_.worker_started();
  std::unique_lock lock(mutex_);
  while (true) {
    const ServedRef served = next_locked();
    if (stop_) return;
    if (!served) {
      work_.wait(lock);
      continue;
    }
    if (served->state.load() != ServedState::kPending) {
      finish(served, ESTALE, lock);
      continue;
    }
    const bool urgent = served->urgent;
    lock.unlock();
    // Readers first, but not for ever.
    for (int i = 0; i < 20 && !urgent && hooks_.readers_busy && hooks_.readers_busy(); ++i) {
      ::usleep(1000);
    }
    const int err = copy_slice(*served);
    lock.lock();
    if (err != 0 || served->copied == served->size) finish(served, err, lock);
  }
}

// Only the worker changes `copied` of a file that is in the queue.
int ServedFiles::copy_slice(Served& served) {
  const uint64_t left = served.size - served.copied;
  // Its holes stay holes.
  store::Extent data{served.copied, served.size};
  if (left > 0 && store::may_be_sparse(served.blob.get())) {
    if (::ftruncate(served.file.get(), static_cast<off_t>(served.size)) != 0) return errno;
    data = store::next_data(served.blob.get(), served.copied, served.size);
  }
  if (data.begin > served.copied) {
    std::lock_guard lock(mutex_);
    served.copied = data.begin;
    return 0;
  }
  const uint64_t want = std::min(kSliceBytes, data.end - served.copied);
  uint64_t done = 0;
  while (done < want) {
    auto from = static_cast<off64_t>(served.copied + done), to = from;
    const ssize_t n =
        ::copy_file_range(served.blob.get(), &from, served.file.get(), &to, want - done, 0);
    if (n > 0) {
      done += static_cast<uint64_t>(n);
      continue;
    }
    if (n < 0 && errno == EINTR) continue;
    if (n < 0 && (errno == ENOSPC || errno == EDQUOT || errno == EIO)) return errno;
    // Across file systems, or a file system without it.
    const int err =
        copy_by_hand(served.blob.get(), served.file.get(), served.copied + done, want - done);
    if (err != 0) return err;
    done = want;
  }
  std::lock_guard lock(mutex_);
  served.copied += want;
  return 0;
}

// Publishes (err == 0) and tells the waiters. Called and left with the lock held.
void ServedFiles::finish(const ServedRef& served, int err, std::unique_lock<std::mutex>& lock) {
  std::erase(queue_, served);
  served->queued = false;
  bool changed = false;
  if (served->state.load() == ServedState::kDropped) {
    err = ESTALE;  // unlinked meanwhile: whoever waited looks the name up again
  } else if (err == 0) {
    if (::futimens(served->file.get(), served->times) != 0) err = errno;
    if (err == 0 && ::linkat(AT_FDCWD, ProcPath(served->file.get()).c_str(), served->dir_fd.get(),
                             served->name.c_str(), AT_SYMLINK_FOLLOW) != 0) {
      err = errno;
    }
    if (err == 0) {
      erase_locked(served);
      served->state.store(ServedState::kPublished, std::memory_order_release);
      changed = true;
    } else if (err == EEXIST || err == ENOENT) {
      // Behind the mount the name was taken, or its directory removed: that is what counts.
      drop_locked(served);
      err = ESTALE;
      changed = true;
    }
  }
  if (err != 0 && served->state.load() == ServedState::kPending) {
    // A copy that failed must not keep the disk full.
    (void)::ftruncate(served->file.get(), 0);
    served->copied = 0;
  }
  served->error = err;
  served->urgent = false;
  std::vector<Served::Waiter> waiters;
  waiters.swap(served->waiters);
  done_.notify_all();
  lock.unlock();
  if (changed && hooks_.on_published) hooks_.on_published(served);
  for (auto& waiter : waiters) waiter.then(err);
  lock.lock();
}

}  // namespace pcache::fusefs
