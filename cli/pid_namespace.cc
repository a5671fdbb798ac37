#include "cli/pid_namespace.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <cstring>
#include <optional>

#include "cli/client.h"
#include "cli/commands.h"
#include "store/unique_fd.h"

namespace pcache::cli {
namespace {

// How CMD fares, from init to pcache: it stopped, or it ended with this wait status.
struct News {
  bool ended;
  int status;
};

// Of the processes above CMD nobody waits for the end of a pipe: they hold none of its files.
void let_go_of_files(int keep) {
  const UniqueFd null(::open("/dev/null", O_RDWR | O_CLOEXEC));
  for (int fd = 0; fd <= 2; ++fd)
    if (null) (void)::dup2(null.get(), fd);
  if (keep > 3) (void)::syscall(SYS_close_range, 3u, static_cast<unsigned>(keep - 1), 0u);
  (void)::syscall(SYS_close_range, static_cast<unsigned>(keep + 1), ~0u, 0u);
}

UniqueFd all_signals(sigset_t* before) {
  sigset_t all;
  ::sigfillset(&all);
  // A fault of our own must not be waited for.
  for (const int number : {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGABRT})
    ::sigdelset(&all, number);
  ::sigprocmask(SIG_SETMASK, &all, before);
  return UniqueFd(::signalfd(-1, &all, SFD_CLOEXEC));
}

std::optional<signalfd_siginfo> next_signal(const UniqueFd& signals) {
  signalfd_siginfo info{};
  if (::read(signals.get(), &info, sizeof info) != static_cast<ssize_t>(sizeof info))
    return std::nullopt;
  return info;
}

// Signals of the terminal and of job control reach CMD by themselves: it is in the same process
// group.
bool is_sent_to_us(const signalfd_siginfo& info) {
  return info.ssi_signo != SIGCHLD && info.ssi_code <= 0;  // SI_USER, SI_QUEUE, SI_TKILL…
}

void tell(int to, News news) { (void)!::write(to, &news, sizeof news); }

// Takes what has ended or stopped. True once CMD has ended; then the namespace may go.
bool reap(pid_t command, int news) {
  int status = 0;
  while (true) {
    const pid_t pid = ::waitpid(-1, &status, WNOHANG | WUNTRACED | __WALL);
    if (pid <= 0) return pid < 0 && errno == ECHILD;
    if (pid != command) continue;
    if (WIFSTOPPED(status)) {
      tell(news, {false, status});
      continue;
    }
    tell(news, {true, status});
    return true;
  }
}

// Process 1. Signals that it is sent from within are nobody's business, as with any init.
[[noreturn]] void be_init(int news, const std::function<int()>& command, const char* name) {
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  struct pollfd reader = {news, POLLOUT, 0};
  if (::poll(&reader, 1, 0) > 0 && (reader.revents & POLLERR) != 0) ::_exit(kPcacheFailed);
  sigset_t before;
  UniqueFd signals = all_signals(&before);
  const pid_t child = ::fork();
  if (child == 0) {
    ::sigprocmask(SIG_SETMASK, &before, nullptr);
    signals.reset();
    ::close(news);
    const int status = command();
    std::fflush(nullptr);
    ::_exit(status);
  }
  if (child < 0) ::_exit(kPcacheFailed);
  ::prctl(PR_SET_NAME, name);
  // Away from the terminal: what it sends is CMD's.
  (void)::setpgid(0, 0);
  signals.reset();
  let_go_of_files(news);
  signals = all_signals(&before);
  while (!reap(child, news)) {
    const auto info = next_signal(signals);
    if (info && is_sent_to_us(*info) && info->ssi_pid == 0)
      (void)::kill(child, static_cast<int>(info->ssi_signo));
  }
  ::_exit(0);
}

// As CMD ended: with its status, or by its signal.
int end_as(int status) {
  if (WIFEXITED(status)) return WEXITSTATUS(status);
  const int number = WTERMSIG(status);
  const struct rlimit no_core = {0, 0};  // it is CMD that has left one
  ::setrlimit(RLIMIT_CORE, &no_core);
  ::signal(number, SIG_DFL);
  sigset_t one;
  ::sigemptyset(&one);
  ::sigaddset(&one, number);
  ::sigprocmask(SIG_UNBLOCK, &one, nullptr);
  ::kill(::getpid(), number);
  return 128 + number;
}

// Until CMD has ended, or init was killed: its wait status.
int stand_in(pid_t init, const UniqueFd& news, const UniqueFd& signals) {
  while (true) {
    struct pollfd events[] = {{news.get(), POLLIN, 0}, {signals.get(), POLLIN, 0}};
    if (::poll(events, 2, -1) < 0) continue;
    if (events[1].revents != 0) {
      const auto info = next_signal(signals);
      if (info && is_sent_to_us(*info)) (void)::kill(init, static_cast<int>(info->ssi_signo));
    }
    if (events[0].revents == 0) continue;
    News what{};
    const ssize_t n = ::read(news.get(), &what, sizeof what);
    if (n == static_cast<ssize_t>(sizeof what) && !what.ended) {
      ::kill(::getpid(), SIGSTOP);  // the shell is told; SIGCONT comes to CMD as to us
      continue;
    }
    int status = 0;
    while (::waitpid(init, &status, 0) < 0 && errno == EINTR) continue;
    if (n == static_cast<ssize_t>(sizeof what)) return what.status;
    return WIFEXITED(status) && WEXITSTATUS(status) == 0 ? kPcacheFailed << 8 : status;
  }
}

Result<void> write_map(const char* file, const std::string& text) {
  const UniqueFd fd(::open(file, O_WRONLY | O_CLOEXEC));
  if (!fd || ::write(fd.get(), text.data(), text.size()) != static_cast<ssize_t>(text.size()))
    return system_error(fmt::format("cannot write {}", file));
  return {};
}

constexpr const char* kUserRemedy =
    "let ordinary users have user namespaces (as root: `sysctl -w "
    "kernel.unprivileged_userns_clone=1`"
    " on Debian, `sysctl -w kernel.apparmor_restrict_unprivileged_userns=0` on Ubuntu, in a "
    "container start it with --security-opt seccomp=unconfined), or run this as root";

Error refused(const std::string& what, int error, const std::string& remedy) {
  return Error{ErrorKind::kUnsupported, 0,
               fmt::format("--pid-namespace: {}: {}; {}", what, std::strerror(error), remedy)};
}

Result<void> open_user_namespace() {
  const uid_t uid = ::geteuid();
  const gid_t gid = ::getegid();
  // A thread that has just ended may still be counted for a moment.
  int failed = ::unshare(CLONE_NEWUSER);
  for (int attempt = 0; failed != 0 && errno == EINVAL && attempt < 100; ++attempt) {
    ::usleep(10'000);
    failed = ::unshare(CLONE_NEWUSER);
  }
  if (failed != 0) {
    if (errno == ENOSPC || errno == EUSERS)
      return tl::make_unexpected(
          refused("no user namespace is left", errno,
                  "allow more (as root: `sysctl -w user.max_user_namespaces=15000`)"));
    return tl::make_unexpected(refused("the kernel refuses a user namespace", errno, kUserRemedy));
  }
  const auto mapped = write_map("/proc/self/setgroups", "deny")
                          .and_then([&] {
                            return write_map("/proc/self/uid_map", fmt::format("{0} {0} 1\n", uid));
                          })
                          .and_then([&] {
                            return write_map("/proc/self/gid_map", fmt::format("{0} {0} 1\n", gid));
                          });
  if (!mapped)
    return tl::make_unexpected(
        refused(mapped.error().context, mapped.error().sys_errno, kUserRemedy));
  return {};
}

}  // namespace

Result<void> open_pid_namespace() {
  const bool root = ::geteuid() == 0;
  if (!root) PCACHE_TRY(open_user_namespace());
  if (::unshare(CLONE_NEWPID) == 0) return {};
  if (errno == ENOSPC)
    return tl::make_unexpected(
        refused("no process namespace is left", errno,
                "allow more (as root: `sysctl -w user.max_pid_namespaces=15000`)"));
  return tl::make_unexpected(
      refused("the kernel refuses a process namespace", errno,
              root ? "it needs CAP_SYS_ADMIN (a container: start it with --cap-add SYS_ADMIN)"
                   : kUserRemedy));
}

Result<void> mount_own_proc() {
  if (::unshare(CLONE_NEWNS) != 0)
    return tl::make_unexpected(refused("the kernel refuses a mount namespace", errno,
                                       "it needs CAP_SYS_ADMIN (a container: start it with "
                                       "--cap-add SYS_ADMIN)"));
  // Mounts outside come and go here too, but this one stays here. ("/" is no mount in a chroot, and
  // /proc is none where it was never mounted.)
  if ((::mount(nullptr, "/proc", nullptr, MS_REC | MS_SLAVE, nullptr) == 0 ||
       ::mount(nullptr, "/", nullptr, MS_REC | MS_SLAVE, nullptr) == 0) &&
      ::mount("proc", "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, nullptr) == 0)
    return {};
  return tl::make_unexpected(
      refused("/proc cannot be mounted anew", errno,
              "in a container part of /proc is hidden: start it with --security-opt "
              "systempaths=unconfined"));
}

int run_in_pid_namespace(const std::function<int()>& command, const char* init_name) {
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) return fail("cannot make a pipe", kPcacheFailed);
  // Above the standard streams, which may be closed.
  UniqueFd news(::fcntl(ends[0], F_DUPFD_CLOEXEC, 3)), to_us(::fcntl(ends[1], F_DUPFD_CLOEXEC, 3));
  ::close(ends[0]);
  ::close(ends[1]);
  if (!news || !to_us) return fail("cannot make a pipe", kPcacheFailed);
  std::fflush(nullptr);
  const pid_t init = ::fork();
  if (init < 0) {
    return fail(
        std::string("--pid-namespace: cannot start a process in it: ") + std::strerror(errno),
        kPcacheFailed);
  }
  if (init == 0) {
    news.reset();
    be_init(to_us.release(), command, init_name);
  }
  to_us.reset();
  let_go_of_files(news.get());
  sigset_t before;
  const UniqueFd signals = all_signals(&before);
  return end_as(stand_in(init, news, signals));
}

}  // namespace pcache::cli
