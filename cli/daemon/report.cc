#include "cli/daemon/report.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <climits>
#include <nlohmann/json.hpp>

#include "cli/text.h"

namespace pcache::cli {
namespace {

using OrderedJson = nlohmann::ordered_json;
constexpr int64_t kLineTimeoutMs = 1000;

std::string key_text(const store::Digest& key) { return key.empty() ? "" : key.hex(); }

OrderedJson reasons_json(const std::vector<store::Reason>& list) {
  OrderedJson reasons = OrderedJson::array();
  for (const store::Reason& reason : list) {
    reasons.push_back({{"code", reason.code}, {"path", reason.path}, {"detail", reason.detail}});
  }
  return reasons;
}

OrderedJson execution_json(const tracer::ExecutionReport& execution) {
  return {{"id", execution.id},
          {"parent", execution.parent},
          {"pid", execution.pid},
          {"argv", execution.argv},
          {"cwd", execution.cwd},
          {"outcome", tracer::outcome_name(execution.outcome)},
          {"reasons", reasons_json(execution.reasons)},
          {"exit_status", execution.exit_status},
          {"cpu_s", execution.cpu_s},
          {"saved_s", execution.saved_s},
          {"facts", execution.facts},
          {"effects", execution.effects},
          {"recorded", execution.recorded},
          {"tree_ops", execution.tree_ops},
          {"stops", execution.stops},
          {"start_us", execution.start_us},
          {"end_us", execution.end_us},
          {"record", key_text(execution.record)},
          {"nearest", key_text(execution.nearest)}};
}

int64_t now_ms() {
  struct timespec now {};
  ::clock_gettime(CLOCK_MONOTONIC, &now);
  return int64_t{now.tv_sec} * 1000 + now.tv_nsec / 1'000'000;
}

}  // namespace

std::string report_json(const tracer::SessionReport& report) {
  OrderedJson executions = OrderedJson::array();
  for (const tracer::ExecutionReport& execution : report.executions) {
    executions.push_back(execution_json(execution));
    if (!execution.checked) continue;
    executions.back()["checked"] = true;
    executions.back()["differences"] = reasons_json(execution.differences);
  }
  OrderedJson out = {{"command", report.command},
                     {"root", report.root},
                     {"started_s", static_cast<double>(report.started_ns) / 1e9},
                     {"exit_status", report.exit_status},
                     {"wall_s", report.wall_s},
                     {"executions", std::move(executions)},
                     {"hits", report.hits},
                     {"misses", report.misses},
                     {"uncacheable", report.uncacheable},
                     {"saved_s", report.saved_s},
                     {"bytes_served", report.bytes_served},
                     {"warning", report.warning}};
  if (report.checked != 0) {
    out["checked"] = report.checked;
    out["different"] = report.different;
  }
  return out.dump(-1, ' ', false, OrderedJson::error_handler_t::replace);
}

std::string check_block(const tracer::SessionReport& report) {
  if (report.different == 0)
    return fmt::format("pcache: check: {}, all as recorded\n",
                       counted(report.checked, "command", "commands"));
  std::string out = fmt::format("pcache: check: {} of {} did not give what is recorded:\n",
                                report.different, counted(report.checked, "command", "commands"));
  for (const tracer::ExecutionReport& execution : report.executions) {
    if (execution.differences.empty()) continue;
    out += "  " + command_text(execution.argv, 120) + "\n";
    std::vector<std::vector<std::string>> rows;
    for (const store::Reason& difference : execution.differences)
      rows.push_back({difference.code, printable(difference.path), printable(difference.detail)});
    out += aligned(rows, "      ");
  }
  return out;
}

std::string summary_line(const tracer::SessionReport& report) {
  return fmt::format("pcache: {}, {}, {} not cacheable; saved {}\n",
                     counted(report.hits, "hit", "hits"), counted(report.misses, "miss", "misses"),
                     report.uncacheable, format_seconds(report.saved_s));
}

Result<void> write_report(int fd, const std::string& json) {
  const std::string text = json + "\n";
  for (size_t done = 0; done < text.size();) {
    const ssize_t n = ::write(fd, text.data() + done, text.size() - done);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return system_error("cannot write the report");
    done += static_cast<size_t>(n);
  }
  return {};
}

void write_line(int fd, const std::string& line) {
  struct stat st {};
  if (::fstat(fd, &st) != 0) return;
  // An own open file description of the same pipe or terminal can be non-blocking by itself. After
  // su it may belong to somebody else, who cannot be asked to open it: then it is written to when
  // there is room, and a line is short.
  UniqueFd own;
  if (S_ISFIFO(st.st_mode) || S_ISCHR(st.st_mode)) {
    own.reset(::open(fmt::format("/proc/self/fd/{}", fd).c_str(),
                     O_WRONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC));
    if (own) fd = own.get();
  }
  const int64_t deadline = now_ms() + kLineTimeoutMs;
  const bool may_block = (S_ISFIFO(st.st_mode) || S_ISCHR(st.st_mode)) && !own;
  for (size_t done = 0; done < line.size();) {
    struct pollfd room = {fd, POLLOUT, 0};
    if (may_block &&
        ::poll(&room, 1, static_cast<int>(std::max<int64_t>(0, deadline - now_ms()))) <= 0)
      return;
    const size_t left_over = line.size() - done;
    const size_t size = may_block ? std::min<size_t>(left_over, PIPE_BUF) : left_over;
    const ssize_t n = S_ISSOCK(st.st_mode)
                          ? ::send(fd, line.data() + done, size, MSG_DONTWAIT | MSG_NOSIGNAL)
                          : ::write(fd, line.data() + done, size);
    if (n > 0) {
      done += static_cast<size_t>(n);
      continue;
    }
    if (n < 0 && errno == EINTR) continue;
    const int64_t left = deadline - now_ms();
    if (n == 0 || errno != EAGAIN || left <= 0) return;
    struct pollfd ready = {fd, POLLOUT, 0};
    ::poll(&ready, 1, static_cast<int>(left));
  }
}

}  // namespace pcache::cli
