// Claim: what makes this process *the* daemon of a PCACHE_DIR: a locked daemon.pid and the socket.
//
// The lock is held for the daemon's life. One that stops closes its socket first and lets go of the
// lock last, when its store is closed and its mounts are gone; so whoever gets the lock may open
// them.
#pragma once

#include <memory>
#include <string>

#include "cli/locations.h"
#include "store/result.h"
#include "store/unique_fd.h"

namespace pcache::cli {

class Claim {
 public:
  // Waits while another daemon stops (a minute at most). Nothing when one is running and answers.
  static Result<std::unique_ptr<Claim>> make(const Locations& locations);
  ~Claim();

  int listener() const { return listener_.get(); }
  const std::string& socket() const { return locations_.socket; }
  void stop_listening();  // closes and removes the socket

 private:
  explicit Claim(Locations locations) : locations_(std::move(locations)) {}
  Result<void> listen();
  void write_pid();

  const Locations locations_;
  std::string lock_path_;
  UniqueFd lock_;
  UniqueFd listener_;
};

// PCACHE_DIR with its parents, 0700.
Result<void> make_cache_dir(const std::string& dir);

}  // namespace pcache::cli
