// Served files: outputs whose name exists in the mount only, until a worker has copied their blob
// into the inode that was reserved for them and published it with linkat.
//
// The reserved inode (O_TMPFILE in the lower parent) is there from the start: mode, owner, xattrs
// and the kernel-given times live in it, and its number stays. Only its contents come later, so
// metadata changes need not wait; what changes contents or links does. If the daemon dies, nothing
// of an unpublished file is left in the lower tree.
//
// Locks: one mutex guards the overlay (which name is served), the queue and every Served's state;
// the lower calls that move a name between overlay and lower directory (linkat, renameat2 over it)
// are made under it, so that a name is always in one of the two. It comes below the node table's
// lock and above Node::io. Callbacks (continuations, on_published) run on the worker with no lock
// held.
#pragma once

#include <sys/stat.h>

#include <atomic>
#include <condition_variable>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <unordered_map>
#include <vector>

#include "fusefs/node_table.h"
#include "store/digest.h"
#include "store/unique_fd.h"

namespace pcache::fusefs {

enum class ServedState : uint8_t { kPending, kPublished, kDropped };

struct Served {
  store::Digest digest;
  UniqueFd blob;  // read only
  UniqueFd file;  // the reserved inode, read and write
  uint64_t size = 0;
  InodeKey inode;
  std::string rel;  // its path when it was served
  std::atomic<ServedState> state{ServedState::kPending};
  std::atomic<bool> detached{false};  // published, but old readers keep the blob's contents

  // Guarded by ServedFiles.
  InodeKey dir;
  UniqueFd dir_fd;
  std::string name;
  struct timespec times[2]{};  // kept atime and mtime
  uint64_t copied = 0;
  bool urgent = false, queued = false;
  int error = 0;  // of the last attempt to publish
  struct Waiter {
    uint64_t ticket;
    std::function<void(int)> then;
  };
  std::vector<Waiter> waiters;

  // The attributes as the mount shows them: those of the reserved inode, with the size to come.
  int stat(struct stat* st, const struct timespec kept[2]) const;
};
using ServedRef = std::shared_ptr<Served>;

class ServedFiles {
 public:
  struct Hooks {
    std::function<void()> worker_started;                // on the worker, first
    std::function<bool()> readers_busy;                  // reads of blobs are in flight right now
    std::function<void(const ServedRef&)> on_published;  // or dropped because the name was taken
  };
  explicit ServedFiles(Hooks hooks);
  ~ServedFiles() { stop(); }
  void stop();  // ends the worker; what is not published is forgotten

  // --- the overlay ---
  bool any() const { return pending_.load(std::memory_order_acquire) > 0; }
  ServedRef find(const InodeKey& dir, const std::string& name);
  bool has_entries(const InodeKey& dir);
  std::vector<std::pair<std::string, ServedRef>> entries(const InodeKey& dir);
  int stat(const ServedRef& served, struct stat* st);
  void set_times(const ServedRef& served, const struct timespec times[2]);  // UTIME_OMIT: keep

  // 0 or an errno. ENOTSUP where the lower file system has no O_TMPFILE or too many are pending.
  int add(UniqueFd dir_fd, const InodeKey& dir, const std::string& name, const std::string& rel,
          const store::Digest& digest, UniqueFd blob, uint64_t size, mode_t mode);
  bool drop(const InodeKey& dir, const std::string& name);

  // rename of `name` where the source or the target is served, or both; `lower_rename` does the
  // lower renameat2. Not for RENAME_EXCHANGE. Returns 0 or an errno; *handled is false where
  // neither is.
  int rename(const InodeKey& dir, int dir_fd, const std::string& name, const InodeKey& new_dir,
             int new_dir_fd, const std::string& new_name, bool no_replace, bool* handled);

  // --- publishing ---
  // Runs then(0 or errno) on the worker once `served` is pending no more, and hurries. Returns a
  // ticket for cancel(); 0 if it is pending no more already (then() is not called).
  uint64_t when_published(const ServedRef& served, std::function<void(int)> then);
  // True if the continuation had not begun and will not be called.
  bool cancel(const ServedRef& served, uint64_t ticket);
  int publish(const ServedRef& served);  // waits
  // 0, or the errno of a file that could not be published; ECANCELED.
  int publish_all(const std::function<bool()>& cancelled);

  uint64_t pending() const { return pending_.load(std::memory_order_relaxed); }
  uint64_t pending_bytes();

 private:
  void run();
  ServedRef next_locked();
  int copy_slice(Served& served);  // without the lock
  void finish(const ServedRef& served, int err, std::unique_lock<std::mutex>& lock);
  void drop_locked(const ServedRef& served);
  void erase_locked(const ServedRef& served);
  void enqueue_locked(const ServedRef& served);

  const Hooks hooks_;
  std::mutex mutex_;
  std::condition_variable work_, done_;
  std::unordered_map<InodeKey, std::map<std::string, ServedRef>, InodeKeyHash> dirs_;
  std::deque<ServedRef> queue_;
  std::atomic<uint64_t> pending_{0};
  uint64_t next_ticket_ = 1;
  bool stop_ = false;
  std::thread worker_;
};

}  // namespace pcache::fusefs
