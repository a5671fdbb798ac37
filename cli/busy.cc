#include "cli/busy.h"

#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cctype>
#include <filesystem>
#include <fstream>

#include "cli/mountinfo.h"
#include "cli/text.h"

namespace pcache::cli {
namespace {

namespace fs = std::filesystem;

bool on_device(const std::string& link, dev_t device) {
  struct stat st {};
  return ::stat(link.c_str(), &st) == 0 && st.st_dev == device;
}

std::string target_of(const std::string& link) {
  std::error_code error;
  return printable(fs::read_symlink(link, error).string());
}

// What of the process is in the mount; "" when nothing is.
std::string use_of(const std::string& process, dev_t device) {
  if (on_device(process + "/cwd", device)) {
    return "its working directory is " + target_of(process + "/cwd");
  }
  if (on_device(process + "/exe", device)) return "its program is " + target_of(process + "/exe");
  if (on_device(process + "/root", device)) return "its root is " + target_of(process + "/root");
  std::error_code error;
  for (fs::directory_iterator it(process + "/fd", error), end; !error && it != end;
       it.increment(error)) {
    if (on_device(it->path(), device)) return "it has open " + target_of(it->path());
  }
  for (fs::directory_iterator it(process + "/map_files", error), end; !error && it != end;
       it.increment(error)) {
    if (on_device(it->path(), device)) return "it has mapped " + target_of(it->path());
  }
  return "";
}

}  // namespace

std::vector<std::string> users_of_mount(const std::string& dir, size_t limit) {
  std::vector<std::string> users;
  const std::vector<MountEntry> mounts = read_mounts();
  const auto mount = std::find_if(mounts.rbegin(), mounts.rend(),
                                  [&](const MountEntry& m) { return m.dir == dir; });
  if (mount == mounts.rend()) return users;
  std::error_code error;
  for (fs::directory_iterator it("/proc", error), end; !error && it != end; it.increment(error)) {
    const std::string pid = it->path().filename();
    if (!std::all_of(pid.begin(), pid.end(), [](unsigned char c) { return std::isdigit(c); })) {
      continue;
    }
    const std::string use = use_of(it->path(), mount->device);
    if (use.empty()) continue;
    std::ifstream comm(it->path() / "comm");
    std::string name;
    std::getline(comm, name);
    users.push_back(fmt::format("{} (pid {}): {}", printable(name), pid, use));
    if (users.size() >= limit) break;
  }
  return users;
}

}  // namespace pcache::cli
