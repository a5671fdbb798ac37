// Who keeps a mount busy, as far as /proc shows it to this user.
#pragma once

#include <string>
#include <vector>

namespace pcache::cli {

// "bash (pid 812): its working directory is /x/src". Processes that were in the directory before it
// was mounted do not count: they are below the mount.
std::vector<std::string> users_of_mount(const std::string& dir, size_t limit);

}  // namespace pcache::cli
