// Observer: answers a fact's question from the file system as it is now.
//
// In-root paths go through the Tree (never the mounted path), others through openat2 with
// RESOLVE_NO_SYMLINKS from "/": if a directory on the way has become a link, the answer is ELOOP,
// which equals no recorded value. Values are seen with the daemon's credentials, which are the
// caller's (records are made only for executions of the daemon's own user).
//
// Thread-safe as far as Tree and Store are.
#pragma once

#include <sys/stat.h>

#include <string>

#include "store/fact.h"
#include "store/path_ops.h"
#include "store/store.h"
#include "store/tree.h"

namespace pcache::store {

// Hold one while the facts of one lookup are answered on this thread: directories outside the tree
// (and in a LowerTree) are then opened once, which halves the cost. Keep it for milliseconds, and
// not over a replay.
class ObservationPass {
 public:
  ObservationPass() = default;

 private:
  path_ops::DirectoryScope scope_;
};

class Observer {
 public:
  Observer(Tree& tree, Store& store) : tree_(tree), store_(store) {}

  // kTerminal, kStream, kStdin and kAffinity are about a process, not a path: the caller answers
  // them; asked here they give err = ENOSYS. `weak` is needed for kReplaced ("own" outputs); may be
  // empty.
  FactValue observe(const FactKey& key, const Digest& weak) const;

  // The parts observe() is made of, for callers that have more to do. Each returns 0 or an errno.
  int stat(const TreePath& path, struct stat* st) const;  // lstat
  int open_read(const TreePath& path, UniqueFd* fd) const;
  int read_link(const TreePath& path, std::string* target) const;
  int list(const TreePath& path, std::vector<DirEntry>* entries) const;
  int open_parent(const TreePath& path, UniqueFd* parent, std::string* name) const;
  // Content hash of a regular file (served digests and the memo first). An error is an errno > 0.
  int content_hash(const TreePath& path, const struct stat& st, Digest* digest) const;

  // Values from a stat that was taken already.
  static FactValue identity_value(const struct stat& st, uint32_t param);
  static FactValue kind_value(const struct stat& st);
  static FactValue content_value(const struct stat& st, const Digest& hash);
  static FactValue listing_value(const std::vector<DirEntry>& entries,
                                 const std::vector<std::string>& left_out, uint32_t param);
  FactValue replaced_value(const FactKey& key, int stat_errno, const struct stat& st,
                           const Digest& weak) const;

  Tree& tree() const { return tree_; }
  Store& store() const { return store_; }

 private:
  Tree& tree_;
  Store& store_;
};

// Whether a listing with kImportable keeps the entry: modules, packages, and what tells of
// installed ones (*.dist-info, *.pth…).
bool is_importable(const DirEntry& entry);

char entry_type(mode_t mode);  // 'f','d','l','p','s','c','b'

}  // namespace pcache::store
