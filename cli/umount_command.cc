#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>

#include "cli/busy.h"
#include "cli/client.h"
#include "cli/commands.h"
#include "cli/mountinfo.h"
#include "cli/text.h"
#include "cli/working_dir.h"

namespace pcache::cli {
namespace {

// Files served out of the store that are being written into the directory itself.
class ProgressBar {
 public:
  ProgressBar() : paint_(STDERR_FILENO) {}
  ~ProgressBar() { clear(); }

  void show(const Json& progress) {
    if (!paint_.terminal()) return;
    const uint64_t files = progress.value("files", uint64_t{0});
    const uint64_t bytes = progress.value("bytes", uint64_t{0});
    most_ = std::max(most_, bytes);
    if (files == 0 || most_ == 0) return;
    constexpr size_t kWidth = 30;
    const size_t done = kWidth * (most_ - bytes) / most_;
    std::fprintf(stderr, "\r\033[K[%s%s] %s, %s to write", std::string(done, '#').c_str(),
                 std::string(kWidth - done, '.').c_str(), counted(files, "file", "files").c_str(),
                 format_bytes(bytes).c_str());
    std::fflush(stderr);
    shown_ = true;
  }
  void clear() {
    if (shown_) std::fputs("\r\033[K", stderr);
    shown_ = false;
  }

 private:
  Painter paint_;
  uint64_t most_ = 0;
  bool shown_ = false;
};

int unmount(const Channel& channel, const std::string& dir, bool lazy) {
  Json request = make_request("umount");
  request["dir"] = dir;
  request["lazy"] = lazy;
  ProgressBar bar;
  Json refusal;
  const auto answer = ask(
      channel, request, [&](const Json& progress) { bar.show(progress); }, &refusal);
  bar.clear();
  if (answer) {
    fmt::print("Unmounted {}.\n", printable(dir));
    return 0;
  }
  if (!refusal.is_object() || !refusal.value("busy", false)) {
    return fail(answer.error().to_string());
  }
  const auto users = users_of_mount(dir, 8);
  fail(printable(dir) + " is in use: end these or let them leave it, or use --lazy");
  for (const std::string& user : users) std::fprintf(stderr, "  %s\n", user.c_str());
  if (users.empty()) std::fputs("  (no process of yours; another user's, perhaps)\n", stderr);
  return 1;
}

int clear_dead(const Locations& locations, const std::string& dir) {
  if (auto cleared = clear_dead_mounts(locations, dir); !cleared) {
    return fail(cleared.error().to_string());
  }
  fmt::print("Cleared the dead mount {}.\n", printable(dir));
  return 0;
}

// All mounts, dead ones too; then the daemon, unless commands still run under it.
int unmount_all(const Locations& locations, bool lazy) {
  std::vector<std::string> dead;
  for (const MountEntry& mount : read_mounts()) {
    if (mount.is_pcache() && is_dead(mount.dir)) dead.push_back(mount.dir);
  }
  int status = 0;
  for (const std::string& dir : dead) {
    if (auto cleared = clear_dead_mounts(locations, dir); !cleared) {
      status = fail(cleared.error().to_string());
    } else {
      fmt::print("Cleared the dead mount {}.\n", printable(dir));
    }
  }
  auto connection = connect_running(locations);
  if (!connection) return fail(connection.error().to_string());
  if (!*connection) {
    if (dead.empty()) fmt::print("Nothing is mounted and no daemon runs.\n");
    return status;
  }
  const Channel& channel = (*connection)->channel;
  const auto listed = ask(channel, make_request("status"));
  if (!listed) return fail(listed.error().to_string());
  for (const Json& mount : listed->body.value("mounts", Json::array())) {
    const std::string dir = mount.value("dir", "");
    if (mount.value("temporary", false)) {  // goes with its session, if that has not ended already
      Json request = make_request("umount");
      request["dir"] = dir;
      (void)ask(channel, request);
    } else {
      status |= unmount(channel, dir, lazy);
    }
  }
  const auto stopped = ask(channel, make_request("stop"));
  if (!stopped) return fail(stopped.error().to_string());
  (void)channel.receive();  // the end of the connection is the end of the daemon
  fmt::print("Stopped the daemon.\n");
  return status;
}

}  // namespace

int umount_command(const UmountArguments& arguments) {
  const auto locations = Locations::find();
  if (!locations) return fail(locations.error().to_string());
  if (arguments.all) return unmount_all(*locations, arguments.lazy);

  // By name first: what is asked for may be dead, and then nothing in it answers.
  const auto mount = pcache_mount_of(absolute_path(arguments.dir));
  if (mount && is_dead(mount->dir)) return clear_dead(*locations, mount->dir);
  std::string dir;
  if (!arguments.dir.empty()) {
    const auto real = real_directory(*locations, arguments.dir);
    if (!real) return fail(real.error().to_string());
    dir = *real;
  } else if (mount) {
    dir = mount->dir;
  } else {
    return fail("the working directory is not in a pcache mount (see `pcache status`)");
  }
  if (::chdir("/") != 0) return fail("cannot change to /");  // or this process keeps it busy itself
  auto connection = connect_running(*locations);
  if (!connection) return fail(connection.error().to_string());
  if (!*connection) {
    if (mount && mount->dir == dir && dies_soon(dir)) return clear_dead(*locations, dir);
    return fail(printable(dir) + " is not mounted: no daemon runs");
  }
  return unmount((*connection)->channel, dir, arguments.lazy);
}

}  // namespace pcache::cli
