#include "cli/daemon/server.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <algorithm>
#include <thread>

#include "cli/daemon/log.h"
#include "cli/daemon/thread_dump.h"

namespace pcache::cli {
namespace {

constexpr std::chrono::milliseconds kPatience{3000};  // with commands, when the daemon stops

}  // namespace

namespace {

store::Limits limits_of(const Settings& settings) {
  return {settings.size("max_size"), settings.number("min_free") / 100};
}

}  // namespace

Server::Server(const Locations& locations, std::unique_ptr<Claim> claim, const Settings& settings)
    : locations_(locations),
      claim_(std::move(claim)),
      settings_(settings),
      idle_(static_cast<int64_t>(settings.number("idle_s") * 1000)),
      mounts_(
          locations, [this] { wake(); }, view_files()),
      store_(locations, limits_of(settings)),
      probes_(settings.text("probes")),
      seizer_({[this](const Seizer::Command& command) { run_seized(command); },
               [this](pid_t tid) { return sessions_.is_traced(tid); },
               [this](std::function<void()> work) { start_worker(nullptr, std::move(work)); }}) {
  sigset_t handled;
  ::sigemptyset(&handled);
  for (const int signal : {SIGTERM, SIGINT, SIGHUP, SIGUSR1}) ::sigaddset(&handled, signal);
  ::pthread_sigmask(SIG_BLOCK, &handled, nullptr);  // inherited by every thread
  ::signal(SIGPIPE, SIG_IGN);
  signals_.reset(::signalfd(-1, &handled, SFD_CLOEXEC | SFD_NONBLOCK));
  wake_.reset(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  mountinfo_.reset(::open("/proc/self/mountinfo", O_RDONLY | O_CLOEXEC));
}

void Server::wake() {
  const uint64_t one = 1;
  (void)!::write(wake_.get(), &one, sizeof one);
}

void Server::run() {
  log_line(
      fmt::format("pcached {} serves {} at {}", PCACHE_VERSION, locations_.dir, locations_.socket));
  start_worker(nullptr, [this] { probes_.load(); });
  while (true) {
    struct pollfd events[] = {{claim_->listener(), POLLIN, 0},
                              {signals_.get(), POLLIN, 0},
                              {wake_.get(), POLLIN, 0},
                              {mountinfo_.get(), POLLPRI, 0}};
    if (::poll(events, std::size(events), wait_ms()) < 0 && errno != EINTR) break;
    if (events[1].revents != 0 && !handle_signals()) break;
    if (events[2].revents != 0) {
      uint64_t count = 0;
      (void)!::read(wake_.get(), &count, sizeof count);
    }
    if (events[3].revents != 0) mounts_.forget_vanished();
    if (events[0].revents != 0) accept_clients();
    if (const auto retry = mounts_.next_retry(); retry && *retry <= Clock::now()) {
      start_worker(nullptr, [this] { mounts_.retry(); });
    }
    guardian_.beat();
    const std::lock_guard lock(mutex_);
    if (stopping_) break;
  }
  shut_down();
}

bool Server::handle_signals() {
  struct signalfd_siginfo info {};
  while (::read(signals_.get(), &info, sizeof info) == static_cast<ssize_t>(sizeof info)) {
    if (info.ssi_signo == SIGUSR1) {
      dump_all_threads();
    } else if (info.ssi_signo != SIGHUP) {
      log_line(fmt::format("stopped by signal {} from pid {}", info.ssi_signo, info.ssi_pid));
      return false;
    }
  }
  return true;
}

// Idle: no connection (a session is one), no mount. Deadlines are re-evaluated at each wake-up.
int Server::wait_ms() {
  std::optional<Clock::time_point> next = mounts_.next_retry();
  const bool mounted = !mounts_.empty();
  const std::lock_guard lock(mutex_);
  if (stopping_) return 0;
  if (workers_ == 0 && !mounted) {
    const Clock::time_point end = busy_until_ + idle_;
    if (Clock::now() >= end) {
      log_line("idle: stops");
      stopping_ = true;
      return 0;
    }
    next = next ? std::min(*next, end) : end;
  } else {
    busy_until_ = Clock::now();
    if (workers_ > 0 && next) next.reset();  // the worker's end wakes us
  }
  if (guardian_.runs()) {
    const auto beat = Clock::now() + std::chrono::milliseconds(Guardian::kHeartbeatMs);
    next = next ? std::min(*next, beat) : beat;
  }
  if (!next) return -1;
  const auto left = std::chrono::ceil<std::chrono::milliseconds>(*next - Clock::now());
  return static_cast<int>(std::clamp<int64_t>(left.count(), 0, 3'600'000));
}

void Server::accept_clients() {
  while (true) {
    UniqueFd socket(::accept4(claim_->listener(), nullptr, nullptr, SOCK_CLOEXEC));
    if (!socket) return;
    struct ucred peer {};
    socklen_t size = sizeof peer;
    if (::getsockopt(socket.get(), SOL_SOCKET, SO_PEERCRED, &peer, &size) != 0 ||
        (peer.uid != ::geteuid() && peer.uid != 0)) {
      log_at(LogLevel::kWarning, fmt::format("refused a connection of user {}", peer.uid));
      continue;
    }
    auto channel = std::make_shared<Channel>(std::move(socket));
    start_worker(channel, [this, channel, pid = peer.pid] { serve(channel, pid); });
  }
}

void Server::start_worker(std::shared_ptr<Channel> channel, std::function<void()> work) {
  {
    const std::lock_guard lock(mutex_);
    ++workers_;
    if (channel) channels_.push_back(channel);
  }
  const auto finish = [this, channel] {
    const std::lock_guard lock(mutex_);
    --workers_;
    channels_.remove(channel);
    busy_until_ = Clock::now();
    wake();
    worker_ended_.notify_all();
  };
  try {
    std::thread([work = std::move(work), finish] {
      try {
        work();
      } catch (const std::exception& error) {
        log_at(LogLevel::kError, std::string("a request failed: ") + error.what());
      }
      finish();
    }).detach();
  } catch (const std::system_error& error) {
    log_at(LogLevel::kError, std::string("cannot start a thread: ") + error.what());
    finish();
  }
}

// The claim's socket goes first, so that nobody finds a daemon that is about to end; its lock goes
// last, so that nobody opens the store or mounts before we are done.
void Server::shut_down() {
  claim_->stop_listening();
  seizer_.stop();
  mounts_.keep_unfinished();
  sessions_.stop(kPatience);
  {
    std::unique_lock lock(mutex_);
    stopping_ = true;
    for (const auto& channel : channels_) channel->shut_down();
    worker_ended_.wait(lock, [this] { return workers_ == 0; });
  }
  mounts_.remove_all();
  store_.close();
  log_line("pcached ends");
  claim_.reset();
}

}  // namespace pcache::cli
