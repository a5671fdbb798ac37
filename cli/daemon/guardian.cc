#include "cli/daemon/guardian.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <fstream>
#include <map>
#include <string>
#include <vector>

#include "cli/daemon/log.h"

namespace pcache::cli {
namespace {

using Clock = std::chrono::steady_clock;
// Without a sign of life: stopped (Ctrl-Z, SIGSTOP), or at work that never ends.
constexpr std::chrono::seconds kStopped{8};
constexpr std::chrono::seconds kStuck{60};
constexpr size_t kPage = 4096;
constexpr int kSocket = 3;  // in the guardian

enum class Kind : uint8_t { kBeat, kShare, kRelease };
struct Note {
  Kind kind;
  uint64_t id;
};

bool send_note(int socket, const Note& note, const std::vector<int>& fds) {
  iovec part{const_cast<Note*>(&note), sizeof note};
  alignas(cmsghdr) std::array<char, CMSG_SPACE(2 * sizeof(int))> control{};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  if (!fds.empty()) {
    message.msg_control = control.data();
    message.msg_controllen = CMSG_SPACE(fds.size() * sizeof(int));
    cmsghdr* header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(fds.size() * sizeof(int));
    std::memcpy(CMSG_DATA(header), fds.data(), fds.size() * sizeof(int));
  }
  return ::sendmsg(socket, &message, MSG_NOSIGNAL | MSG_DONTWAIT) == sizeof note;
}

using Mapping = std::unique_ptr<void, void (*)(void*)>;

Mapping map_page(int fd) {
  void* at = ::mmap(nullptr, kPage, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  return Mapping(at == MAP_FAILED ? nullptr : at, [](void* page) { ::munmap(page, kPage); });
}

}  // namespace

class Guardian::Shared : public Share {
 public:
  Shared(Guardian& guardian, uint64_t id, Mapping page)
      : guardian_(guardian), id_(id), page_(std::move(page)) {}
  ~Shared() override {
    const std::lock_guard guard(guardian_.mutex_);
    send_note(guardian_.socket_.get(), {Kind::kRelease, id_}, {});
  }
  std::atomic<uint64_t>* received() override {
    return static_cast<std::atomic<uint64_t>*>(page_.get());
  }

 private:
  Guardian& guardian_;
  const uint64_t id_;
  const Mapping page_;
};

bool Guardian::runs() {
  const std::lock_guard guard(mutex_);
  return socket_.valid();
}

Result<void> Guardian::begin() {
  const std::lock_guard guard(mutex_);
  if (socket_) return {};
  int ends[2];
  if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) != 0)
    return system_error("cannot make a socket");
  UniqueFd ours(ends[0]), theirs(ends[1]);
  posix_spawn_file_actions_t actions;
  posix_spawnattr_t attributes;
  ::posix_spawn_file_actions_init(&actions);
  ::posix_spawnattr_init(&attributes);
  ::posix_spawn_file_actions_adddup2(&actions, theirs.get(), kSocket);
  ::posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSID);
  std::string program = "pcache-guardian", daemon = std::to_string(::getpid());
  std::string option = "--guardian";
  char* arguments[] = {program.data(), option.data(), daemon.data(), nullptr};
  pid_t child = -1;
  const int error =
      ::posix_spawn(&child, "/proc/self/exe", &actions, &attributes, arguments, environ);
  ::posix_spawn_file_actions_destroy(&actions);
  ::posix_spawnattr_destroy(&attributes);
  if (error != 0) return system_error("cannot start the guardian", error);
  socket_ = std::move(ours);
  return {};
}

void Guardian::beat() {
  const std::lock_guard guard(mutex_);
  if (socket_) send_note(socket_.get(), {Kind::kBeat, 0}, {});
}

Result<std::unique_ptr<tracer::ListenerHeir::Share>> Guardian::share(int listener) {
  const UniqueFd memory(::memfd_create("pcache-received", MFD_CLOEXEC));
  if (!memory || ::ftruncate(memory.get(), kPage) != 0)
    return system_error("cannot make shared memory");
  Mapping page = map_page(memory.get());
  if (!page) return system_error("cannot map shared memory");
  const std::lock_guard guard(mutex_);
  const uint64_t id = ++last_id_;
  if (!send_note(socket_.get(), {Kind::kShare, id}, {listener, memory.get()}))
    return system_error("the guardian does not take the listener");
  return std::make_unique<Shared>(*this, id, std::move(page));
}

namespace {

// --- in the guardian ---

class Watch {
 public:
  Watch(int socket, pid_t daemon) : socket_(socket), daemon_(daemon) {}
  void run();

 private:
  struct Listener {
    UniqueFd fd;
    Mapping page{nullptr, [](void*) {}};
    bool ours = false;  // to answer
  };
  void take_note();
  void inherit(Listener& listener);
  void let_go_on(int listener);
  void check_daemon();

