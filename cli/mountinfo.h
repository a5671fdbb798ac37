// The mount table as /proc/self/mountinfo has it. Reading it touches no mounted file system, so it
// is safe with dead FUSE mounts and inside the daemon.
#pragma once

#include <sys/types.h>

#include <optional>
#include <string>
#include <vector>

namespace pcache::cli {

struct MountEntry {
  std::string dir;
  std::string type;  // "fuse.pcache", "ext4"…
  std::string source;
  dev_t device = 0;

  bool is_pcache() const;
};

std::vector<MountEntry> read_mounts();  // in the order of mounting

// The innermost pcache mount that holds `path`, going by names only.
std::optional<MountEntry> pcache_mount_of(const std::string& path);

// A path in a mount whose daemon is gone: everything there fails with ENOTCONN. Asks the daemon of
// a live mount, so pcached must not ask for a mount of its own.
bool is_dead(const std::string& path);
// A killed daemon's mount lives on while the kernel takes its memory down: waits up to three
// seconds for it to be dead.
bool dies_soon(const std::string& dir);

}  // namespace pcache::cli
