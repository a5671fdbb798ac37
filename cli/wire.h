// Channel: messages between pcache and pcached over a Unix stream socket.
//
// A frame is a 32-bit length in host order and that many bytes of CBOR: a JSON object whose strings
// may hold any bytes (paths need not be UTF-8). Descriptors travel with the frame's first byte.
//
// The client's side runs under a freshly installed seccomp filter for a moment (run_command.cc), so
// send() and receive() without a time-out make no system calls but sendmsg and recvmsg.
//
// A closed connection is an Error with sys_errno ECONNRESET. Not thread-safe, but for shut_down().
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "store/result.h"
#include "store/unique_fd.h"

namespace pcache::cli {

using Json = nlohmann::json;

// Raised with every change of the messages. Requests carry it and PCACHE_VERSION; the daemon
// answers only `status` and `umount` of another version, so that it can always be stopped.
inline constexpr int kProtocol = 2;

struct Message {
  Json body;
  std::vector<UniqueFd> fds;  // close-on-exec

  // Fields of a peer that may be of another version: a wrong type counts as missing.
  std::string text(const char* key) const;
  bool flag(const char* key) const;
};

class Channel {
 public:
  explicit Channel(UniqueFd socket) : socket_(std::move(socket)) {}

  Result<void> send(const Json& body, const std::vector<int>& fds = {}) const;
  // timeout_ms < 0: for ever. A time-out is an Error with sys_errno ETIMEDOUT.
  Result<Message> receive(int timeout_ms = -1) const;

  int fd() const { return socket_.get(); }
  void close() { socket_.reset(); }
  void shut_down() const;      // wakes a thread blocked on this channel
  bool peer_vanished() const;  // does not block

 private:
  Result<void> receive_exactly(char* data, size_t size, std::vector<UniqueFd>* fds,
                               int64_t deadline_ms) const;

  UniqueFd socket_;
};

}  // namespace pcache::cli
