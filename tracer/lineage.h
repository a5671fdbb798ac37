// Lineage: the live map tid → process → execution.
//
// Guarded by the session's lock, but for has_thread(), which anyone may ask. Processes are thread
// groups; threads share descriptors and cwd, forks copy them.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <unordered_map>
#include <unordered_set>

#include "tracer/execution.h"
#include "tracer/stub.h"

namespace pcache::tracer {

// A standard stream as an execution was given it, and what it was to the execution's parent.
// Following dup() by tags (not by comparing descriptors) keeps stdout and stderr apart even where
// both lead to one pipe: `sh -c 'echo e >&2' 2>&1` replayed with stderr elsewhere must write to
// stderr.
struct StreamTag {
  ExecutionId execution = 0;
  int number = 0;  // 0, 1, 2 as `execution` knows it
  std::string link;
  bool checked = false, nonblocking = false;
  bool handed_on =
      false;  // the parent had it above 2: whoever was given `link` there wrote or read it
  std::shared_ptr<StreamTag> parent;
  uint32_t mode = 0;  // of a file: as it was at exec
  uint64_t size = 0;
};

// The answer to a kTerminal or kStream about it.
store::FactValue stream_value(store::FactKind kind, const StreamTag& tag);

struct Process {
  pid_t pid = 0;
  pid_t own_pid = 0;  // as it knows itself: another one in a namespace
  Execution* execution = nullptr;
  std::set<pid_t> threads;
  std::map<int, std::shared_ptr<StreamTag>> tags;  // by descriptor
  std::map<int, std::string> inherited;            // descriptors above 2 given at exec: links
  std::string cwd;                                 // "": to be asked for
  std::map<int, int> examined;  // by descriptor: how often its image has asked by fstat what it is
  std::string pending_exec;     // absolute canonical path named by the last execve
  std::optional<StubRun> stub;  // being skipped
  bool replaying = false;
  int expected_status = 0;  // of a skipped one
};

struct Thread {
  Process* process = nullptr;
  bool in_call = false;    // between the two stops of a traced call
  bool big_write = false;  // its last call wrote more than a pipe takes at once
  int written_fd = -1;     // what its last write went to
};

class Lineage {
 public:
  Process* process(pid_t pid);
  Process* process_of(pid_t tid);
  Process* by_own_pid(pid_t own_pid);
  Thread* thread(pid_t tid);
  Process& add_process(pid_t pid, Execution& execution);
  void add_thread(pid_t tid, Process& process);
  void remove_thread(pid_t tid);
  void remove_process(pid_t pid);  // with all its threads
  // An exec ends all threads but one, which takes over the leader's id.
  void keep_leader_only(Process& process);
  // Whether a process that was of `e`, and has ended, had this number (as it knew itself), which
  // nobody outside has by now: its parent has not waited for it yet, or nobody has it.
  bool was_of(const Execution& e, pid_t own_pid);
  size_t size() const { return processes_.size(); }
  bool contains(pid_t tid) const { return threads_.contains(tid); }
  std::vector<pid_t> pids() const;
  // A directory was renamed or removed: asks again where processes are.
  void ask_directories();
  // From any thread: waits for no lock that is held while anything waits.
  bool has_thread(pid_t tid) const;

 private:
  void drop_thread(pid_t tid);

  std::unordered_map<pid_t, std::unique_ptr<Process>> processes_;
  std::unordered_map<pid_t, Thread> threads_;
  // Of processes that ended, by own_pid: the process, and the executions it was of.
  struct Ended {
    pid_t pid;
    std::vector<uint64_t> executions;
  };
  std::unordered_map<pid_t, Ended> ended_;
  mutable std::mutex tids_lock_;  // a leaf: FUSE threads take it
  std::unordered_set<pid_t> tids_;
};

}  // namespace pcache::tracer
