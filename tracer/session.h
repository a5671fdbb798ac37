// Session: one traced command (`pcache run -- CMD`) from the handshake to its report.
//
// The client process connects and blocks; run() seizes it and calls `seized`, which tells the
// client to install the seccomp filter (filter_program()) and returns the listener it hands over;
// then `release` lets the client exec the command. In this order a failed seize leaves no filter
// behind, and the client can still run its command uncached. run() traces until the command and all
// its descendants have ended. One tracer thread a session (ptrace is bound to the thread): the one
// that calls run().
//
// A command that somebody typed in a mount was not started by pcache: it is seized while it is held
// in its exec (seize_held()), and followed by run_seized(). It shall survive the daemon, so there
// is no EXITKILL, and its filter has notifications only, whose listener has an heir.
#pragma once

#include <sys/types.h>

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "store/lists.h"
#include "store/match.h"
#include "store/result.h"
#include "store/store.h"
#include "store/tree.h"
#include "store/unique_fd.h"
#include "tracer/probe_hub.h"

namespace pcache::tracer {

enum class Outcome : uint8_t { kHit, kMiss, kUncacheable, kNotWorthIt };
const char* outcome_name(Outcome outcome);

struct ExecutionReport {
  uint64_t id = 0, parent = 0;  // parent 0: the command itself
  pid_t pid = 0;                // as the process itself knows it
  std::vector<std::string> argv;
  std::string cwd;
  Outcome outcome = Outcome::kMiss;
  std::vector<store::Reason> reasons;
  bool recorded = false;
  bool checked = false;                    // --check: it would have hit, and ran
  std::vector<store::Reason> differences;  // …and what it gave is not what is recorded
  int exit_status = 0;                     // 128 + signal when killed
  double cpu_s = 0, saved_s = 0;
  uint64_t facts = 0, effects = 0;
  uint64_t tree_ops = 0;  // requests to the mount
  uint64_t stops = 0;     // ptrace stops and seccomp notifications of its processes
  // From the session's start: its exec, and the end of its last process. 0: it has not ended.
  uint64_t start_us = 0, end_us = 0;
  store::Digest record;   // that was made, or hit
  store::Digest nearest;  // that the reasons of a miss compare with
};

struct SessionReport {
  std::vector<std::string> command;
  std::string root;        // of the mount
  int64_t started_ns = 0;  // CLOCK_REALTIME
  int exit_status = 0;
  double wall_s = 0;
  std::vector<ExecutionReport> executions;
  uint64_t hits = 0, misses = 0, uncacheable = 0;
  uint64_t checked = 0, different = 0;  // executions
  double saved_s = 0;
  uint64_t bytes_served = 0;
  std::string warning;  // "" or one line: why only running uncached was possible
};

// What a session is doing now, for `top`.
struct LiveExecution {
  uint64_t id = 0, parent = 0;
  pid_t pid = 0;
  std::vector<std::string> argv;  // its first words, as many as can be read at a glance
  std::string cwd;
  double running_s = 0;
  bool served = false;   // skipped: its process only writes what is recorded
  bool working = false;  // no execution inside it runs
};

struct LiveReport {
  uint64_t processes = 0;
  uint64_t executions = 0;  // that have ended
  uint64_t hits = 0, misses = 0, uncacheable = 0;
  double saved_s = 0;
  uint64_t bytes_served = 0;
  uint64_t open = 0;                   // executions that run
  std::vector<LiveExecution> running;  // those of them begun last, oldest first
};

class ListenerHeir;  // listener_heir.h
class Watcher;       // watcher.h

struct SessionOptions {
  bool read_only = false;  // hit, never record
  bool recache = false;    // record, never hit
  bool check = false;      // run what would hit, and compare
  bool cache_failures = false;
  bool pid_namespace = false;  // the command's processes have ids of their own, from 2 on
  Watcher* watcher = nullptr;  // is told of everything; then nothing hits and nothing is recorded
  // Never null; the same for the session's whole life.
  std::shared_ptr<const store::Lists> lists{std::shared_ptr<void>(), &store::Lists::defaults()};
  std::vector<std::string> command;  // for the report
  // Told of each path in the tree that a hit changed, for other sessions on it: the mount does not
  // see what a replay does. Called on the tracer thread; must not block.
  std::function<void(const std::string& rel)> replayed;
};

enum class FilterKind : uint8_t {
  kAlone,    // reports everything
  kWithHub,  // what a hub reports (probe_hub.h) passes
  kSeized,   // and what changes something is a notification: no call needs a tracer
};
// The classic BPF program (an array of struct sock_filter as bytes) the client installs with
// seccomp(SECCOMP_SET_MODE_FILTER, NEW_LISTENER | WAIT_KILLABLE_RECV) once it is seized.
// `given`: descriptors above 2 the command is started with; reading them is reported. `clocks`:
// reading the clock too (store::Lists::strict_clock).
Result<std::string> filter_program(const std::vector<int>& given, FilterKind kind, bool clocks);
// For a Watcher: every call that means something stops before and after.
Result<std::string> watch_filter_program();
// Those of a process that survive an exec.
std::vector<int> given_descriptors(pid_t pid);

// Attaches the calling thread to a process that is held in execve. Does not wait for it. Needs a
// kernel that opens the program before it takes the lock that ptrace needs (6.9); on another one it
// waits until the process goes on.
Result<void> seize_held(pid_t process);
// Waits until the process stops, for a moment at most, and detaches from it. On the thread that has
// seized it.
void let_go(pid_t process);
// Hands on what the one that this thread has seized was sent (Ctrl-C), until its session's own loop
// does so. False: it has ended.
bool pass_signals(pid_t process);

class Session {
 public:
  // `store` may be null: everything runs uncached, with a warning. Tree and store outlive the
  // session.
  // `feed`: where look-ups come from, or null for a filter that reports them too.
  static std::unique_ptr<Session> create(store::Tree& tree, store::Store* store,
                                         SessionOptions options,
                                         std::unique_ptr<ProbeHub::Feed> feed);
  virtual ~Session() = default;

