#include "cli/views/top.h"

#include <fmt/format.h>

#include <algorithm>
#include <vector>

namespace pcache::cli {
namespace {

constexpr double kWindow_s = 5;  // a rate is of the last 5 to 10 seconds

std::vector<std::string> command_of(const Json& session) {
  return session.value("command", std::vector<std::string>());
}

// Items side by side, on as many lines as the width asks for.
std::vector<std::string> wrapped(const std::vector<std::string>& items, size_t width) {
  std::vector<std::string> lines;
  for (const std::string& item : items) {
    if (!lines.empty() && lines.back().size() + 3 + item.size() <= width) {
      lines.back() += "   " + item;
    } else {
      lines.push_back("  " + item.substr(0, width < 4 ? item.size() : width - 2));
    }
  }
  return lines;
}

std::vector<std::string> counts_of(const Json& session) {
  return {format_seconds(session.value("wall_s", 0.0)),
          fmt::format("{:.1f} executions/s", session.value("rate", 0.0)),
          counted(session.value("hits", uint64_t{0}), "hit", "hits"),
          counted(session.value("misses", uint64_t{0}), "miss", "misses"),
          fmt::format("{} not cacheable", session.value("uncacheable", uint64_t{0})),
          "saved " + format_seconds(session.value("saved_s", 0.0))};
}

// Of the store's contents: what hits have brought back, and what exists in the mount only as yet.
std::vector<std::string> served_of(const Json& session, const Json& mounts) {
  std::vector<std::string> items;
  if (const uint64_t bytes = session.value("bytes_served", uint64_t{0}); bytes > 0)
    items.push_back("served " + format_bytes(bytes));
  for (const Json& mount : mounts) {
    const uint64_t files = mount.value("served_pending", uint64_t{0});
    if (files == 0 || mount.value("dir", "") != session.value("root", "")) continue;
    items.push_back(fmt::format("{} being written out ({})", counted(files, "file", "files"),
                                format_bytes(mount.value("served_bytes_pending", uint64_t{0}))));
  }
  return items;
}

// What works, the longest first; who waits for it is told by its own command line.
std::vector<Json> working_in(const Json& session) {
  std::vector<Json> working;
  for (const Json& execution : session.value("running", Json::array()))
    if (execution.value("working", false)) working.push_back(execution);
  std::stable_sort(working.begin(), working.end(), [](const Json& a, const Json& b) {
    return a.value("running_s", 0.0) > b.value("running_s", 0.0);
  });
  return working;
}

std::string execution_line(const Json& execution, const Screen& screen, const Painter& paint) {
  const std::string before = fmt::format("  {:>8} {:>9}  ", execution.value("pid", 0),
                                         format_seconds(execution.value("running_s", 0.0)));
  const std::string mark = execution.value("served", false) ? "served: " : "";
  const size_t taken = before.size() + mark.size();
  const size_t left = screen.width > taken + 8 ? screen.width - taken : 8;
  return before + paint(Colour::kGreen, mark) +
         command_text(execution.value("argv", std::vector<std::string>()), left);
}

std::vector<std::string> session_lines(const Json& session, const Json& mounts,
                                       const Screen& screen, size_t most, const Painter& paint) {
  std::vector<std::string> lines;
  lines.push_back(paint(Colour::kBold, command_text(command_of(session), screen.width)));
  const std::string place =
      fmt::format("in {}, pid {}", printable(session.value("root", "")), session.value("pid", 0));
  if (place.size() + 2 <= screen.width) lines.push_back("  " + place);
  for (std::string& line : wrapped(counts_of(session), screen.width))
    lines.push_back(std::move(line));
  for (std::string& line : wrapped(served_of(session, mounts), screen.width))
    lines.push_back(std::move(line));
  const std::vector<Json> working = working_in(session);
  if (working.empty()) return lines;
  lines.push_back(paint(Colour::kDim, fmt::format("  {:>8} {:>9}  {}", "PID", "FOR", "RUNS NOW")));
  size_t shown = working.size();
  if (most != 0 && lines.size() + shown > most)
    shown = most > lines.size() ? most - lines.size() : 1;
  if (shown < working.size() && shown > 1) --shown;  // the line that says so
  for (size_t i = 0; i < shown; ++i) lines.push_back(execution_line(working[i], screen, paint));
  if (shown < working.size())
    lines.push_back(paint(
        Colour::kDim, fmt::format("  {:>8} {:>9}  and {} more", "", "", working.size() - shown)));
  return lines;
}

}  // namespace

void Rates::add_to(Json& state, double now_s) {
  decltype(seen_) still;
  for (Json& session : state["sessions"]) {
    const std::pair<int64_t, std::string> key{session.value("pid", int64_t{0}),
                                              command_text(command_of(session), 200)};
    const Seen now{now_s, session.value("executions", uint64_t{0})};
    const auto known = seen_.find(key);
    const Seen start{now_s - session.value("wall_s", 0.0), 0};
    // Two points: the older one is what is compared with, until the younger one is old enough.
    std::pair<Seen, Seen> points = known == seen_.end() ? std::pair{start, now} : known->second;
    if (now.at_s - points.second.at_s >= kWindow_s) points = {points.second, now};
    const double passed_s = now.at_s - points.first.at_s;
    const auto ended =
        static_cast<double>(now.executions - std::min(now.executions, points.first.executions));
    session["rate"] = passed_s > 0 ? ended / passed_s : 0.0;
    still.emplace(key, points);
  }
  seen_ = std::move(still);
}

std::string top_text(const Json& state, const Screen& screen, const Painter& paint) {
  const Json sessions = state.value("sessions", Json::array());
  const Json mounts = state.value("mounts", Json::array());
  std::vector<std::string> lines;
  if (sessions.empty()) {
    lines.emplace_back(state.value("running", true) ? "No command runs under pcache now."
                                                    : "No daemon runs, so no command does.");
  }
  // Each gets its share of the screen; a blank line parts them.
  const size_t share = screen.height == 0 || sessions.empty()
                           ? 0
                           : std::max<size_t>(6, screen.height / sessions.size() - 1);
  for (const Json& session : sessions) {
    if (!lines.empty()) lines.emplace_back();
    for (std::string& line : session_lines(session, mounts, screen, share, paint))
      lines.push_back(std::move(line));
  }
  if (screen.height != 0 && lines.size() > screen.height) lines.resize(screen.height);
  std::string out;
  for (const std::string& line : lines) out += line + "\n";
  return out;
}

}  // namespace pcache::cli
