// What /proc/self/mountinfo and mount helpers know: pcache's mounts on a directory, dead or alive,
// and how to take them away.
#pragma once

#include <string>

#include "store/result.h"
#include "store/unique_fd.h"

namespace pcache::fusefs {

struct MountEntry {
  std::string dir, fs_type, source;
};
// The topmost mount on exactly `dir`; an empty dir where there is none.
MountEntry mount_on(const std::string& dir);

// Mounts a new FUSE file system of type fuse.pcache on `dir` (root: mount(2), else fusermount3) and
// gives the descriptor its requests come from. Errors name the directory, the reason and the
// remedy.
Result<UniqueFd> mount_fuse(const std::string& dir, bool allow_other);

// Unmounts what is on top of `dir`: umount2 for root, else fusermount3. kBusy when it is in use.
Result<void> unmount_path(const std::string& dir, bool lazy);

// Path of fusermount3, or "".
std::string find_fusermount();

}  // namespace pcache::fusefs
