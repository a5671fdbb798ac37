#include "cli/client.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <spawn.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <filesystem>
#include <fstream>
#include <vector>

#include "cli/text.h"

extern char** environ;

namespace pcache::cli {
namespace {

// The daemon may be about to stop when it is found: that many new attempts are made.
constexpr int kAttempts = 5;

Result<std::optional<Connection>> connect_to(const std::string& path) {
  struct sockaddr_un address {};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof address.sun_path) return std::nullopt;
  std::memcpy(address.sun_path, path.c_str(), path.size() + 1);
  UniqueFd socket(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (!socket) return system_error("cannot make a socket");
  if (::connect(socket.get(), reinterpret_cast<struct sockaddr*>(&address), sizeof address) != 0) {
    if (errno == ENOENT || errno == ECONNREFUSED || errno == ENOTDIR) return std::nullopt;
    return system_error("cannot connect to the daemon at " + path);
  }
  struct ucred peer {};
  socklen_t size = sizeof peer;
  if (::getsockopt(socket.get(), SOL_SOCKET, SO_PEERCRED, &peer, &size) != 0) {
    return system_error("cannot learn who listens at " + path);
  }
  if (peer.uid != ::geteuid() && peer.uid != 0 && ::geteuid() != 0) {
    return make_error(ErrorKind::kInvalid,
                      fmt::format("{} belongs to user {}: set PCACHE_DIR to a directory of yours",
                                  path, peer.uid));
  }
  return Connection{Channel(std::move(socket)), peer.pid};
}

// The socket named in daemon.pid, for a daemon started from another environment.
std::string recorded_socket(const Locations& locations) {
  std::ifstream file(locations.pid_file());
  std::string pid, socket;
  if (!std::getline(file, pid) || !std::getline(file, socket)) return "";
  return socket;
}

std::string daemon_program() {
  char self[4096];
  const ssize_t n = ::readlink("/proc/self/exe", self, sizeof self - 1);
  if (n <= 0) return "pcached";
  std::string path(self, static_cast<size_t>(n));
  return path.substr(0, path.rfind('/') + 1) + "pcached";
}

std::string log_level, log_file;  // of the daemon, as the command line has them

// pcached goes to the background by itself once it is ready, or says why it cannot.
Result<void> start_daemon() {
  const std::string program = daemon_program();
  if (::access(program.c_str(), X_OK) != 0) {
    return system_error("cannot start the daemon " + program + " (install it beside pcache)");
  }
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) return system_error("cannot make a pipe");
  UniqueFd from_daemon(ends[0]);
  UniqueFd to_us(ends[1]);

  posix_spawn_file_actions_t actions;
  ::posix_spawn_file_actions_init(&actions);
  ::posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
  ::posix_spawn_file_actions_addopen(&actions, 1, "/dev/null", O_WRONLY, 0);
  ::posix_spawn_file_actions_adddup2(&actions, to_us.get(), 2);
  std::vector<std::string> words = {"pcached"};
  if (!log_level.empty()) words.insert(words.end(), {"--log-level", log_level});
  if (!log_file.empty()) words.insert(words.end(), {"--log-file", log_file});
  std::vector<char*> argv;
  for (std::string& word : words) argv.push_back(word.data());
  argv.push_back(nullptr);
  pid_t pid = 0;
  const int error = ::posix_spawn(&pid, program.c_str(), &actions, nullptr, argv.data(), environ);
  ::posix_spawn_file_actions_destroy(&actions);
  if (error != 0) return system_error("cannot start the daemon " + program, error);
  to_us.reset();

  std::string said;
  char buffer[1024];
  while (true) {
    const ssize_t n = ::read(from_daemon.get(), buffer, sizeof buffer);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) break;
    said.append(buffer, static_cast<size_t>(n));
  }
  int status = 0;
  while (::waitpid(pid, &status, 0) < 0 && errno == EINTR) {
  }
  if (WIFEXITED(status) && WEXITSTATUS(status) == 0) return {};
  while (!said.empty() && said.back() == '\n') said.pop_back();
  if (said.rfind("pcached: ", 0) == 0) said.erase(0, 9);
  if (said.empty()) said = fmt::format("{} ended with status {:#x}", program, status);
  return make_error(ErrorKind::kSystem, "cannot start the daemon: " + said);
}

}  // namespace

Result<std::optional<Connection>> connect_running(const Locations& locations) {
  if (locations.socket_in_tmp && ::access(locations.socket_dir().c_str(), F_OK) == 0) {
    PCACHE_TRY(check_private_dir(locations.socket_dir()));
  }
  PCACHE_ASSIGN(auto found, connect_to(locations.socket));
  if (found) return found;
  const std::string recorded = recorded_socket(locations);
  if (recorded.empty() || recorded == locations.socket) return std::nullopt;
  return connect_to(recorded);
}

Result<Connection> connect_or_start(const Locations& locations) {
  for (int attempt = 0; attempt < kAttempts; ++attempt) {
    PCACHE_ASSIGN(auto found, connect_running(locations));
    if (found) {
      // A stopping daemon closes what it had not accepted: only one that answers counts.
      if (found->channel.send(make_request("ping")) && found->channel.receive()) {
        return std::move(*found);
      }
    } else {
      PCACHE_TRY(start_daemon());
    }
  }
  return make_error(ErrorKind::kBusy, "the daemon does not answer; its log is " + locations.log());
}

Result<void> set_log_options(const std::string& level, const std::string& file) {
  log_level = level;
  if (file.empty()) return {};
  std::error_code error;
  log_file = std::filesystem::absolute(file, error).string();
  const UniqueFd opened(::open(log_file.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600));
  if (!opened) return system_error("cannot write the log " + printable(file));
  return {};
}

Json make_request(const char* op) {
  Json request = {{"op", op}, {"version", PCACHE_VERSION}, {"protocol", kProtocol}};
  if (!log_level.empty()) request["log_level"] = log_level;
  if (!log_file.empty()) request["log_file"] = log_file;
  return request;
}

Result<Message> ask(const Channel& channel, const Json& request,
                    const std::function<void(const Json&)>& progress, Json* refusal) {
  if (auto sent = channel.send(request); !sent) {
    return tl::make_unexpected(std::move(sent).error().within("the daemon does not answer"));
  }
  while (true) {
    auto answer = channel.receive();
    if (!answer) {
      return tl::make_unexpected(std::move(answer).error().within("the daemon does not answer"));
    }
    if (answer->body.contains("progress")) {
      if (progress) progress(answer->body["progress"]);
      continue;
    }
    if (!answer->flag("ok")) {
      if (refusal != nullptr) *refusal = answer->body;
      return make_error(ErrorKind::kInvalid, answer->text("error"));
    }
    return answer;
  }
}

int fail(const std::string& text, int status) {
  const Painter paint(STDERR_FILENO);
  std::fprintf(stderr, "%s %s\n", paint(Colour::kRed, "pcache:").c_str(), text.c_str());
  return status;
}

void warn(const std::string& text) {
  const Painter paint(STDERR_FILENO);
  std::fprintf(stderr, "%s %s\n", paint(Colour::kYellow, "pcache: warning:").c_str(), text.c_str());
}

}  // namespace pcache::cli
