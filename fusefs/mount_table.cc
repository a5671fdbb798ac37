#include "fusefs/mount_table.h"

#include <fcntl.h>
#include <poll.h>
#include <spawn.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
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

// Runs a program and gives its exit status and what it wrote to stdout and stderr.
Output run_program(const std::vector<std::string>& argv) {
  Output output;
  int pipe_fds[2];
  if (::pipe2(pipe_fds, O_CLOEXEC) != 0) return output;
  UniqueFd reader(pipe_fds[0]), writer(pipe_fds[1]);
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_adddup2(&actions, writer.get(), 1);
  posix_spawn_file_actions_adddup2(&actions, writer.get(), 2);
  std::vector<char*> args;
  for (const std::string& arg : argv) args.push_back(const_cast<char*>(arg.c_str()));
  args.push_back(nullptr);
  pid_t pid = 0;
  const int err = ::posix_spawn(&pid, args[0], &actions, nullptr, args.data(), environ);
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

}  // namespace

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
         mount_on(dir).fs_type.starts_with("fuse");
}

Result<void> clear_dead_mount(const std::string& dir) {
  auto result = unmount_path(dir, true);
  if (!result) return tl::make_unexpected(std::move(result).error().within("dead mount"));
  return {};
}

}  // namespace pcache::fusefs