  UniqueFd socket_;
  const pid_t daemon_;
  Clock::time_point last_beat_ = Clock::now();
  std::map<uint64_t, Listener> listeners_;
  std::vector<uint64_t> request_ = std::vector<uint64_t>(128);
};

void Watch::run() {
  while (socket_ || !listeners_.empty()) {
    std::vector<pollfd> events = {{socket_.get(), POLLIN, 0}};
    std::vector<uint64_t> ids = {0};
    for (const auto& [id, listener] : listeners_) {
      const short what = listener.ours ? POLLIN : 0;
      events.push_back({listener.fd.get(), what, 0});
      ids.push_back(id);
    }
    ::poll(events.data(), events.size(), socket_ ? Guardian::kHeartbeatMs : -1);
    for (size_t i = 1; i < events.size(); ++i) {
      if ((events[i].revents & POLLIN) != 0) let_go_on(events[i].fd);
      if ((events[i].revents & (POLLHUP | POLLERR)) != 0) listeners_.erase(ids[i]);
    }
    if ((events[0].revents & (POLLIN | POLLHUP)) != 0) take_note();
    if (socket_) check_daemon();
  }
}

void Watch::take_note() {
  Note note{};
  iovec part{&note, sizeof note};
  alignas(cmsghdr) std::array<char, CMSG_SPACE(2 * sizeof(int))> control{};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  message.msg_control = control.data();
  message.msg_controllen = control.size();
  const ssize_t n = ::recvmsg(socket_.get(), &message, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
  if (n < 0 && (errno == EAGAIN || errno == EINTR)) return;
  if (n <= 0) {  // the daemon is dead
    socket_.reset();
    for (auto& [id, listener] : listeners_) inherit(listener);
    return;
  }
  last_beat_ = Clock::now();
  int fds[2] = {-1, -1};
  if (const cmsghdr* header = CMSG_FIRSTHDR(&message);
      header != nullptr && header->cmsg_len == CMSG_LEN(sizeof fds))
    std::memcpy(fds, CMSG_DATA(header), sizeof fds);
  if (note.kind == Kind::kShare) {
    Listener& listener = listeners_[note.id];
    listener.fd.reset(fds[0]);
    const UniqueFd memory(fds[1]);
    listener.page = map_page(memory.get());
  } else if (note.kind == Kind::kRelease) {
    if (const auto found = listeners_.find(note.id); found != listeners_.end())
      inherit(found->second);
  }
}

// The daemon may have taken a notification and not answered it, and died before or after it had
// written down which: ids of a listener are consecutive.
void Watch::inherit(Listener& listener) {
  listener.ours = true;
  if (!listener.page) return;
  const uint64_t last = *static_cast<std::atomic<uint64_t>*>(listener.page.get());
  if (last == 0) return;
  for (const uint64_t id : {last, last + 1}) {
    seccomp_notif_resp answer{};
    answer.id = id;
    answer.flags = SECCOMP_USER_NOTIF_FLAG_CONTINUE;
    ::ioctl(listener.fd.get(), SECCOMP_IOCTL_NOTIF_SEND, &answer);
  }
}

void Watch::let_go_on(int listener) {
  std::fill(request_.begin(), request_.end(), 0);
  auto* request = reinterpret_cast<seccomp_notif*>(request_.data());
  if (::ioctl(listener, SECCOMP_IOCTL_NOTIF_RECV, request) != 0) return;
  seccomp_notif_resp answer{};
  answer.id = request->id;
  answer.flags = SECCOMP_USER_NOTIF_FLAG_CONTINUE;
  ::ioctl(listener, SECCOMP_IOCTL_NOTIF_SEND, &answer);
}

void Watch::check_daemon() {
  const auto silent = Clock::now() - last_beat_;
  if (silent < kStopped) return;
  std::ifstream file(fmt::format("/proc/{}/status", daemon_));
  char state = '?';
  bool traced = false;
  for (std::string line; std::getline(file, line);) {
    if (line.starts_with("State:")) state = line[line.find_first_not_of(" \t", 6)];
    if (line.starts_with("TracerPid:"))
      traced = line.find_first_of("123456789") != std::string::npos;
  }
  if (traced) return;  // somebody debugs it, and knows
  if (state == 'T' || silent > kStuck) ::kill(daemon_, SIGKILL);
}

}  // namespace

int run_guardian(int socket, pid_t daemon) {
  ::prctl(PR_SET_NAME, "pcache-guardian");
  for (const int signal : {SIGTERM, SIGINT, SIGHUP, SIGPIPE}) ::signal(signal, SIG_IGN);
  (void)!::chdir("/");
  ::close_range(kSocket + 1, ~0U, 0);
  const UniqueFd null(::open("/dev/null", O_RDWR | O_CLOEXEC));
  for (const int fd : {0, 1, 2}) ::dup2(null.get(), fd);
  Watch(socket, daemon).run();
  return 0;
}

}  // namespace pcache::cli
