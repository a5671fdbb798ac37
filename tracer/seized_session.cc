// Commands that nobody has started by pcache: seized in their exec, given a filter of
// notifications, and left alone where tracing them would be wrong.
#include <signal.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <thread>

#include "tracer/hub_source.h"
#include "tracer/inject_filter.h"
#include "tracer/traced_session.h"

namespace pcache::tracer {
namespace {

constexpr std::chrono::seconds kExecPatience{2};

}  // namespace

Result<void> seize_held(pid_t process) {
  if (::ptrace(PTRACE_SEIZE, process, nullptr, kLineageOptions) != 0)
    return system_error("cannot trace process " + std::to_string(process));
  return {};
}

void let_go(pid_t process) {
  int status = 0;
  ::ptrace(PTRACE_INTERRUPT, process, nullptr, nullptr);
  if (::waitpid(process, &status, __WALL) != process || !WIFSTOPPED(status)) return;
  const bool signal = status >> 16 == 0 && WSTOPSIG(status) != SIGTRAP;
  ::ptrace(PTRACE_DETACH, process, nullptr, static_cast<uintptr_t>(signal ? WSTOPSIG(status) : 0));
}

bool pass_signals(pid_t process) {
  int status = 0;
  while (::waitpid(process, &status, __WALL | WNOHANG) == process) {
    if (!WIFSTOPPED(status)) return false;
    if (status >> 16 == PTRACE_EVENT_STOP) {  // SIGSTOP, SIGTSTP: until SIGCONT
      ::ptrace(PTRACE_LISTEN, process, nullptr, nullptr);
    } else {
      ::ptrace(PTRACE_CONT, process, nullptr, static_cast<uintptr_t>(WSTOPSIG(status)));
    }
  }
  return true;
}

namespace {

// The first stop of a process that was seized in its exec: whether it is that of its new program.
bool wait_for_exec(pid_t process) {
  const auto end = std::chrono::steady_clock::now() + kExecPatience;
  std::chrono::microseconds pause{20};
  int status = 0;
  while (true) {
    const pid_t got = ::waitpid(process, &status, __WALL | WNOHANG);
    if (got == process) break;
    if (got < 0 && errno != EINTR) return false;
    if (std::chrono::steady_clock::now() >= end) {
      let_go(process);
      return false;
    }
    std::this_thread::sleep_for(pause);
    pause = std::min(pause * 2, std::chrono::microseconds{1000});
  }
  if (!WIFSTOPPED(status)) return false;
  if (status >> 16 == PTRACE_EVENT_EXEC) return true;
  const bool signal = status >> 16 == 0;
  ::ptrace(PTRACE_DETACH, process, nullptr, static_cast<uintptr_t>(signal ? WSTOPSIG(status) : 0));
  return false;
}

}  // namespace

Result<void> TracedSession::run_seized(pid_t process, ListenerHeir& heir,
                                       const std::function<bool()>& wanted,
                                       const std::function<void(const SessionReport&)>& finished) {
  ::setpriority(PRIO_PROCESS, static_cast<id_t>(::syscall(SYS_gettid)), kTracerNice);
  if (!wait_for_exec(process)) return {};
  const auto detach = [&] { ::ptrace(PTRACE_DETACH, process, nullptr, nullptr); };
  if (!with_hub_ || !wanted()) {
    detach();
    return {};
  }
  seized_ = true;
  report_.command = read_proc_list(Tid{process}, "cmdline");
  for (const OpenFd& open : open_fds(Tid{process})) leaked_.insert(open.link);
  feed_->tell_results();
  interpreter_.results_come_later();
  begin(process, nullptr);
  on_exec(Tid{process});
  Result<void> done;
  if (needs_filter(process)) {
    done = add_filter(process, heir);
    if (!done) {
      detach();
      return done;
    }
  }
  resume(Tid{process});
  loop(process, finished);
  source_.reset();
  share_.reset();
  return {};
}

// What is skipped does nothing that has to be followed, and what was left alone is gone.
bool TracedSession::needs_filter(pid_t pid) {
  const std::lock_guard guard(lock_);
  const Process* process = lineage_.process(pid);
  return process != nullptr && !process->replaying;
}

Result<void> TracedSession::add_filter(pid_t process, ListenerHeir& heir) {
  PCACHE_ASSIGN(const std::string program,
                filter_program(given_descriptors(process), FilterKind::kSeized,
                               options_.lists->strict_clock));
  PCACHE_ASSIGN(UniqueFd listener, inject_filter(Tid{process}, program));
  PCACHE_ASSIGN(share_, heir.share(listener.get()));
  static_cast<HubSource&>(*source_).add(
      std::make_unique<SeccompSource>(std::move(listener), sink(), share_->received()));
  return {};
}

// Only where no filter keeps it from living without us.
void TracedSession::leave_alone(Process& process) {
  Execution* e = process.execution;
  const pid_t pid = process.pid;
  ledger_.refuse(*e, "traces-itself", "",
                 e->image_name + " traces processes itself, and was left to do so", true);
  source_->mark(pid, 0);
  source_->forget(Tid{pid});
  lineage_.remove_process(pid);
  --e->live;
  ::ptrace(PTRACE_DETACH, pid, nullptr, nullptr);
  close_if_ended(e);
}

}  // namespace pcache::tracer
