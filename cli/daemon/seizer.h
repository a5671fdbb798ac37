// Seizer: learns of the commands that are started in a mount by processes that nobody traces, and
// seizes them before they begin, so that `pcache mount` alone is enough where it is permitted.
//
// fanotify holds each exec of a marked program (those of the setting `seize`, and whatever lies in
// the mount) until it is answered. An exec that is none of ours is let go at once; for one that
// starts a command, a thread is made, which seizes the process, answers, and becomes the tracer
// thread of its session. The answer never takes longer than kPatience: what is not seized by then
// runs uncached. The kernel answers by itself when the daemon dies.
//
// Thread-safe. Needs CAP_SYS_ADMIN, and a kernel that opens a program before it takes the lock that
// ptrace needs (6.9).
#pragma once

#include <sys/types.h>

#include <atomic>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "store/result.h"
#include "store/unique_fd.h"

namespace pcache::cli {

class Seizer {
 public:
  struct Command {
    pid_t pid = 0;
    std::string mount;  // that its working directory is in
  };
  struct Callbacks {
    // On a thread of its own, right after the process was seized by this thread; it is still held
    // until `seized` is called, and by ptrace from then on.
    std::function<void(const Command& command)> run;
    // Whether a session of ours has this thread. Must not wait.
    std::function<bool(pid_t tid)> is_traced;
    // Starts a thread that the daemon waits for when it ends.
    std::function<void(std::function<void()> work)> start;
  };

  explicit Seizer(Callbacks callbacks);
  ~Seizer();
  Seizer(const Seizer&) = delete;
  Seizer& operator=(const Seizer&) = delete;

  // `programs`: names to be found along `path`. An error says why nothing is seized there.
  Result<void> watch(const std::string& mount, const std::vector<std::string>& programs,
                     const std::string& path);
  void forget(const std::string& mount);
  bool watches(const std::string& mount);
  // Commands that could not be seized in time, and ran uncached.
  uint64_t late() const { return late_; }
  // Nothing is seized from now on.
  void stop();

 private:
  struct Held;
  Result<void> begin();
  void loop();
  void take_events();
  void decide(pid_t tid, UniqueFd event);
  std::string mount_of(pid_t tid);
  void answer(Held& held);
  int answer_late();  // milliseconds until the next one is due; -1: none is

  const Callbacks callbacks_;
  UniqueFd group_, stop_;
  std::atomic<uint64_t> late_{0};
  std::thread thread_;
  std::vector<std::shared_ptr<Held>> held_;  // of the loop's thread

  std::mutex mutex_;                                        // guards what follows
  std::map<std::string, std::vector<std::string>> mounts_;  // the programs marked for each
};

}  // namespace pcache::cli
