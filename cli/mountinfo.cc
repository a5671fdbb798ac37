#include "cli/mountinfo.h"

#include <sys/sysmacros.h>
#include <sys/vfs.h>

#include <cerrno>
#include <chrono>
#include <cstdio>
#include <fstream>
#include <future>
#include <memory>
#include <sstream>
#include <thread>

#include "cli/locations.h"

namespace pcache::cli {
namespace {

// Space, tab, newline and backslash stand as three octal digits.
std::string unescape(const std::string& text) {
  std::string out;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '\\' && i + 3 < text.size() && text[i + 1] >= '0' && text[i + 1] <= '3') {
      out += static_cast<char>((text[i + 1] - '0') * 64 + (text[i + 2] - '0') * 8 +
                               (text[i + 3] - '0'));
      i += 3;
    } else {
      out += text[i];
    }
  }
  return out;
}

}  // namespace

bool MountEntry::is_pcache() const {
  return type == "fuse.pcache" || (type.compare(0, 4, "fuse") == 0 && source == "pcache");
}

std::vector<MountEntry> read_mounts() {
  std::vector<MountEntry> mounts;
  std::ifstream file("/proc/self/mountinfo");
  std::string line;
  while (std::getline(file, line)) {
    // 36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw,errors=continue
    std::istringstream fields(line);
    std::string id, parent, device, root, dir, word;
    if (!(fields >> id >> parent >> device >> root >> dir)) continue;
    while (fields >> word && word != "-") {
    }
    MountEntry entry;
    std::string source;
    if (!(fields >> entry.type >> source)) continue;
    unsigned major_number = 0, minor_number = 0;
    if (std::sscanf(device.c_str(), "%u:%u", &major_number, &minor_number) == 2) {
      entry.device = makedev(major_number, minor_number);
    }
    entry.dir = unescape(dir);
    entry.source = unescape(source);
    mounts.push_back(std::move(entry));
  }
  return mounts;
}

std::optional<MountEntry> pcache_mount_of(const std::string& path) {
  std::optional<MountEntry> best;
  for (MountEntry& mount : read_mounts()) {
    if (!mount.is_pcache() || !is_inside(path, mount.dir)) continue;
    if (!best || mount.dir.size() >= best->dir.size()) best = std::move(mount);
  }
  return best;
}

bool is_dead(const std::string& dir) {
  // A frozen daemon answers nothing: it is not dead, and must not hold us.
  constexpr auto kPatience = std::chrono::seconds(1);
  auto answer = std::make_shared<std::promise<bool>>();
  std::future<bool> dead = answer->get_future();
  std::thread([answer, dir] {
    struct statfs st {};
    answer->set_value(::statfs(dir.c_str(), &st) != 0 &&
                      (errno == ENOTCONN || errno == ECONNABORTED));
  }).detach();
  return dead.wait_for(kPatience) == std::future_status::ready && dead.get();
}

bool dies_soon(const std::string& dir) {
  constexpr auto kStep = std::chrono::milliseconds(50);
  for (auto left = std::chrono::seconds(3) / kStep; left > 0; --left) {
    if (is_dead(dir)) return true;
    std::this_thread::sleep_for(kStep);
  }
  return false;
}

}  // namespace pcache::cli
