// TracedSession: the ptrace loop and the decision at each exec. See session.h for the contract.
//
// Two threads: the tracer thread (run()) and the probe source's. Both take lock_ around everything
// they do to lineage, ledger, resolver and spool. Waiting for tracees is done without it.
#pragma once

#include <sys/ptrace.h>

#include <atomic>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <unordered_map>
#include <vector>

#include "tracer/image_reader.h"
#include "tracer/interpreter.h"
#include "tracer/ledger.h"
#include "tracer/lineage.h"
#include "tracer/listener_heir.h"
#include "tracer/lookup.h"
#include "tracer/probe_source.h"
#include "tracer/recorder.h"
#include "tracer/resolver.h"
#include "tracer/session.h"
#include "tracer/spool.h"

namespace pcache::tracer {

// What tells of forks, threads and execs.
inline constexpr uintptr_t kLineageOptions = PTRACE_O_TRACEFORK | PTRACE_O_TRACEVFORK |
                                             PTRACE_O_TRACECLONE | PTRACE_O_TRACEEXEC |
                                             PTRACE_O_TRACESYSGOOD;
inline constexpr int kTracerNice = -15;  // measured: the cheapest gain there is

class TracedSession : public Session {
 public:
  TracedSession(store::Tree& tree, store::Store& store, SessionOptions options,
                std::unique_ptr<ProbeHub::Feed> feed);

  Result<void> run(pid_t client, const std::function<Result<UniqueFd>()>& seized,
                   const std::function<void()>& release,
                   const std::function<void(const SessionReport&)>& finished) override;
  Result<void> run_seized(pid_t process, ListenerHeir& heir, const std::function<bool()>& wanted,
                          const std::function<void(const SessionReport&)>& finished) override;
  void tree_op(pid_t tid, bool changes, const std::string& rel) override;
  bool is_traced(pid_t tid) const override { return lineage_.has_thread(tid); }
  void signal_all(int signal) override;
  std::string status_line() const override;
  LiveReport live() const override;
  const char* probe_source() const override { return with_hub_ ? "ebpf" : "seccomp"; }

 private:
  // --- session.cc: the loop ---
  Result<void> seize(pid_t client);
  bool needs_filter(pid_t pid);
  Result<void> add_filter(pid_t process, ListenerHeir& heir);
  void begin(pid_t client, std::unique_ptr<ProbeSource> synchronous);
  void loop(pid_t client, const std::function<void(const SessionReport&)>& finished);
  void on_stop(Tid tid, int status);
  void on_new_child(Tid parent, int event);
  void on_exit(Tid tid, int status, uint64_t cpu_ns);
  void on_signal_stop(Tid tid, int signal);
  void signalled(Tid tid, const Process& process, int signal);
  void on_seccomp_stop(Tid tid);
  void on_call_exit(Tid tid);
  CallSink& sink();  // who is told of calls
  void resume(Tid tid, int signal = 0);
  void resume_to_call_exit(Tid tid);
  void process_ended(Process& process, int status, uint64_t cpu_ns);
  void leave_alone(Process& process);
  void adopt_orphans();
  void close_if_ended(Execution* e);
  void finish_execution(Execution& e);
  std::vector<store::Reason> check(const Execution& e) const;
  SessionReport make_report() const;
  uint64_t since_start_us(int64_t ns) const;
  void name_itself(Process& process) const;
  void watch(Tid tid, const Execution& e);  // from its next call on, as one of it
  void take_tree_ops();  // before a thread is forgotten, and before a record is made

  // --- exec_decision.cc ---
  void on_exec(Tid tid);
  void describe_descriptors(Execution& e, Process& process);
  void describe_image(Execution& e, Process& process, const ReadImage& image);
  std::optional<store::Reason> refuse_at_start(const Execution& e, const ReadImage& image) const;
  bool try_hit(Execution& e, Process& process);
  bool replay(Execution& e, Process& process, const store::Record& record);
  void apply_to_ancestors(Execution& e, Process& process, const store::Record& record,
                          const std::unordered_map<TreePath, Before, store::TreePathHash>& before,
                          const std::unordered_map<TreePath, std::vector<store::DirEntry>,
                                                   store::TreePathHash>& listings);

  SessionOptions options_;
  store::Store& store_;
  store::Observer observer_;
  mutable std::mutex lock_;
  Lineage lineage_;
  Ledger ledger_;
  Resolver resolver_;
  Spool spool_;
  Interpreter interpreter_;
  Recorder recorder_;
  ImageReader images_;
  std::unique_ptr<ProbeHub::Feed> feed_;  // until run() makes a source of it
  const bool with_hub_;
  std::unique_ptr<ProbeSource> source_;
  std::unique_ptr<ListenerHeir::Share> share_;  // of a seized process's listener
  bool seized_ = false;                         // nobody dies with us

  struct TreeOperation {
    pid_t tid;
    bool changes;
    std::string rel;
  };
  std::mutex tree_lock_;  // a leaf: FUSE threads take it
  std::vector<TreeOperation> tree_ops_;

  std::set<pid_t> early_children_;                     // stopped before their parent's event
  std::unordered_map<pid_t, CallEvent> traced_calls_;  // between entry and exit
  std::set<std::string> leaked_;                       // descriptors the client was given
  SessionReport report_;
  int64_t started_ns_ = 0;
  bool daemon_is_root_ = false;
  std::atomic<uint64_t> hits_{0};
};

int64_t monotonic_now_ns();

}  // namespace pcache::tracer
