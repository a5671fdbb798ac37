#include "fusefs/mount_table.h"

#include <fcntl.h>
#include <spawn.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <sstream>
#include <vector>

#include "fusefs/mount.h"
#include "store/unique_fd.h"

extern char** environ;

namespace pcache::fusefs {
namespace {

// mountinfo escapes space, tab, newline and backslash as \ooo.
std::string unescape(const std::string& text) {
  std::string out;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '\\' && i + 3 < text.size()) {
      out += static_cast<char>((text[i + 1] - '0') * 64 + (text[i + 2] - '0') * 8 +
                               (text[i + 3] - '0'));
      i += 3;
    } else {
      out += text[i];
    }
  }
  return out;
}

struct Output {
  int status = -1;
  std::string text;
};

// Runs a program and gives its exit status and what it wrote to stdout and stderr. `comm_fd`
// becomes its descriptor 3 where there is one, named by _FUSE_COMMFD as fusermount3 expects it.
Output run_program(const std::vector<std::string>& argv, int comm_fd = -1) {
  Output output;
  int pipe_fds[2];
  if (::pipe2(pipe_fds, O_CLOEXEC) != 0) return output;
  UniqueFd reader(pipe_fds[0]), writer(pipe_fds[1]);
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_adddup2(&actions, writer.get(), 1);
  posix_spawn_file_actions_adddup2(&actions, writer.get(), 2);
  std::vector<char*> env;
  for (char** variable = environ; *variable != nullptr; ++variable) env.push_back(*variable);
  std::string comm = "_FUSE_COMMFD=3";
  if (comm_fd >= 0) {
    posix_spawn_file_actions_adddup2(&actions, comm_fd, 3);
    env.push_back(comm.data());
  }
  env.push_back(nullptr);
  std::vector<char*> args;
  for (const std::string& arg : argv) args.push_back(const_cast<char*>(arg.c_str()));
  args.push_back(nullptr);
  pid_t pid = 0;
  const int err = ::posix_spawn(&pid, args[0], &actions, nullptr, args.data(), env.data());
  posix_spawn_file_actions_destroy(&actions);
  if (err != 0) return output;
  writer.reset();
  char buffer[512];
  ssize_t n;
  while ((n = ::read(reader.get(), buffer, sizeof buffer)) > 0 || (n < 0 && errno == EINTR)) {
    if (n > 0) output.text.append(buffer, static_cast<size_t>(n));
  }
  int status = 0;
  while (::waitpid(pid, &status, 0) < 0 && errno == EINTR) {
  }
  output.status = WIFEXITED(status) ? WEXITSTATUS(status) : 128;
  while (!output.text.empty() && output.text.back() == '\n') output.text.pop_back();
  return output;
}

// The descriptor that fusermount3 sent over the socket, if it did.
UniqueFd receive_fd(int socket) {
  char byte = 0;
  struct iovec data = {&byte, 1};
  alignas(struct cmsghdr) char control[CMSG_SPACE(sizeof(int))];
  struct msghdr message {};
  message.msg_iov = &data;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = sizeof control;
  if (::recvmsg(socket, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC) <= 0) return {};
  const struct cmsghdr* header = CMSG_FIRSTHDR(&message);
  if (header == nullptr || header->cmsg_type != SCM_RIGHTS) return {};
  int fd = -1;
  std::memcpy(&fd, CMSG_DATA(header), sizeof fd);
  return UniqueFd(fd);
}

Result<UniqueFd> mount_by_helper(const std::string& dir, bool allow_other,
                                 const std::string& what) {
  const std::string helper = find_fusermount();
  if (helper.empty()) {
    return make_error(ErrorKind::kUnsupported,
                      what + ": fusermount3 not found; install the package fuse3");
  }
  int sockets[2];
  if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sockets) != 0) {
    return system_error(what);
  }
  const UniqueFd ours(sockets[0]), theirs(sockets[1]);
  std::string options = "rw,nosuid,nodev,fsname=pcache,subtype=pcache,default_permissions";
  if (allow_other) options += ",allow_other";
  const Output output = run_program({helper, "-o", options, "--", dir}, theirs.get());
  UniqueFd device = receive_fd(ours.get());
  if (device) return device;
  return make_error(ErrorKind::kSystem,
                    what + ": " + (output.text.empty() ? "fusermount3 failed" : output.text) +
                        (output.text.find("Operation not permitted") != std::string::npos
                             ? "; is fusermount3 setuid root? (in a container: --device /dev/fuse "
                               "--cap-add SYS_ADMIN)"
                             : ""));
}

}  // namespace

