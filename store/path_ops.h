// Path operations that never follow a symbolic link: the system calls under LowerTree (a root
// descriptor and a relative path that must stay below it) and Observer (AT_FDCWD and an absolute
// path, for what lies outside the tree). Not even a directory on the way may be a link: ELOOP.
//
// Functions return 0 or a positive errno. Thread-safe, without state. They run some thousand times
// for each compiler run, so each is as few system calls as it can be.
#pragma once

#include <sys/stat.h>
#include <sys/statfs.h>

#include <string>
#include <vector>

#include "store/tree.h"
#include "store/unique_fd.h"

namespace pcache::store::path_ops {

// Where a path starts: `beneath` forbids leaving the directory of `fd`.
struct Base {
  int fd;
  bool beneath;
};

// While one of these lives, the functions below open each directory once on this thread and reach
// names through it: one call instead of three, none for what lies in a directory that is not there.
// Answers are then of a moment between its beginning and the call. Scopes nest; only the outermost
// counts.
class DirectoryScope {
 public:
  DirectoryScope();
  ~DirectoryScope();
  DirectoryScope(const DirectoryScope&) = delete;
  DirectoryScope& operator=(const DirectoryScope&) = delete;
};

int open(Base base, const char* path, int flags, UniqueFd* fd);
int open_path(Base base, const char* path, UniqueFd* fd);  // O_PATH; a link itself at the end
int stat(Base base, const char* path, struct stat* st);    // lstat
int open_read(Base base, const char* path, UniqueFd* fd);
int read_link(Base base, const char* path, std::string* target);
int list(Base base, const char* path, std::vector<DirEntry>* entries);
int get_xattr(Base base, const char* path, const std::string& name, std::string* value);
int list_xattr(Base base, const char* path, std::string* names);
int statfs(Base base, const char* path, struct statfs* buf);
// faccessat with the real ids; of an O_PATH descriptor.
int access(Base base, const char* path, int bits);
int access(int fd, int bits);

}  // namespace pcache::store::path_ops
