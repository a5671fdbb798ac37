#include "cli/daemon/seizer.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/fanotify.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <climits>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <set>
#include <sstream>

#include "cli/daemon/log.h"
#include "cli/locations.h"
#include "cli/text.h"
#include "tracer/session.h"

namespace pcache::cli {
namespace {

using Clock = std::chrono::steady_clock;
constexpr std::chrono::milliseconds kPatience{5};
constexpr int kNice = -15;  // whoever is held waits for us

// What /proc/TID/status says of a process that might be seized.
struct Origin {
  bool alone = false;  // its only thread, in no other pid namespace
  bool untraced = false;
  bool ours = false;  // all its user ids are the daemon's
};

Origin origin_of(pid_t tid) {
  Origin origin;
  std::ifstream file(fmt::format("/proc/{}/status", tid));
  std::string word;
  const std::string self = std::to_string(tid), user = std::to_string(::geteuid());
  bool leader = false, single = false;
  for (std::string line; std::getline(file, line);) {
    std::istringstream words(line);
    words >> word;
    std::string value, second, third, fourth;
    words >> value >> second >> third >> fourth;
    if (word == "Tgid:") leader = value == self;
    if (word == "TracerPid:") origin.untraced = value == "0";
    if (word == "Uid:")
      origin.ours = value == user && second == user && third == user && fourth == user;
    if (word == "Threads:") single = value == "1";
    if (word == "NSpid:" && !second.empty()) return {};
  }
  origin.alone = leader && single;
  return origin;
}

std::string link_of(const std::string& path) {
  char text[PATH_MAX];
  const ssize_t n = ::readlink(path.c_str(), text, sizeof text);
  return n > 0 ? std::string(text, static_cast<size_t>(n)) : std::string();
}

// Another root or mount namespace would make the same names mean other files.
bool sees_what_we_see(pid_t tid) {
  static const std::string ours = link_of("/proc/self/ns/mnt");
  return link_of(fmt::format("/proc/{}/ns/mnt", tid)) == ours &&
         link_of(fmt::format("/proc/{}/root", tid)) == "/";
}

bool kernel_opens_first() {
  struct utsname name {};
  int major = 0, minor = 0;
  return ::uname(&name) == 0 && std::sscanf(name.release, "%d.%d", &major, &minor) == 2 &&
         (major > 6 || (major == 6 && minor >= 9));
}

// Where the programs are, each file once.
std::set<std::string> files_of(const std::vector<std::string>& programs, const std::string& path) {
  std::set<std::string> files;
  std::istringstream dirs(path);
  for (std::string dir; std::getline(dirs, dir, ':');) {
    if (dir.empty() || dir[0] != '/') continue;
    for (const std::string& program : programs) {
      std::string name = dir;
      name.append("/").append(program);
      char real[PATH_MAX];
      if (::access(name.c_str(), X_OK) == 0 && ::realpath(name.c_str(), real) != nullptr)
        files.insert(real);
    }
  }
  return files;
}

}  // namespace

// An exec that waits for our answer.
struct Seizer::Held {
  enum class State : uint8_t { kWaiting, kSeized, kLate };
  UniqueFd event;
  Clock::time_point deadline;
  std::atomic<State> state{State::kWaiting};
};

Seizer::Seizer(Callbacks callbacks) : callbacks_(std::move(callbacks)) {}

Seizer::~Seizer() { stop(); }

void Seizer::stop() {
  if (!thread_.joinable()) return;
  const uint64_t one = 1;
  (void)!::write(stop_.get(), &one, sizeof one);
  thread_.join();
  held_.clear();
  // No mark is left; what is held still is answered by its own thread, or when the group is closed.
  ::fanotify_mark(group_.get(), FAN_MARK_FLUSH, 0, AT_FDCWD, "/");
  ::fanotify_mark(group_.get(), FAN_MARK_FLUSH | FAN_MARK_MOUNT, 0, AT_FDCWD, "/");
}

Result<void> Seizer::begin() {
  if (group_) return {};
  if (!kernel_opens_first())
    return make_error(ErrorKind::kUnsupported, "this needs Linux 6.9 or later");
  group_.reset(::fanotify_init(FAN_CLASS_CONTENT | FAN_CLOEXEC | FAN_NONBLOCK | FAN_REPORT_TID,
                               O_RDONLY | O_CLOEXEC | O_LARGEFILE));
  if (!group_) return system_error("fanotify");
  stop_.reset(::eventfd(0, EFD_CLOEXEC));
  thread_ = std::thread([this] { loop(); });
  return {};
}

Result<void> Seizer::watch(const std::string& mount, const std::vector<std::string>& programs,
                           const std::string& path) {
  {
    const std::lock_guard guard(mutex_);
    PCACHE_TRY(begin());
  }
  // Without the lock: an exec may be held meanwhile, and its decision needs it.
  if (::fanotify_mark(group_.get(), FAN_MARK_ADD | FAN_MARK_MOUNT, FAN_OPEN_EXEC_PERM, AT_FDCWD,
                      mount.c_str()) != 0)
    return system_error("fanotify");
  std::vector<std::string> marked;
  for (const std::string& file : files_of(programs, path))
    if (::fanotify_mark(group_.get(), FAN_MARK_ADD, FAN_OPEN_EXEC_PERM, AT_FDCWD, file.c_str()) ==
        0)
      marked.push_back(file);
  const std::lock_guard guard(mutex_);
  mounts_[mount] = std::move(marked);
  return {};
}

void Seizer::forget(const std::string& mount) {
  const std::lock_guard guard(mutex_);
  const auto found = mounts_.find(mount);
  if (found == mounts_.end()) return;
  const std::vector<std::string> files = std::move(found->second);
  mounts_.erase(found);  // the mark of the mount itself went with it
  for (const std::string& file : files) {
    const bool used = std::any_of(mounts_.begin(), mounts_.end(), [&](const auto& other) {
      return std::find(other.second.begin(), other.second.end(), file) != other.second.end();
    });
    if (!used)
      ::fanotify_mark(group_.get(), FAN_MARK_REMOVE, FAN_OPEN_EXEC_PERM, AT_FDCWD, file.c_str());
  }
}

bool Seizer::watches(const std::string& mount) {
  const std::lock_guard guard(mutex_);
  return mounts_.contains(mount);
}

void Seizer::loop() {
  ::setpriority(PRIO_PROCESS, static_cast<id_t>(::syscall(SYS_gettid)), kNice);
  while (true) {
    pollfd events[] = {{group_.get(), POLLIN, 0}, {stop_.get(), POLLIN, 0}};
    if (::poll(events, std::size(events), answer_late()) < 0 && errno != EINTR) return;
    if (events[1].revents != 0) return;
    if (events[0].revents != 0) take_events();
  }
}

void Seizer::take_events() {
  alignas(fanotify_event_metadata) char buffer[8192];
  const ssize_t size = ::read(group_.get(), buffer, sizeof buffer);
  if (size <= 0) return;
  const auto* event = reinterpret_cast<const fanotify_event_metadata*>(buffer);
  for (ssize_t left = size; FAN_EVENT_OK(event, left); event = FAN_EVENT_NEXT(event, left))
    if (event->fd >= 0) decide(event->pid, UniqueFd(event->fd));
}

// The mount that the process works in, if it may be seized there.
std::string Seizer::mount_of(pid_t tid) {
  if (tid <= 0 || callbacks_.is_traced(tid)) return {};
  const std::string cwd = link_of(fmt::format("/proc/{}/cwd", tid));
  std::string mount;
  {
    const std::lock_guard guard(mutex_);
    for (const auto& [dir, files] : mounts_)
      if (is_inside(cwd, dir)) mount = dir;
  }
  if (mount.empty()) return {};
  const Origin origin = origin_of(tid);
  if (!origin.alone || !origin.untraced || !origin.ours || !sees_what_we_see(tid)) return {};
  return mount;
}

void Seizer::decide(pid_t tid, UniqueFd event) {
  const auto held = std::make_shared<Held>();
  held->event = std::move(event);
  held->deadline = Clock::now() + kPatience;
  const std::string mount = mount_of(tid);
  if (mount.empty()) return answer(*held);
  held_.push_back(held);
  callbacks_.start([this, held, command = Command{tid, mount}] {
    const auto seized = tracer::seize_held(command.pid);
    Held::State waiting = Held::State::kWaiting;
    if (!held->state.compare_exchange_strong(waiting, Held::State::kSeized)) {
      if (seized) tracer::let_go(command.pid);
      return;
    }
    answer(*held);
    if (seized)
      callbacks_.run(command);
    else
      log_at(LogLevel::kDebug, seized.error().to_string());
  });
}

void Seizer::answer(Held& held) {
  const fanotify_response response{held.event.get(), FAN_ALLOW};
  if (::write(group_.get(), &response, sizeof response) != sizeof response)
    log_at(LogLevel::kError, fmt::format("cannot answer fanotify: {}", std::strerror(errno)));
  held.event.reset();
}

int Seizer::answer_late() {
  const auto now = Clock::now();
  std::chrono::milliseconds next{-1};
  std::erase_if(held_, [&](const std::shared_ptr<Held>& held) {
    if (held->state != Held::State::kWaiting) return true;
    if (now < held->deadline) {
      const auto left = std::chrono::ceil<std::chrono::milliseconds>(held->deadline - now);
      next = next.count() < 0 ? left : std::min(next, left);
      return false;
    }
    Held::State waiting = Held::State::kWaiting;
    if (held->state.compare_exchange_strong(waiting, Held::State::kLate)) {
      log_at(LogLevel::kInfo, "a command could not be seized in time and runs uncached");
      ++late_;
      answer(*held);
    }
    return true;
  });
  return static_cast<int>(next.count());
}

}  // namespace pcache::cli
