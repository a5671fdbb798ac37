// Journal: how to take back what a replay has done so far.
//
// Each change is announced before it is made (created() right after); undo() goes backwards and
// does what it can: it runs when something is wrong already. Removed files are held by a
// descriptor: one that has other names is linked again, any other is written anew with its mode,
// owner, attributes and times. Contents are copied before they are truncated. Times of directories
// that merely hold what was changed are not restored: they have no meaning for facts.
//
// Functions return 0 or an errno. Used by one thread, for one replay.
#pragma once

#include <sys/stat.h>

#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "store/observer.h"
#include "store/unique_fd.h"

namespace pcache::store {

using Xattrs = std::vector<std::pair<std::string, std::string>>;

// Open directories of a replay: outputs come many to a directory.
class Parents {
 public:
  explicit Parents(const Observer& observer) : observer_(observer) {}
  // `*fd` stays owned by this and is valid until the next call or forget().
  int get(const TreePath& path, int* fd, std::string* name);
  void forget(const TreePath& directory);  // it and what is below it

 private:
  const Observer& observer_;
  std::unordered_map<std::string, UniqueFd> open_;
};

class Journal {
 public:
  Journal(const Observer& observer, Parents& parents) : observer_(observer), parents_(parents) {}

  int before_unlink(const TreePath& path, int parent, const std::string& name,
                    const struct stat& st);
  void before_rmdir(const TreePath& path, const struct stat& st);
  int before_truncate(const TreePath& path, int parent, int fd, const struct stat& st);
  int before_meta(const TreePath& path, int path_fd, const struct stat& st, bool with_xattrs);
  void before_drop(const TreePath& path, const Digest& served, const struct stat& st);
  void created(const TreePath& path, bool directory);
  void served(const TreePath& path);

  void undo();

 private:
  enum class Kind : uint8_t {
    kUnlinked,
    kRemovedDir,
    kTruncated,
    kMeta,
    kDropped,
    kCreated,
    kCreatedDir,
    kServed
  };
  struct Entry {
    Kind kind;
    TreePath path;
    struct stat st {};
    UniqueFd held;    // kUnlinked: the file; kTruncated: the copy; kMeta: O_PATH
    UniqueFd target;  // kTruncated: the file itself
    std::string text;
    Xattrs xattrs;
    bool with_xattrs = false;
    Digest digest;
  };

  void undo_one(Entry& entry);
  void restore_unlinked(const Entry& entry, int parent, const std::string& name);
  void restore_truncated(const Entry& entry);
  void restore_meta(const Entry& entry);
  void restore_dropped(const Entry& entry);

  const Observer& observer_;
  Parents& parents_;
  std::vector<Entry> entries_;
};

// The system calls that replay and undo share. 0 or an errno; `path_fd` may be O_PATH.
int copy_bytes(int from, int to, uint64_t size);  // from offset 0 of `from` to the offset of `to`
int change_mode(int path_fd, mode_t mode);
int read_xattrs(int path_fd, Xattrs* xattrs);
int set_xattr(int path_fd, const std::string& name, const std::string& value);
int remove_xattr(int path_fd, const std::string& name);

}  // namespace pcache::store
