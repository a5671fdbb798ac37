#include "cli/daemon/thread_dump.h"

#include <dirent.h>
#include <execinfo.h>
#include <fmt/format.h>
#include <semaphore.h>
#include <signal.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <fstream>
#include <string>
#include <vector>

#include "cli/daemon/log.h"

namespace pcache::cli {
namespace {

sem_t dumped;

int dump_signal() { return SIGRTMIN + 4; }

void write_own_stack() {
  void* frames[64];
  const int n = ::backtrace(frames, 64);
  ::backtrace_symbols_fd(frames, n, STDERR_FILENO);
}

void on_dump(int) {
  const int saved = errno;
  write_own_stack();
  ::sem_post(&dumped);
  errno = saved;
}

void on_crash(int signal) {
  static const char kText[] = "pcached crashed; the failing thread's stack:\n";
  (void)!::write(STDERR_FILENO, kText, sizeof kText - 1);
  write_own_stack();
  ::raise(signal);  // SA_RESETHAND: the default action, with its core
}

std::string first_line(const std::string& path) {
  std::ifstream file(path);
  std::string line;
  std::getline(file, line);
  return line;
}

std::vector<pid_t> thread_ids() {
  std::vector<pid_t> ids;
  DIR* dir = ::opendir("/proc/self/task");
  if (dir == nullptr) return ids;
  while (const struct dirent* entry = ::readdir(dir)) {
    if (const pid_t id = std::atoi(entry->d_name); id > 0) ids.push_back(id);
  }
  ::closedir(dir);
  return ids;
}

bool answered_in_time() {
  struct timespec deadline {};
  ::clock_gettime(CLOCK_REALTIME, &deadline);
  deadline.tv_nsec += 200'000'000;
  deadline.tv_sec += deadline.tv_nsec / 1'000'000'000;
  deadline.tv_nsec %= 1'000'000'000;
  while (::sem_timedwait(&dumped, &deadline) != 0) {
    if (errno != EINTR) return false;
  }
  return true;
}

}  // namespace

void install_dump_handlers() {
  ::sem_init(&dumped, 0, 0);
  void* frame[1];
  ::backtrace(frame, 1);  // loads libgcc now: a handler must not
  struct sigaction action {};
  action.sa_handler = on_dump;
  action.sa_flags = SA_RESTART;
  ::sigaction(dump_signal(), &action, nullptr);
  action.sa_handler = on_crash;
  action.sa_flags = SA_RESETHAND | SA_NODEFER;
  for (const int signal : {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGABRT}) {
    ::sigaction(signal, &action, nullptr);
  }
}

void dump_all_threads() {
  log_line("stacks of all threads:");
  for (const pid_t id : thread_ids()) {
    const std::string task = fmt::format("/proc/self/task/{}", id);
    log_line(fmt::format("thread {} ({})", id, first_line(task + "/comm")));
    while (::sem_trywait(&dumped) == 0) {
    }
    if (::syscall(SYS_tgkill, ::getpid(), id, dump_signal()) != 0) continue;
    if (!answered_in_time()) {
      log_line(fmt::format("  stuck in the kernel: wchan {}, syscall {}, {}",
                           first_line(task + "/wchan"), first_line(task + "/syscall"),
                           first_line(task + "/stat")));
    }
  }
  log_line("end of stacks");
}

}  // namespace pcache::cli
