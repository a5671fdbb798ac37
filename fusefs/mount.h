// Mount: a passthrough file system over a directory, mounted over the directory itself.
//
// The lower directory is opened before mounting; everything goes through that descriptor. Nodes are
// keyed by the lower (dev, ino) — never by a blob's — and hold an O_PATH descriptor; a node may
// have several names (hard links). FUSE threads wait for nobody: they take the node table's lock
// and the served table's lock (in this order), call the lower file system, and post to the
// listener, which must not block. Kernel notifications (invalidate) are sent with no lock held,
// never by a handler.
//
// Served files (design.md section 5): an inode reserved by O_TMPFILE in the lower directory whose
// name exists in the mount only; reads come from the blob (kernel passthrough where possible); a
// worker copies the blob into the inode and publishes it with linkat. A write open, truncate, link,
// rename or chmod publishes first; where old readers still have the blob the open is answered with
// ESTALE, so that the kernel looks up again and finds a new node.
#pragma once

#include <sys/types.h>

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "store/result.h"
#include "store/tree.h"

namespace pcache::fusefs {

// A file of `.pcache/` (view.h). `contents` is called on a thread of the mount's own that holds no
// lock, until the mount is unmounted.
struct ViewFile {
  std::string name;
  std::function<std::string()> contents;
};

struct MountOptions {
  std::string dir;          // absolute real path
  bool passthrough = true;  // use the kernel's passthrough when it can be had
  bool allow_other = true;  // where root or user_allow_other in fuse.conf allows
  // How long the kernel may keep names and attributes, in seconds. While no other way into the
  // lower tree exists than this mount and pcache's own replays (which invalidate), long is right.
  double cache_seconds = 1.0;
  std::vector<ViewFile> view;  // empty: there is no `.pcache/`
  // Where unfinished outputs of traced commands are noted (unfinished.h); "": nowhere.
  std::string unfinished;
};

enum class TreeOp : uint8_t {
  kOpenRead,
  kOpenWrite,
  kCreate,
  kRemove,
  kRename,
  kLink,
  kMakeDir,
  kSetAttr,
  kList
};

// Told of operations in the tree by thread id (0 where the kernel does not know), before the caller
// sees their outcome. What the kernel itself refuses (permissions, O_EXCL on a name it knows) is
// not told. A rename is told twice, by the old and the new name; a change of an inode with several
// names by each that is known. Called on FUSE threads: must not block, allocate little, and never
// touch the mount.
class TreeListener {
 public:
  virtual ~TreeListener() = default;
  virtual void on_tree_op(pid_t tid, TreeOp op, const std::string& rel, bool succeeded) = 0;
  // Whether `tid` dies with the daemon: what it creates is noted until it is whole.
  virtual bool is_traced(pid_t tid) = 0;
  // A served file is now an ordinary one: same inode number and mtime, but a new ctime, so stamps
  // taken before no longer match. Called on the worker.
  virtual void on_published(const std::string& /*rel*/, const store::Digest& /*contents*/,
                            const struct stat& /*st*/) {}
};

struct MountStatus {
  std::string dir;
  bool passthrough = false;
  uint64_t requests = 0;  // FUSE requests answered
  uint64_t nodes = 0;
  uint64_t served_pending = 0;  // files not published yet
  uint64_t served_bytes_pending = 0;
  uint64_t write_handles = 0;  // open handles that may write
};

class Mount : public store::Tree {
 public:
  // Mounts. A dead mount of pcache's own (ENOTCONN) found at `dir` is cleared first. Errors name
  // the directory, the reason and the remedy: no /dev/fuse, no fusermount3, not a directory,
  // already mounted, read-only file system.
  // `mended`: the names of files that commands killed with an earlier daemon had not finished; they
  // are removed.
  static Result<std::unique_ptr<Mount>> create(const MountOptions& options,
                                               std::vector<std::string>* mended = nullptr);
  ~Mount() override = default;

  // nullptr: none; returns when no thread is in the one before any more. Thread-safe.
  virtual void set_listener(TreeListener* listener) = 0;
  virtual MountStatus status() const = 0;
  // Drops every name and attribute the kernel keeps (a session starts).
  virtual void invalidate_all() = 0;
  // Waits until everything served is published, or `cancelled` returns true (asked every 50 ms).
  virtual Result<void> publish_all(const std::function<bool()>& cancelled) = 0;
  // publish_all, then unmounts and ends the threads. `lazy`: even when files are open (MNT_DETACH);
  // otherwise kBusy when the mount is in use.
  virtual Result<void> unmount(bool lazy) = 0;
  // Before commands are ended because the daemon stops: what they have not finished by now stays
  // noted, for mend_unfinished() after the mount has gone.
  virtual void keep_unfinished() = 0;
  // False once the mount was taken away from outside (umount, fusermount3 -u).
  virtual bool alive() const = 0;
};

// True where a FUSE mount whose daemon is dead sits on `dir` (its stat gives ENOTCONN).
bool is_dead_mount(const std::string& dir);
// Clears it (umount2 or fusermount3 -u -z).
Result<void> clear_dead_mount(const std::string& dir);
// Removes what the notes at `unfinished` name below `dir`, over which nothing is mounted.
std::vector<std::string> mend_unfinished(const std::string& dir, const std::string& unfinished);
// The mount point of a live or dead pcache mount on exactly `dir` as /proc/self/mountinfo has it.
bool is_pcache_mount(const std::string& dir);

}  // namespace pcache::fusefs
