// UnfinishedFiles: which files traced commands are writing, in a place that outlives the daemon.
//
// When the daemon is killed, the commands it traces die with it (EXITKILL) and what they were
// writing stays cut, or empty: the next make would take it for a finished output. So each file that
// a traced command creates or truncates is noted when it is opened and struck out when the last
// writer of that open has closed it; whoever clears the dead mount removes what is still noted, as
// the command itself would have done on a signal.
//
// The file is an array of slots of kSlotBytes: used (u32, 0 or 1), length of the name (u32), device
// and inode (u64 each), the name below the root. Native byte order: it never leaves the machine.
// Thread-safe; called on FUSE threads, costs one pwrite. Nothing here fails: what cannot be noted
// is not noted.
#pragma once

#include <sys/stat.h>

#include <atomic>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

#include "store/tree.h"
#include "store/unique_fd.h"

namespace pcache::fusefs {

class UnfinishedFiles {
 public:
  // Makes `path` anew. An empty path: notes nothing.
  explicit UnfinishedFiles(std::string path);
  ~UnfinishedFiles();  // a clean end: removes the file
  UnfinishedFiles(const UnfinishedFiles&) = delete;
  UnfinishedFiles& operator=(const UnfinishedFiles&) = delete;

  // The slot, or -1.
  int begin(std::string_view rel, const struct stat& st);
  void end(int slot);
  // The daemon stops and ends its commands: from now on nothing is struck out, and the notes stay.
  void keep() { kept_ = true; }

  // Removes below `tree` what the notes at `path` name and that is still the same file, then the
  // notes. Gives the names removed.
  static std::vector<std::string> mend(const std::string& path, const store::Tree& tree);

 private:
  const std::string path_;
  UniqueFd file_;
  std::mutex mutex_;
  std::atomic<bool> kept_{false};
  std::vector<int> free_;
  int next_ = 0;
};

}  // namespace pcache::fusefs