Result<UniqueFd> mount_fuse(const std::string& dir, bool allow_other) {
  const std::string what = "cannot mount " + dir;
  if (::geteuid() != 0) return mount_by_helper(dir, allow_other, what);
  UniqueFd device(::open("/dev/fuse", O_RDWR | O_CLOEXEC));
  if (!device) return system_error(what + ": /dev/fuse");
  const std::string options = "fd=" + std::to_string(device.get()) +
                              ",rootmode=40000,user_id=0,group_id=" + std::to_string(::getegid()) +
                              ",default_permissions" + (allow_other ? ",allow_other" : "");
  // Neither nosuid nor nodev: what works below must work in the mount.
  if (::mount("pcache", dir.c_str(), "fuse.pcache", 0, options.c_str()) == 0) return device;
  if (errno == EPERM || errno == EACCES) {
    return make_error(ErrorKind::kUnsupported,
                      what +
                          ": mounting is not permitted here; in a container, start it with "
                          "--device /dev/fuse --cap-add SYS_ADMIN (and, with AppArmor, "
                          "--security-opt apparmor=unconfined)");
  }
  return system_error(what);
}

MountEntry mount_on(const std::string& dir) {
  MountEntry found;
  std::ifstream file("/proc/self/mountinfo");
  std::string line;
  while (std::getline(file, line)) {
    // id parent major:minor root mount-point options [optional...] - type source super-options
    std::istringstream fields(line);
    std::string skip, point;
    fields >> skip >> skip >> skip >> skip >> point;
    if (unescape(point) != dir) continue;
    while (fields >> skip && skip != "-") {
    }
    MountEntry entry;
    entry.dir = dir;
    fields >> entry.fs_type >> entry.source;
    entry.source = unescape(entry.source);
    found = std::move(entry);  // later lines are mounted on top
  }
  return found;
}

std::string find_fusermount() {
  std::string path = ::getenv("PATH") != nullptr ? ::getenv("PATH") : "";
  path += ":/usr/bin:/bin:/usr/local/bin";
  std::istringstream dirs(path);
  std::string dir;
  while (std::getline(dirs, dir, ':')) {
    const std::string candidate = dir + "/fusermount3";
    if (!dir.empty() && ::access(candidate.c_str(), X_OK) == 0) return candidate;
  }
  return "";
}

Result<void> unmount_path(const std::string& dir, bool lazy) {
  if (::umount2(dir.c_str(), (lazy ? MNT_DETACH : 0) | UMOUNT_NOFOLLOW) == 0) return {};
  int err = errno;
  if (err == EPERM) {
    const std::string helper = find_fusermount();
    if (helper.empty()) {
      return make_error(ErrorKind::kUnsupported,
                        "cannot unmount " + dir + ": fusermount3 not found; install fuse3");
    }
    std::vector<std::string> argv = {helper, "-u"};
    if (lazy) argv.emplace_back("-z");
    argv.push_back(dir);
    const Output output = run_program(argv);
    if (output.status == 0) return {};
    if (output.text.find("busy") == std::string::npos) {
      return make_error(ErrorKind::kSystem, "cannot unmount " + dir + ": " + output.text);
    }
    err = EBUSY;
  }
  if (err == EBUSY) {
    return tl::make_unexpected(
        Error{ErrorKind::kBusy, 0,
              dir + " is in use: a process has its working directory or an open file in it"});
  }
  return system_error("cannot unmount " + dir, err);
}

bool is_pcache_mount(const std::string& dir) { return mount_on(dir).fs_type == "fuse.pcache"; }

bool is_dead_mount(const std::string& dir) {
  struct stat st {};
  return ::stat(dir.c_str(), &st) != 0 && (errno == ENOTCONN || errno == ECONNABORTED) &&
         is_pcache_mount(dir);
}

Result<void> clear_dead_mount(const std::string& dir) {
  auto result = unmount_path(dir, true);
  if (!result) return tl::make_unexpected(std::move(result).error().within("dead mount"));
  return {};
}

}  // namespace pcache::fusefs
