// Guardian: a small process beside the daemon that makes its death harmless.
//
// It is the heir of every listener (tracer/listener_heir.h): when the daemon has died, or is
// through with a process that it had seized, the guardian lets that process's calls go on. And it
// is the daemon's watchdog: a frozen daemon holds everything that it traces and every exec that
// fanotify asks it about, so one that gives no sign of life is killed, which frees them all.
//
// It is the program pcached itself, started by the first `pcache mount` that seizes; it ends when
// the daemon has ended and no filter is left. Thread-safe.
#pragma once

#include <sys/types.h>

#include <memory>
#include <mutex>

#include "store/result.h"
#include "store/unique_fd.h"
#include "tracer/listener_heir.h"

namespace pcache::cli {

class Guardian : public tracer::ListenerHeir {
 public:
  // Starts the process where it does not run yet.
  Result<void> begin();
  // A sign of life; due every kHeartbeat while begin() has been called.
  void beat();
  bool runs();
  Result<std::unique_ptr<Share>> share(int listener) override;

  static constexpr int kHeartbeatMs = 2000;

 private:
  class Shared;
  std::mutex mutex_;
  UniqueFd socket_;
  uint64_t last_id_ = 0;
};

// The guardian's own main: `socket` leads to the daemon, process `daemon`.
int run_guardian(int socket, pid_t daemon);

}  // namespace pcache::cli
