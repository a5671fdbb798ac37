#include "cli/wire.h"

#include <poll.h>
#include <sys/socket.h>
#include <time.h>

#include <algorithm>

namespace pcache::cli {

// The client sends its listener while the filter is on it and nobody answers yet: the filter lets
// a sendmsg with exactly these flags pass (tracer/filter.cc has the same).
static constexpr int kHandshakeSendFlags = MSG_NOSIGNAL | MSG_CONFIRM | MSG_EOR;
namespace {

constexpr size_t kMaxFds = 8;
constexpr uint32_t kMaxFrame = 512u << 20;
// Exactly these flags pass the tracer's filter (tracer/filter.cc): the client sends the filter's
// own listener when nobody answers it yet. MSG_CONFIRM and MSG_EOR mean nothing on this kind of
// socket.
constexpr int kSendFlags = MSG_NOSIGNAL | MSG_CONFIRM | MSG_EOR;

int64_t now_ms() {
  struct timespec now {};
  ::clock_gettime(CLOCK_MONOTONIC, &now);
  return int64_t{now.tv_sec} * 1000 + now.tv_nsec / 1'000'000;
}

}  // namespace

std::string Message::text(const char* key) const {
  const auto it = body.find(key);
  return it != body.end() && it->is_string() ? it->get<std::string>() : std::string();
}

bool Message::flag(const char* key) const {
  const auto it = body.find(key);
  return it != body.end() && it->is_boolean() && it->get<bool>();
}

Result<void> Channel::send(const Json& body, const std::vector<int>& fds) const {
  std::vector<uint8_t> frame(sizeof(uint32_t));
  Json::to_cbor(body, frame);
  const auto size = static_cast<uint32_t>(frame.size() - sizeof(uint32_t));
  if (frame.size() > kMaxFrame) return make_error(ErrorKind::kInvalid, "message too large");
  std::memcpy(frame.data(), &size, sizeof size);

  alignas(struct cmsghdr) char control[CMSG_SPACE(sizeof(int) * kMaxFds)] = {};
  size_t sent = 0;
  while (sent < frame.size()) {
    struct iovec iov = {frame.data() + sent, frame.size() - sent};
    struct msghdr msg {};
    msg.msg_iov = &iov;
    msg.msg_iovlen = 1;
    if (sent == 0 && !fds.empty()) {
      const size_t bytes = sizeof(int) * std::min(fds.size(), kMaxFds);
      msg.msg_control = control;
      msg.msg_controllen = CMSG_SPACE(bytes);
      struct cmsghdr* header = CMSG_FIRSTHDR(&msg);
      header->cmsg_level = SOL_SOCKET;
      header->cmsg_type = SCM_RIGHTS;
      header->cmsg_len = CMSG_LEN(bytes);
      std::memcpy(CMSG_DATA(header), fds.data(), bytes);
    }
    const ssize_t n = ::sendmsg(socket_.get(), &msg, kHandshakeSendFlags);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) {
      const int err = errno == EPIPE ? ECONNRESET : errno;
      return system_error("cannot send a message", err);
    }
    sent += static_cast<size_t>(n);
  }
  return {};
}

Result<void> Channel::receive_exactly(char* data, size_t size, std::vector<UniqueFd>* fds,
                                      int64_t deadline_ms) const {
  size_t got = 0;
  while (got < size) {
    if (deadline_ms >= 0) {
      struct pollfd ready = {socket_.get(), POLLIN, 0};
      const int64_t left = std::max<int64_t>(deadline_ms - now_ms(), 0);
      const int n = ::poll(&ready, 1, static_cast<int>(left));
      if (n < 0 && errno != EINTR) return system_error("cannot wait for a message");
      if (n == 0) return system_error("no answer", ETIMEDOUT);
      if (n < 0) continue;
    }
    alignas(struct cmsghdr) char control[CMSG_SPACE(sizeof(int) * kMaxFds)];
    struct iovec iov = {data + got, size - got};
    struct msghdr msg {};
    msg.msg_iov = &iov;
    msg.msg_iovlen = 1;
    msg.msg_control = control;
    msg.msg_controllen = sizeof control;
    const ssize_t n = ::recvmsg(socket_.get(), &msg, MSG_CMSG_CLOEXEC);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return system_error("cannot receive a message");
    for (struct cmsghdr* h = CMSG_FIRSTHDR(&msg); h != nullptr; h = CMSG_NXTHDR(&msg, h)) {
      if (h->cmsg_level != SOL_SOCKET || h->cmsg_type != SCM_RIGHTS) continue;
      const size_t count = (h->cmsg_len - CMSG_LEN(0)) / sizeof(int);
      for (size_t i = 0; i < count; ++i) {
        int fd = -1;
        std::memcpy(&fd, CMSG_DATA(h) + i * sizeof(int), sizeof fd);
        fds->emplace_back(fd);
      }
    }
    if (n == 0) return system_error("the connection was closed", ECONNRESET);
    got += static_cast<size_t>(n);
  }
  return {};
}

Result<Message> Channel::receive(int timeout_ms) const {
  const int64_t deadline = timeout_ms < 0 ? -1 : now_ms() + timeout_ms;
  Message message;
  uint32_t size = 0;
  PCACHE_TRY(receive_exactly(reinterpret_cast<char*>(&size), sizeof size, &message.fds, deadline));
  if (size > kMaxFrame) return make_error(ErrorKind::kInvalid, "message too large");
  std::string frame(size, '\0');
  PCACHE_TRY(receive_exactly(frame.data(), size, &message.fds, deadline));
  message.body = Json::from_cbor(frame, /*strict=*/true, /*allow_exceptions=*/false);
  if (!message.body.is_object()) return make_error(ErrorKind::kInvalid, "malformed message");
  return message;
}

void Channel::shut_down() const { ::shutdown(socket_.get(), SHUT_RDWR); }

bool Channel::peer_vanished() const {
  struct pollfd state = {socket_.get(), POLLRDHUP, 0};
  return ::poll(&state, 1, 0) > 0 && (state.revents & (POLLHUP | POLLRDHUP | POLLERR)) != 0;
}

}  // namespace pcache::cli
