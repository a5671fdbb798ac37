// The ptrace loop: lineage, signals, traced calls, ends.
#include "tracer/session.h"

#include <linux/audit.h>
#include <signal.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <ctime>

#include "tracer/check.h"
#include "tracer/hub_source.h"
#include "tracer/traced_session.h"
#include "tracer/watcher.h"

namespace pcache::tracer {
namespace {

constexpr uintptr_t kOptions = kLineageOptions | PTRACE_O_TRACESECCOMP | PTRACE_O_EXITKILL;
constexpr int kSysGood = SIGTRAP | 0x80;
constexpr size_t kLiveExecutions = 200;  // more than a screen shows
constexpr size_t kLiveBytes = 1024;      // of one command line

int exit_code(int status) {
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

std::vector<std::string> first_words(const std::vector<std::string>& argv) {
  std::vector<std::string> words;
  size_t bytes = 0;
  for (const std::string& word : argv) {
    if (bytes >= kLiveBytes) break;
    words.push_back(word.substr(0, kLiveBytes - bytes));
    bytes += word.size() + 1;
  }
  return words;
}

// What one process says to another, or the terminal to all. Not what follows from what it does, nor
// being stopped and continued.
bool is_message(int signal) {
  return signal == SIGINT || signal == SIGTERM || signal == SIGHUP || signal == SIGQUIT ||
         signal == SIGUSR1 || signal == SIGUSR2 || signal >= SIGRTMIN;
}

uint64_t cpu_of(const rusage& usage) {
  const auto ns = [](const timeval& t) {
    return static_cast<uint64_t>(t.tv_sec) * 1'000'000'000 +
           static_cast<uint64_t>(t.tv_usec) * 1000;
  };
  return ns(usage.ru_utime) + ns(usage.ru_stime);
}

}  // namespace

int64_t monotonic_now_ns() {
  timespec now;
  ::clock_gettime(CLOCK_MONOTONIC, &now);
  return now.tv_sec * 1'000'000'000LL + now.tv_nsec;
}

const char* outcome_name(Outcome outcome) {
  switch (outcome) {
    case Outcome::kHit:
      return "hit";
    case Outcome::kMiss:
      return "miss";
    case Outcome::kUncacheable:
      return "uncacheable";
    case Outcome::kNotWorthIt:
      return "not_worth_it";
  }
  return "?";
}

TracedSession::TracedSession(store::Tree& tree, store::Store& store, SessionOptions options,
                             std::unique_ptr<ProbeHub::Feed> feed)
    : options_(std::move(options)),
      store_(store),
      observer_(tree, store),
      ledger_(observer_),
      resolver_(observer_),
      spool_(store.dir()),
      interpreter_(lock_, lineage_, ledger_, resolver_, spool_),
      recorder_(ledger_, spool_),
      images_(observer_),
      feed_(std::move(feed)),
      with_hub_(feed_ != nullptr),
      daemon_is_root_(::geteuid() == 0) {
  report_.command = options_.command;
}

std::unique_ptr<Session> Session::create(store::Tree& tree, store::Store* store,
                                         SessionOptions options,
                                         std::unique_ptr<ProbeHub::Feed> feed) {
  if (store == nullptr) return nullptr;
  return std::make_unique<TracedSession>(tree, *store, std::move(options), std::move(feed));
}

Result<void> TracedSession::seize(pid_t client) {
  if (::ptrace(PTRACE_SEIZE, client, nullptr, kOptions) != 0)
    return system_error("cannot trace process " + std::to_string(client));
  return {};
}

Result<void> TracedSession::run(pid_t client, const std::function<Result<UniqueFd>()>& seized,
                                const std::function<void()>& release,
                                const std::function<void(const SessionReport&)>& finished) {
  ::setpriority(PRIO_PROCESS, static_cast<id_t>(::syscall(SYS_gettid)), kTracerNice);
  PCACHE_TRY(seize(client));
  for (const OpenFd& open : open_fds(Tid{client})) leaked_.insert(open.link);
  Result<UniqueFd> listener = seized();
  if (!listener) {
    let_go(client);
    return tl::make_unexpected(std::move(listener).error());
  }
  begin(client, std::make_unique<SeccompSource>(std::move(*listener), sink()));
  release();
  loop(client, finished);
  source_.reset();
  return {};
}

void TracedSession::begin(pid_t client, std::unique_ptr<ProbeSource> synchronous) {
  started_ns_ = monotonic_now_ns();
  {
    const std::lock_guard guard(lock_);
    name_itself(lineage_.add_process(client, ledger_.session()));
  }
  if (feed_) {
    source_ =
        std::make_unique<HubSource>(std::move(feed_), std::move(synchronous), interpreter_, lock_);
    const std::lock_guard guard(lock_);
    interpreter_.drain_first(source_.get());
  } else {
    source_ = std::move(synchronous);
  }
  watch(Tid{client}, ledger_.session());
}

void TracedSession::loop(pid_t client, const std::function<void(const SessionReport&)>& finished) {
  bool reported = false;
  const auto finish = [&](int exit_status) {
    SessionReport report;
    {
      const std::lock_guard guard(lock_);
      report_.exit_status = exit_status;
      report = make_report();
    }
    reported = true;
    finished(report);
  };
  while (true) {
    siginfo_t info{};
    rusage usage{};
    // Peek first: until the end of a process is taken, its parent cannot see it.
    if (::syscall(SYS_waitid, P_ALL, 0, &info, WEXITED | WSTOPPED | __WALL | __WNOTHREAD | WNOWAIT,
                  &usage) != 0) {
      if (errno == EINTR) continue;
      break;  // ECHILD: nobody is left
    }
    const pid_t tid = info.si_pid;
    const bool ended =
        info.si_code == CLD_EXITED || info.si_code == CLD_KILLED || info.si_code == CLD_DUMPED;
    if (ended) {
      const int status =
          info.si_code == CLD_EXITED ? (info.si_status & 0xff) << 8 : info.si_status & 0x7f;
      on_exit(Tid{tid}, status, cpu_of(usage));
      if (tid == client) finish(exit_code(status));
      int ignored = 0;
      ::waitpid(tid, &ignored, __WALL | __WNOTHREAD);
      continue;
    }
    int status = 0;
    const pid_t got = ::waitpid(tid, &status, __WALL | __WNOTHREAD | WNOHANG);
    if (got != tid || !WIFSTOPPED(status)) continue;
    on_stop(Tid{tid}, status);
  }
  if (!reported) finish(0);  // it was left alone
}

CallSink& TracedSession::sink() {
  if (options_.watcher != nullptr) return *options_.watcher;
  return interpreter_;
}

void TracedSession::resume(Tid tid, int signal) {
  ::ptrace(PTRACE_CONT, tid.value, nullptr, static_cast<uintptr_t>(signal));
}

void TracedSession::resume_to_call_exit(Tid tid) {
  ::ptrace(PTRACE_SYSCALL, tid.value, nullptr, nullptr);
}

void TracedSession::on_stop(Tid tid, int status) {
  const int signal = WSTOPSIG(status);
  const int event = status >> 16;
  switch (event) {
    case PTRACE_EVENT_FORK:
    case PTRACE_EVENT_VFORK:
    case PTRACE_EVENT_CLONE:
      on_new_child(tid, event);
      return resume(tid);
    case PTRACE_EVENT_EXEC:
      on_exec(tid);
      return resume(tid);
    case PTRACE_EVENT_SECCOMP:
      return on_seccomp_stop(tid);
    case PTRACE_EVENT_STOP: {
      // A new child's first stop, or a group stop that must be kept.
      const bool group =
          signal == SIGSTOP || signal == SIGTSTP || signal == SIGTTIN || signal == SIGTTOU;
      {
        const std::lock_guard guard(lock_);
        if (!lineage_.contains(tid.value)) {
          early_children_.insert(tid.value);
          adopt_orphans();
          return;  // until its parent's event tells whose it is
        }
      }
      if (group)
        ::ptrace(PTRACE_LISTEN, tid.value, nullptr, nullptr);
      else
        resume(tid);
      return;
    }
    default:
      break;
  }
  if (signal == kSysGood) return on_call_exit(tid);
  on_signal_stop(tid, signal);
}

void TracedSession::name_itself(Process& process) const {
  if (options_.pid_namespace) process.own_pid = innermost_pid(Tid{process.pid});
}

void TracedSession::watch(Tid tid, const Execution& e) {
  // Of python's imports the order counts.
  const bool all = e.is_session() || e.imports != nullptr;
  if (!source_->watch(tid, all ? 0 : static_cast<uint32_t>(e.id)))
    ledger_.refuse_all("events-lost", "a thread could not be followed");
}

void TracedSession::on_new_child(Tid parent, int event) {
  unsigned long message = 0;
  if (::ptrace(PTRACE_GETEVENTMSG, parent.value, nullptr, &message) != 0) return;
  const Tid child{static_cast<pid_t>(message)};
  const std::lock_guard guard(lock_);
  interpreter_.drain();  // what the parent has closed the child does not have
  Process* owner = lineage_.process_of(parent.value);
  if (owner == nullptr) return;
  ++owner->execution->stops;
  bool thread = false;
  if (event == PTRACE_EVENT_CLONE) {
    const std::optional<Credentials> who = read_credentials(child);
    thread = who && who->tgid == owner->pid;
  }
  if (thread) {
    lineage_.add_thread(child.value, *owner);
  } else {
    Process& process = lineage_.add_process(child.value, *owner->execution);
    name_itself(process);
    process.tags = owner->tags;
    process.inherited = owner->inherited;
    process.cwd = owner->cwd;
    process.examined = owner->examined;
    ++process.execution->live;
    interpreter_.mark_descriptors(process);
  }
  watch(child, *owner->execution);
  if (options_.watcher != nullptr) options_.watcher->on_fork(parent, child, thread);
  if (early_children_.erase(child.value) != 0) resume(child);
}

// Who says something to a command by a signal is as much an input of it as a file: what it leaves
// when it was told to stop half-way, with exit status 0, is not what it leaves by itself.
void TracedSession::signalled(Tid tid, const Process& process, int signal) {
  siginfo_t info{};
  if (::ptrace(PTRACE_GETSIGINFO, tid.value, nullptr, &info) != 0) return;
  const bool sent = info.si_code == SI_USER || info.si_code == SI_TKILL || info.si_code == SI_QUEUE;
  if (!sent && info.si_code != SI_KERNEL) return;  // a timer's, for instance
  const Process* sender = nullptr;
  if (sent)
    sender = process.own_pid != process.pid ? lineage_.by_own_pid(info.si_pid)
                                            : lineage_.process_of(info.si_pid);
  for (Execution* a = process.execution; !a->is_session(); a = a->parent) {
    if (sent &&
        (sender != nullptr ? sender->execution->within(*a) : lineage_.was_of(*a, info.si_pid)))
      return;
    ledger_.refuse(*a, "signals", "",
                   "signal " + std::to_string(signal) + " came from outside of it", false);
  }
}

void TracedSession::on_signal_stop(Tid tid, int signal) {
  {
    const std::lock_guard guard(lock_);
    Thread* thread = lineage_.thread(tid.value);
    if (thread != nullptr) {
      Process& process = *thread->process;
      ++process.execution->stops;
      if (process.replaying && process.stub && signal == SIGTRAP) {
        if (!process.stub->feed(tid)) {
          // The recorded stream can't be read any more, after its effects were applied.
          ::kill(process.pid, SIGKILL);
        }
        return resume(tid);
      }
      if (is_message(signal)) signalled(tid, process, signal);
      if (signal == SIGPIPE)
        interpreter_.writing_failed(*thread, "stream-closed", "nobody read what it wrote");
      if (thread->big_write) interpreter_.drain();  // it may have done other things since
      if (thread->big_write)
        interpreter_.writing_failed(*thread, "stream-uncertain",
                                    "a signal came while it was writing");
    }
  }
  resume(tid, signal);
}

void TracedSession::on_seccomp_stop(Tid tid) {
  __ptrace_syscall_info info{};
  if (::ptrace(static_cast<__ptrace_request>(PTRACE_GET_SYSCALL_INFO), tid.value, sizeof info,
               &info) <= 0 ||
      info.op != PTRACE_SYSCALL_INFO_SECCOMP)
    return resume(tid);
  std::array<uint64_t, 6> args{};
  for (size_t i = 0; i < args.size(); ++i) args[i] = info.seccomp.args[i];
  CallEvent event = make_event(tid, info.arch, info.seccomp.nr, args);
  sink().on_call(event);
  if (event.foreign) return resume(tid);
  traced_calls_[tid.value] = std::move(event);
  resume_to_call_exit(tid);
}

void TracedSession::on_call_exit(Tid tid) {
  __ptrace_syscall_info info{};
  if (::ptrace(static_cast<__ptrace_request>(PTRACE_GET_SYSCALL_INFO), tid.value, sizeof info,
               &info) <= 0)
    return resume(tid);
  const auto found = traced_calls_.find(tid.value);
  if (info.op == PTRACE_SYSCALL_INFO_ENTRY && found != traced_calls_.end())
    return resume_to_call_exit(tid);
  if (found != traced_calls_.end() && info.op == PTRACE_SYSCALL_INFO_EXIT) {
    sink().on_result(found->second, info.exit.rval);
    traced_calls_.erase(found);
  }
  resume(tid);
}

void TracedSession::tree_op(pid_t tid, bool changes, const std::string& rel) {
  const std::lock_guard guard(tree_lock_);
  tree_ops_.push_back({tid, changes, changes ? rel : std::string()});
}

void TracedSession::take_tree_ops() {
  std::vector<TreeOperation> operations;
  {
    const std::lock_guard guard(tree_lock_);
    operations.swap(tree_ops_);
  }
  for (const TreeOperation& operation : operations) {
    if (const Process* process = lineage_.process_of(operation.tid))
      ++process->execution->tree_ops;
    else if (operation.changes && operation.tid != 0)
      ledger_.changed_outside(TreePath{operation.rel});
  }
}

void TracedSession::on_exit(Tid tid, int status, uint64_t cpu_ns) {
  const std::lock_guard guard(lock_);
  interpreter_.drain();
  source_->forget(tid);
  take_tree_ops();
  traced_calls_.erase(tid.value);
  early_children_.erase(tid.value);
  Process* process = lineage_.process(tid.value);
  if (options_.watcher != nullptr)
    options_.watcher->on_exit(tid, status, cpu_ns, process == nullptr);
  if (process == nullptr) {
    lineage_.remove_thread(tid.value);
    return;
  }
  process_ended(*process, status, cpu_ns);
  adopt_orphans();
}

// A parent killed inside fork() never tells of its child.
void TracedSession::adopt_orphans() {
  for (auto child = early_children_.begin(); child != early_children_.end();) {
    const Tid tid{*child};
    const std::optional<Credentials> who = read_credentials(tid);
    if (who &&
        (lineage_.process(who->parent) != nullptr || lineage_.process(who->tgid) != nullptr)) {
      ++child;
      continue;
    }
    child = early_children_.erase(child);
    if (!who) continue;
    ledger_.refuse_all("lineage-lost", "a process was killed while it forked");
    name_itself(lineage_.add_process(tid.value, ledger_.session()));
    ++ledger_.session().live;
    watch(tid, ledger_.session());
    resume(tid);
  }
}

void TracedSession::process_ended(Process& process, int status, uint64_t cpu_ns) {
  Execution* e = process.execution;
  const pid_t pid = process.pid;
  if (process.replaying && exit_code(status) != process.expected_status && e->parent != nullptr)
    ledger_.refuse(*e->parent, "replay-cut", "", "a skipped command could not write its output",
                   true);
  source_->mark(pid, 0);
  lineage_.remove_process(pid);
  --e->live;
  // The same process is the main one of every execution of an exec chain.
  for (Execution* a = e; !a->is_session() && a->main_pid == pid; a = a->parent) {
    a->main_exited = true;
    a->status = status;
    a->cpu_ns = cpu_ns;
    if (a->live > (a == e ? 0 : 1))
      ledger_.refuse(*a, "outlived", "", "processes it started were still running when it ended",
                     false);
  }
  close_if_ended(e);
}

void TracedSession::close_if_ended(Execution* e) {
  while (!e->is_session() && e->live == 0) {
    Execution* parent = e->parent;
    finish_execution(*e);
    parent->nested += 1 + e->nested;
    ledger_.forget(*e);
    --parent->live;
    e = parent;
  }
}

std::vector<store::Reason> TracedSession::check(const Execution& e) const {
  std::shared_ptr<const store::Record> made;
  if (e.recorded) {  // the record just put is the first candidate
    const auto candidates = store_.candidates(e.weak.digest);
    if (candidates && !candidates->empty())
      if (const auto record = store_.record(candidates->front().strong)) made = *record;
  }
  return compare_with_record(e, exit_code(e.status), *e.would_hit, made.get(), observer_, spool_);
}

void TracedSession::finish_execution(Execution& e) {
  e.ended_ns = monotonic_now_ns();
  interpreter_.drain();
  interpreter_.end_imports(e);
  interpreter_.end_shared_memory(e);
  if (!e.hit) {
    const int code = exit_code(e.status);
    if (e.status != 0 && !(options_.cache_failures && WIFEXITED(e.status)))
      ledger_.refuse(e, WIFSIGNALED(e.status) ? "killed" : "failed", "",
                     WIFSIGNALED(e.status) ? "by signal " + std::to_string(WTERMSIG(e.status))
                                           : "exit status " + std::to_string(code),
                     false);
    if (options_.read_only)
      ledger_.refuse(e, "read-only", "", "--read-only records nothing", false);
    recorder_.record(e);
    for (const store::Reason& reason : e.refusals)
      if (reason.code == "input-changed") resolver_.forget_all();
  }
  ExecutionReport report;
  if (e.would_hit) {
    report.checked = true;
    report.differences = check(e);
    ++report_.checked;
    report_.different += report.differences.empty() ? 0 : 1;
  }
  report.id = e.id;
  report.parent = e.parent->is_session() ? 0 : e.parent->id;
  report.pid = e.own_pid;
  report.argv = e.image.argv;
  report.cwd = e.cwd;
  report.exit_status = exit_code(e.status);
  report.recorded = e.recorded;
  report.cpu_s = static_cast<double>(e.cpu_ns) / 1e9;
  report.saved_s = static_cast<double>(e.saved_ns) / 1e9;
  report.facts = static_cast<uint64_t>(std::count_if(
      e.facts.begin(), e.facts.end(), [](const ObservedFact& f) { return !f.removed; }));
  report.effects = e.hit || e.recorded ? e.effect_count : Recorder::count_changes(e);
  report.stops = e.stops;
  report.tree_ops = e.tree_ops;
  report.start_us = since_start_us(e.started_ns);
  report.end_us = since_start_us(e.ended_ns);
  report.record = e.record;
  report.nearest = e.nearest;
  if (e.hit) {
    report.outcome = Outcome::kHit;
    ++report_.hits;
    ++hits_;
  } else {
    report.outcome = e.refusals.empty() ? Outcome::kMiss : Outcome::kUncacheable;
    report.reasons = e.refusals;
    report.reasons.insert(report.reasons.end(), e.misses.begin(), e.misses.end());
    ++(e.refusals.empty() ? report_.misses : report_.uncacheable);
  }
  report_.saved_s += report.saved_s;
  report_.bytes_served += e.bytes_served;
  report_.executions.push_back(std::move(report));
}

uint64_t TracedSession::since_start_us(int64_t ns) const {
  return ns <= started_ns_ ? 0 : static_cast<uint64_t>(ns - started_ns_) / 1000;
}

SessionReport TracedSession::make_report() const {
  SessionReport report = report_;
  // What outlives the command has no outcome yet, and never a record.
  for (const Execution* e : ledger_.open_executions()) {
    ExecutionReport open;
    open.id = e->id;
    open.parent = e->parent->is_session() ? 0 : e->parent->id;
    open.pid = e->own_pid;
    open.argv = e->image.argv;
    open.cwd = e->cwd;
    open.outcome = Outcome::kUncacheable;
    open.reasons = e->refusals;
    if (open.reasons.empty()) open.reasons.push_back({"outlived", "", "it is still running"});
    open.exit_status = e->main_exited ? exit_code(e->status) : 0;
    open.stops = e->stops;
    open.start_us = since_start_us(e->started_ns);
    report.executions.push_back(std::move(open));
    ++report.uncacheable;
  }
  const int64_t wall_ns = monotonic_now_ns() - started_ns_;
  report.wall_s = static_cast<double>(wall_ns) / 1e9;
  report.root = ledger_.observer().tree().root();
  report.started_ns = store::realtime_ns() - wall_ns;
  std::sort(report.executions.begin(), report.executions.end(),
            [](const ExecutionReport& a, const ExecutionReport& b) { return a.id < b.id; });
  return report;
}

void TracedSession::signal_all(int signal) {
  const std::lock_guard guard(lock_);
  for (const pid_t pid : lineage_.pids()) ::kill(pid, signal);
}

std::string TracedSession::status_line() const {
  const std::lock_guard guard(lock_);
  return std::to_string(lineage_.size()) + " processes, " + std::to_string(ledger_.open_count()) +
         " open executions, " + std::to_string(hits_.load()) + " hits";
}

LiveReport TracedSession::live() const {
  const std::lock_guard guard(lock_);
  LiveReport live;
  live.processes = lineage_.size();
  live.executions = report_.executions.size();
  live.hits = report_.hits;
  live.misses = report_.misses;
  live.uncacheable = report_.uncacheable;
  live.saved_s = report_.saved_s;
  live.bytes_served = report_.bytes_served;
  std::vector<const Execution*> open = ledger_.open_executions();
  live.open = open.size();
  std::sort(open.begin(), open.end(),
            [](const Execution* a, const Execution* b) { return a->id < b->id; });
  std::set<ExecutionId> waiting;
  for (const Execution* e : open)
    if (!e->parent->is_session()) waiting.insert(e->parent->id);
  const int64_t now_ns = monotonic_now_ns();
  for (size_t i = open.size() - std::min(open.size(), kLiveExecutions); i < open.size(); ++i) {
    const Execution& e = *open[i];
    live.running.push_back(
        {e.id, e.parent->is_session() ? 0 : e.parent->id, e.own_pid, first_words(e.image.argv),
         e.cwd, static_cast<double>(now_ns - e.started_ns) / 1e9, e.hit, !waiting.contains(e.id)});
  }
  return live;
}

}  // namespace pcache::tracer
