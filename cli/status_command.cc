#include <fmt/format.h>
#include <unistd.h>

#include "cli/client.h"
#include "cli/commands.h"
#include "cli/mountinfo.h"
#include "cli/text.h"

namespace pcache::cli {
namespace {

std::vector<std::string> dead_mounts() {
  std::vector<std::string> dead;
  for (const MountEntry& mount : read_mounts()) {
    if (mount.is_pcache() && is_dead(mount.dir)) dead.push_back(mount.dir);
  }
  return dead;
}

void print_mounts(const Json& mounts) {
  if (mounts.empty()) return;
  std::vector<std::vector<std::string>> rows;
  for (const Json& mount : mounts) {
    const uint64_t pending = mount.value("served_pending", uint64_t{0});
    std::vector<std::string> row = {
        printable(mount.value("dir", "")),
        mount.value("passthrough", false) ? "passthrough: yes" : "passthrough: no"};
    row.push_back(
        pending == 0 ? "nothing to write"
                     : fmt::format("{} to write ({})", counted(pending, "file", "files"),
                                   format_bytes(mount.value("served_bytes_pending", uint64_t{0}))));
    row.emplace_back(mount.value("temporary", false) ? "until its commands end"
                     : mount.value("seizes", false)  ? "caches what is started in it"
                                                     : "caches under `pcache run`");
    rows.push_back(std::move(row));
  }
  fmt::print("Mounts:\n{}", aligned(rows, "  "));
}

void print_sessions(const Json& sessions) {
  if (sessions.empty()) return;
  std::vector<std::vector<std::string>> rows;
  for (const Json& session : sessions) {
    rows.push_back({fmt::format("pid {}", session.value("pid", 0)),
                    format_seconds(session.value("wall_s", 0.0)), session.value("status", ""),
                    command_text(session.value("command", std::vector<std::string>()), 60)});
  }
  fmt::print("Sessions:\n{}", aligned(rows, "  "));
}

}  // namespace

int status_command(bool json) {
  const auto locations = Locations::find();
  if (!locations) return fail(locations.error().to_string());
  auto connection = connect_running(*locations);
  if (!connection) return fail(connection.error().to_string());
  const std::vector<std::string> dead = dead_mounts();
  Json state = {{"running", false}, {"store", locations->store()}};
  if (*connection) {
    const auto answer = ask((*connection)->channel, make_request("status"));
    if (!answer) return fail(answer.error().to_string());
    state = answer->body;
    state["running"] = true;
    state.erase("ok");
  }
  state["dead_mounts"] = dead;
  if (json) {
    fmt::print("{}\n", state.dump(2, ' ', false, Json::error_handler_t::replace));
    return 0;
  }
  const Painter paint(STDOUT_FILENO);
  std::vector<std::vector<std::string>> rows;
  if (state.value("running", false)) {
    rows.push_back({"Daemon", fmt::format("pid {}, version {}, up {}", state.value("pid", 0),
                                          state.value("version", "?"),
                                          format_seconds(state.value("uptime_s", 0.0)))});
    rows.push_back({"Probes", state.value("probe_source", "?")});
  } else {
    rows.push_back({"Daemon", "not running (it is started when it is needed)"});
  }
  rows.push_back({"Store", printable(state.value("store", ""))});
  const std::string problem = state.value("store_problem", "");
  if (!problem.empty()) {
    rows.push_back({"", paint(Colour::kRed, "unusable, commands run uncached: ") + problem});
  }
  if (const auto late = state.value("seized_too_late", uint64_t{0}); late > 0)
    rows.push_back({"Seizing", counted(late, "command", "commands") +
                                   " could not be seized in time, and ran uncached"});
  rows.push_back({"Log", printable(locations->log())});
  fmt::print("{}", aligned(rows, ""));
  print_mounts(state.value("mounts", Json::array()));
  print_sessions(state.value("sessions", Json::array()));
  for (const std::string& dir : dead) {
    fmt::print("{} {}: `pcache umount {}` clears it\n", paint(Colour::kRed, "Dead mount"),
               printable(dir), printable(dir));
  }
  return 0;
}

}  // namespace pcache::cli
