#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <thread>

#include "cli/busy.h"
#include "cli/client.h"
#include "cli/commands.h"
#include "cli/mountinfo.h"
#include "cli/progress.h"
#include "cli/text.h"
#include "cli/working_dir.h"

namespace pcache::cli {
namespace {

// What was done, as it happens to people or at the end as JSON.
class Told {
 public:
  explicit Told(const UmountArguments& arguments)
      : json_(arguments.json), silent_(arguments.silent) {}
  void unmounted(const std::string& dir) { tell("unmounted", dir, "Unmounted {}.\n"); }
  void cleared(const std::string& dir) { tell("cleared", dir, "Cleared the dead mount {}.\n"); }
  void stopped() {
    all_["daemon_stopped"] = true;
    say("Stopped the daemon.\n");
  }
  int end(int status) const {
    if (json_) fmt::print("{}\n", all_.dump(2, ' ', false, Json::error_handler_t::replace));
    return status;
  }
  void say(const std::string& text) const {
    if (!json_ && !silent_) fmt::print("{}", text);
  }

 private:
  void tell(const char* what, const std::string& dir, const char* text) {
    all_[what].push_back(dir);
    say(fmt::format(fmt::runtime(text), printable(dir)));
  }
  const bool json_, silent_;
  Json all_ = {{"unmounted", Json::array()}, {"cleared", Json::array()}, {"daemon_stopped", false}};
};

int unmount(Told& told, const Channel& channel, const std::string& dir, bool lazy) {
  Json request = make_request("umount");
  request["dir"] = dir;
  request["lazy"] = lazy;
  ProgressBar bar;
  Json refusal;
  uint64_t most = 0;
  // Files served out of the store that are being written into the directory itself.
  const auto show = [&](const Json& progress) {
    const uint64_t files = progress.value("files", uint64_t{0});
    const uint64_t bytes = progress.value("bytes", uint64_t{0});
    most = std::max(most, bytes);
    if (files == 0 || most == 0) return;
    bar.show(static_cast<double>(most - bytes) / static_cast<double>(most),
             counted(files, "file", "files") + ", " + format_bytes(bytes) + " to write");
  };
  // A large file that was removed is freed when the daemon closes it, after the command has ended:
  // that takes seconds, and nobody but us is the reason.
  constexpr auto kPatience = std::chrono::seconds(5);
  constexpr auto kPause = std::chrono::milliseconds(50);
  const auto end = std::chrono::steady_clock::now() + kPatience;
  std::vector<std::string> users;
  while (true) {
    const auto answer = ask(channel, request, show, &refusal);
    bar.clear();
    if (answer) {
      told.unmounted(dir);
      return 0;
    }
    if (!refusal.is_object() || !refusal.value("busy", false))
      return fail(answer.error().to_string());
    users = users_of_mount(dir, 8);
    if (!users.empty() || std::chrono::steady_clock::now() > end) break;
    std::this_thread::sleep_for(kPause);
  }
  fail(printable(dir) + " is in use: end these or let them leave it, or use --lazy");
  for (const std::string& user : users) std::fprintf(stderr, "  %s\n", user.c_str());
  if (users.empty()) std::fputs("  (no process of yours; another user's, perhaps)\n", stderr);
  return 1;
}

int clear_dead(Told& told, const Locations& locations, const std::string& dir) {
  if (auto cleared = clear_dead_mounts(locations, dir); !cleared) {
    return fail(cleared.error().to_string());
  }
  told.cleared(dir);
  return 0;
}

// All mounts, dead ones too; then the daemon, unless commands still run under it.
int unmount_all(Told& told, const Locations& locations, bool lazy) {
  std::vector<std::string> dead;
  for (const MountEntry& mount : read_mounts()) {
    if (!mount.is_pcache() || !is_dead(mount.dir)) continue;
    // Who has the notes of what was being written there can mend it.
    if (::access(locations.unfinished(mount.dir).c_str(), F_OK) == 0) {
      dead.push_back(mount.dir);
    } else {
      told.say(fmt::format(
          "{} is the dead mount of another PCACHE_DIR: `pcache umount DIR` clears it.\n",
          printable(mount.dir)));
    }
  }
  int status = 0;
  for (const std::string& dir : dead) {
    if (auto cleared = clear_dead_mounts(locations, dir); !cleared) {
      status = fail(cleared.error().to_string());
    } else {
      told.cleared(dir);
    }
  }
  auto connection = connect_running(locations);
  if (!connection) return fail(connection.error().to_string());
  if (!*connection) {
    if (dead.empty()) told.say("Nothing is mounted and no daemon runs.\n");
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
      status |= unmount(told, channel, dir, lazy);
    }
  }
  const auto stopped = ask(channel, make_request("stop"));
  if (!stopped) return fail(stopped.error().to_string());
  (void)channel.receive();  // the end of the connection is the end of the daemon
  told.stopped();
  return status;
}

}  // namespace

int umount_command(const UmountArguments& arguments) {
  const auto locations = Locations::find();
  if (!locations) return fail(locations.error().to_string());
  Told told(arguments);
  if (arguments.all) {
    if (::chdir("/") != 0) return fail("cannot change to /");  // or this process keeps one busy
    return told.end(unmount_all(told, *locations, arguments.lazy));
  }

  // By name first: what is asked for may be dead, and then nothing in it answers.
  const auto mount = pcache_mount_of(absolute_path(arguments.dir));
  if (mount && is_dead(mount->dir)) return told.end(clear_dead(told, *locations, mount->dir));
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
    if (mount && mount->dir == dir && dies_soon(dir))
      return told.end(clear_dead(told, *locations, dir));
    return fail(printable(dir) + " is not mounted: no daemon runs");
  }
  return told.end(unmount(told, (*connection)->channel, dir, arguments.lazy));
}

}  // namespace pcache::cli
