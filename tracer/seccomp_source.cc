#include <linux/audit.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <vector>

#include "tracer/probe_source.h"

#ifndef SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP
#define SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP (1UL << 0)
#define SECCOMP_IOCTL_NOTIF_SET_FLAGS SECCOMP_IOW(4, __u64)
#endif

namespace pcache::tracer {

CallEvent make_event(Tid tid, uint32_t arch, uint64_t number, const std::array<uint64_t, 6>& args) {
  constexpr uint64_t kX32 = 0x40000000;
  CallEvent event;
  event.tid = tid;
  event.number = static_cast<int>(number);
  event.foreign = arch != AUDIT_ARCH_X86_64 || number >= kX32;
  event.row = &syscall_row(event.foreign ? -1 : event.number);
  if (event.foreign) return event;
  event.args = args;
  const auto path = [&](const PathArg& arg) -> std::optional<std::string> {
    if (arg.path < 0) return std::nullopt;
    const uint64_t address = args[static_cast<size_t>(arg.path)];
    if (address == 0) return std::nullopt;
    std::optional<std::string> text = read_string(tid, RemotePtr{address});
    if (!text && errno == EPERM) event.unreadable = true;
    return text;
  };
  event.first = path(event.row->first);
  event.second = path(event.row->second);
  return event;
}

SeccompSource::SeccompSource(UniqueFd listener, CallSink& sink, std::atomic<uint64_t>* received)
    : listener_(std::move(listener)),
      stop_(::eventfd(0, EFD_CLOEXEC)),
      sink_(sink),
      received_(received) {
  // The caller sleeps until it is answered: run the answerer on its processor at once. A round trip
  // over another, sleeping processor costs twenty times as much.
  ::ioctl(listener_.get(), SECCOMP_IOCTL_NOTIF_SET_FLAGS, SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP);
  thread_ = std::thread([this] { loop(); });
}

SeccompSource::~SeccompSource() {
  const uint64_t one = 1;
  if (::write(stop_.get(), &one, sizeof one) == sizeof one) thread_.join();
}

void SeccompSource::loop() {
  ::setpriority(PRIO_PROCESS, static_cast<id_t>(::syscall(SYS_gettid)), -15);
  seccomp_notif_sizes sizes{};
  if (::syscall(SYS_seccomp, SECCOMP_GET_NOTIF_SIZES, 0, &sizes) != 0) return;
  std::vector<uint64_t> request_space(sizes.seccomp_notif / 8 + 1);
  std::vector<uint64_t> response_space(sizes.seccomp_notif_resp / 8 + 1);
  auto* request = reinterpret_cast<seccomp_notif*>(request_space.data());
  auto* response = reinterpret_cast<seccomp_notif_resp*>(response_space.data());
  pollfd fds[2] = {{listener_.get(), POLLIN, 0}, {stop_.get(), POLLIN, 0}};
  while (true) {
    if (::poll(fds, 2, -1) < 0 && errno != EINTR) return;
    if ((fds[1].revents & POLLIN) != 0) return;
    if ((fds[0].revents & POLLIN) == 0) {
      if ((fds[0].revents & (POLLHUP | POLLERR | POLLNVAL)) != 0) return;
      continue;
    }
    std::memset(request, 0, sizes.seccomp_notif);
    if (::ioctl(listener_.get(), SECCOMP_IOCTL_NOTIF_RECV, request) != 0) continue;
    if (received_ != nullptr) received_->store(request->id, std::memory_order_relaxed);
    std::array<uint64_t, 6> args{};
    for (size_t i = 0; i < 6; ++i) args[i] = request->data.args[i];
    const CallEvent event = make_event(Tid{static_cast<pid_t>(request->pid)}, request->data.arch,
                                       static_cast<uint32_t>(request->data.nr), args);
    const Answer answer = sink_.on_call(event);
    std::memset(response, 0, sizes.seccomp_notif_resp);
    response->id = request->id;
    if (answer.errno_instead != 0)
      response->error = -answer.errno_instead;
    else
      response->flags = SECCOMP_USER_NOTIF_FLAG_CONTINUE;
    ::ioctl(listener_.get(), SECCOMP_IOCTL_NOTIF_SEND, response);  // ENOENT: it was killed
  }
}

}  // namespace pcache::tracer
