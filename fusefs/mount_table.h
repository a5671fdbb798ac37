// What /proc/self/mountinfo and mount helpers know: pcache's mounts on a directory, dead or alive,
// and how to take them away.
#pragma once

#include <string>

#include "store/result.h"

namespace pcache::fusefs {

struct MountEntry {
  std::string dir, fs_type, source;
};
// The topmost mount on exactly `dir`; an empty dir where there is none.
MountEntry mount_on(const std::string& dir);

// Unmounts what is on top of `dir`: umount2 for root, else fusermount3. kBusy when it is in use.
Result<void> unmount_path(const std::string& dir, bool lazy);

// Path of fusermount3, or "".
std::string find_fusermount();

}  // namespace pcache::fusefs