  // `seized` must bound its wait for the client (5 s); its error detaches and is returned.
  // `finished` is called with the report when the command itself has ended, *before* its parent can
  // see the exit; descendants that outlive it are traced on until they end, then run() returns.
  virtual Result<void> run(pid_t client, const std::function<Result<UniqueFd>()>& seized,
                           const std::function<void()>& release,
                           const std::function<void(const SessionReport&)>& finished) = 0;
  // Of a process that this thread has seized in its exec; needs a feed. `wanted` is asked when the
  // new program is there, before its first instruction; when it says no, or the exec fails, or
  // nothing comes of it within 2 s, the process goes on without us. `finished`: as above.
  virtual Result<void> run_seized(pid_t process, ListenerHeir& heir,
                                  const std::function<bool()>& wanted,
                                  const std::function<void(const SessionReport&)>& finished) = 0;
  // An operation in the tree by thread `tid`, as the mount saw it (`changes`: it succeeded and
  // changed `rel`). Called on FUSE threads: only queues it. It is attributed to the execution the
  // thread belongs to; a change by a thread that is not traced spoils what has observed that path.
  virtual void tree_op(pid_t tid, bool changes, const std::string& rel) = 0;
  // Called on FUSE threads: takes no lock that is held while anything waits.
  virtual bool is_traced(pid_t tid) const = 0;
  // From another thread, when the daemon stops: sends the tracees `signal`.
  virtual void signal_all(int signal) = 0;
  // "ebpf" or "seccomp".
  virtual const char* probe_source() const = 0;
  // One line for `status`: processes alive, executions open, hits so far.
  virtual std::string status_line() const = 0;
  // From another thread. Copies little: the session waits meanwhile.
  virtual LiveReport live() const = 0;
};

}  // namespace pcache::tracer
