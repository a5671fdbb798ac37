// The working directory and the project it belongs to, also where the mount under it has died.
#pragma once

#include <string>

#include "cli/locations.h"
#include "store/result.h"

namespace pcache::cli {

// The real path of the working directory. Where it lies in a dead mount of pcache's own ("." and
// getcwd give ENOTCONN), the daemon clears that mount and $PWD is entered again.
Result<std::string> enter_working_dir(const Locations& locations);

// `path` from the root, by names alone: works in dead mounts too.
std::string absolute_path(const std::string& path);

// Clears the dead pcache mounts that hold `path` or are on it, by the daemon.
Result<void> clear_dead_mounts(const Locations& locations, const std::string& path);

// The real path of an existing directory; the error names it and the remedy.
Result<std::string> real_directory(const Locations& locations, const std::string& dir);

// What `run` and `shell` mount when no pcache mount holds `cwd`: `root_option` when given, else the
// nearest parent that holds .git, else `cwd` itself; "/" and the home directory are refused then.
Result<std::string> choose_root(const Locations& locations, const std::string& cwd,
                                const std::string& root_option);

}  // namespace pcache::cli
