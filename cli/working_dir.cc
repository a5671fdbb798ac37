#include "cli/working_dir.h"

#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <memory>

#include "cli/client.h"
#include "cli/mountinfo.h"
#include "cli/text.h"

namespace pcache::cli {
namespace {

struct Free {
  void operator()(char* p) const { ::free(p); }
};

Result<std::string> real_path(const std::string& path) {
  const std::unique_ptr<char, Free> real(::realpath(path.c_str(), nullptr));
  if (real == nullptr) return system_error(printable(path));
  return std::string(real.get());
}

Result<std::string> current_dir() {
  // getcwd() works in a dead mount (the kernel knows the names), but nothing else does.
  if (is_dead(".")) return system_error("the working directory", ENOTCONN);
  const std::unique_ptr<char, Free> cwd(::getcwd(nullptr, 0));
  if (cwd == nullptr) return system_error("the working directory");
  return std::string(cwd.get());
}

}  // namespace

std::string absolute_path(const std::string& path) {
  if (!path.empty() && path[0] == '/') return path;
  const char* pwd = std::getenv("PWD");
  std::string base = pwd != nullptr && pwd[0] == '/' ? pwd : "";
  const std::unique_ptr<char, Free> cwd(::getcwd(nullptr, 0));
  if (cwd != nullptr && cwd.get()[0] == '/') base = cwd.get();
  return path == "." || path.empty() ? base : base + "/" + path;
}

Result<void> clear_dead_mounts(const Locations& locations, const std::string& path) {
  Json dirs = Json::array();
  for (const MountEntry& mount : read_mounts()) {
    if (mount.is_pcache() && is_inside(path, mount.dir) && is_dead(mount.dir)) {
      dirs.push_back(mount.dir);
    }
  }
  if (dirs.empty()) return {};
  PCACHE_ASSIGN(Connection connection, connect_or_start(locations));
  Json request = make_request("clear_dead");
  request["dirs"] = dirs;
  PCACHE_ASSIGN(const Message answer, ask(connection.channel, request));
  if (const std::string note = answer.text("note"); !note.empty()) warn(note);
  return {};
}

Result<std::string> enter_working_dir(const Locations& locations) {
  auto cwd = current_dir();
  if (cwd) return cwd;
  if (cwd.error().sys_errno == ENOTCONN) {
    const char* pwd = std::getenv("PWD");
    if (pwd != nullptr && pwd[0] == '/') {
      PCACHE_TRY(clear_dead_mounts(locations, pwd));
      if (::chdir(pwd) == 0) return current_dir();
    }
    return make_error(ErrorKind::kSystem,
                      "the working directory lies in a dead mount: run `cd \"$PWD\"`, then again");
  }
  if (cwd.error().sys_errno == ENOENT) {
    return make_error(ErrorKind::kNotFound,
                      "the working directory was deleted: change to one that exists");
  }
  return cwd;
}

Result<std::string> real_directory(const Locations& locations, const std::string& dir) {
  auto real = real_path(dir);
  if (!real && real.error().sys_errno == ENOTCONN) {
    PCACHE_TRY(clear_dead_mounts(locations, absolute_path(dir)));
    real = real_path(absolute_path(dir));
  }
  if (real && is_dead(*real)) PCACHE_TRY(clear_dead_mounts(locations, *real));
  if (!real) {
    if (real.error().sys_errno == ENOENT) {
      return make_error(ErrorKind::kNotFound,
                        printable(dir) + ": no such directory: create it, or name another");
    }
    return real;
  }
  struct stat st {};
  if (::stat(real->c_str(), &st) != 0) return system_error(printable(*real));
  if (!S_ISDIR(st.st_mode)) {
    return make_error(ErrorKind::kInvalid,
                      printable(dir) + ": not a directory: name the directory that holds it");
  }
  return real;
}

Result<std::string> choose_root(const Locations& locations, const std::string& cwd,
                                const std::string& root_option) {
  if (!root_option.empty()) {
    PCACHE_ASSIGN(const std::string root, real_directory(locations, root_option));
    if (!is_inside(cwd, root)) {
      return make_error(ErrorKind::kInvalid, "the working directory " + printable(cwd) +
                                                 " is not inside --root " + printable(root) +
                                                 ": change into it first");
    }
    return root;
  }
  if (const auto mount = pcache_mount_of(cwd)) return mount->dir;

  std::string root = cwd;
  for (std::string dir = cwd; !dir.empty(); dir.erase(dir.rfind('/'))) {
    struct stat st {};
    if (::stat((dir + "/.git").c_str(), &st) == 0) {
      root = dir;
      break;
    }
  }
  const char* home = std::getenv("HOME");
  const auto real_home = home == nullptr ? Result<std::string>("") : real_path(home);
  if (root == "/" || (real_home && root == *real_home)) {
    return make_error(ErrorKind::kInvalid,
                      printable(root) +
                          " is too much to cache: change into a project, or name its "
                          "directory with --root");
  }
  return root;
}

}  // namespace pcache::cli
