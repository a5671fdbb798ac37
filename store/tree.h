// Tree: the working tree below the mount's root, as pcache itself reads and changes it.
//
// pcache must never touch the mounted path: a daemon thread that does waits for itself. All access
// goes through a descriptor of the lower directory opened before mounting. `rel` is a TreePath text
// of a path in the root ("" is the root); no component but the last may be a symbolic link
// (openat2 with RESOLVE_BENEATH|RESOLVE_NO_SYMLINKS), and the last is never followed.
//
// Functions return 0 or a positive errno unless they say otherwise. Thread-safe. None of them may
// be called with a lock held that a FUSE handler takes.
//
// LowerTree is the plain implementation; fusefs::Mount adds served files: names that exist in the
// mount only, until a worker has published them.
#pragma once

#include <sys/stat.h>
#include <sys/statfs.h>

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "store/digest.h"
#include "store/result.h"
#include "store/unique_fd.h"

namespace pcache::store {

struct DirEntry {
  char type;  // 'f','d','l','p','s','c','b'
  std::string name;
};

// A directory at the root of a mount that pcache makes up (fusefs/view.h).
inline constexpr std::string_view kOwnView = ".pcache";

class Tree {
 public:
  virtual ~Tree() = default;

  virtual const std::string& root() const = 0;  // absolute, real path
  virtual int lower_fd() const = 0;             // directory descriptor of the root; borrowed

  // --- observation ---
  virtual int stat(const std::string& rel, struct stat* st) const = 0;  // lstat
  virtual int open_read(const std::string& rel,
                        UniqueFd* fd) const = 0;  // regular files, directories
  virtual int read_link(const std::string& rel, std::string* target) const = 0;
  virtual int list(const std::string& rel,
                   std::vector<DirEntry>* entries) const = 0;  // no . and ..
  virtual int get_xattr(const std::string& rel, const std::string& name,
                        std::string* value) const = 0;
  virtual int list_xattr(const std::string& rel, std::string* names) const = 0;
  virtual int statfs(const std::string& rel, struct statfs* buf) const = 0;
  // The content hash of a served file (known without reading it); nothing for others.
  virtual std::optional<Digest> served_digest(const std::string& rel) const = 0;

  // Whether kOwnView is there and pcache's own: whoever looks at it, or through it, finds what is
  // neither below nor ever the same.
  virtual bool shows_own_view() const { return false; }

  // --- replay (any thread but a FUSE one) ---
  // Opens the parent directory of `rel` for *at() calls and gives the last component.
  virtual int open_parent(const std::string& rel, UniqueFd* parent, std::string* name) const = 0;
  // If `rel` is served: makes it an ordinary file first (needed before renaming, linking, chmod…).
  virtual int publish(const std::string& rel) = 0;
  // If `rel` is served: forgets it, as unlink does. True if there was one.
  virtual bool drop_served(const std::string& rel) = 0;
  // Brings a large file back under a name that only the mount has. The name must be free (after
  // drop_served/unlink). Its mtime is the kernel's now. ENOTSUP: write the file at once instead.
  virtual int serve(const std::string& rel, const Digest& blob, UniqueFd blob_fd, uint64_t size,
                    mode_t mode) = 0;
  // Tells the kernel that the name and the attributes behind `rel` have changed, and its
  // directory's attributes. Cheap; call it for everything that was changed below the mount.
  virtual void invalidate(const std::string& rel) = 0;
};

class LowerTree : public Tree {
 public:
  // `lower` must be a directory descriptor of `root`, opened before anything is mounted over it.
  LowerTree(std::string root, UniqueFd lower);

  const std::string& root() const override { return root_; }
  int lower_fd() const override { return lower_.get(); }
  int stat(const std::string& rel, struct stat* st) const override;
  int open_read(const std::string& rel, UniqueFd* fd) const override;
  int read_link(const std::string& rel, std::string* target) const override;
  int list(const std::string& rel, std::vector<DirEntry>* entries) const override;
  int get_xattr(const std::string& rel, const std::string& name, std::string* value) const override;
  int list_xattr(const std::string& rel, std::string* names) const override;
  int statfs(const std::string& rel, struct statfs* buf) const override;
  std::optional<Digest> served_digest(const std::string&) const override { return std::nullopt; }
  int open_parent(const std::string& rel, UniqueFd* parent, std::string* name) const override;
  int publish(const std::string&) override { return 0; }
  bool drop_served(const std::string&) override { return false; }
  int serve(const std::string&, const Digest&, UniqueFd, uint64_t, mode_t) override;
  void invalidate(const std::string&) override {}

 private:
  std::string root_;
  UniqueFd lower_;
};

}  // namespace pcache::store
