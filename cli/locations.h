// Where pcache keeps its files: PCACHE_DIR, and the socket of the daemon that serves it.
//
// The socket lies in $XDG_RUNTIME_DIR or, where that is missing, not writable or too long for a
// socket's name, in /tmp/pcache-<uid>, a directory that must belong to the user with mode 0700. The
// daemon writes the socket's path into daemon.pid, so that it is found from another environment too
// (a cron job without XDG_RUNTIME_DIR).
#pragma once

#include <string>

#include "store/result.h"

namespace pcache::cli {

struct Locations {
  std::string dir;             // PCACHE_DIR: absolute, links resolved as far as it exists
  std::string socket;          // where a daemon started now listens
  bool socket_in_tmp = false;  // its directory is made and removed by the daemon

  std::string store() const { return dir + "/store"; }
  std::string pid_file() const { return dir + "/daemon.pid"; }
  std::string log() const { return dir + "/daemon.log"; }
  // Notes of what commands are writing below the mount `dir` (fusefs/unfinished.h).
  std::string unfinished(const std::string& mount) const;
  std::string socket_dir() const { return socket.substr(0, socket.rfind('/')); }

  // Reads the environment; touches no file. Fails without PCACHE_DIR, XDG_CACHE_HOME and a home.
  static Result<Locations> find();
};

// A directory for sockets in /tmp is trusted only if it is the user's own and private.
Result<void> check_private_dir(const std::string& dir);

// `path` is `dir` or lies below it; both canonical.
bool is_inside(const std::string& path, const std::string& dir);

}  // namespace pcache::cli
