#include "cli/views/runs.h"

#include <fmt/format.h>

#include <cerrno>
#include <cstdlib>
#include <ctime>
#include <fstream>
#include <sstream>

#include "cli/text.h"

namespace pcache::cli {
namespace {

Result<RunView> no_such_run(const std::string& which, const std::vector<uint64_t>& kept) {
  return make_error(ErrorKind::kNotFound,
                    fmt::format("there is no run {}: those from {} to {} are kept", which,
                                kept.front(), kept.back()));
}

Result<RunView> parse(std::string_view text, const std::string& where) {
  RunView run;
  run.report = Json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (!run.report.is_object() || !run.report.contains("executions"))
    return make_error(ErrorKind::kCorrupt, where + " is no report of a run");
  return run;
}

}  // namespace

Result<RunView> read_run(const Channel& channel, const std::string& which) {
  Json request = make_request("report");
  PCACHE_ASSIGN(Message answer, ask(channel, request));
  const auto kept = answer.body.value("kept", std::vector<uint64_t>());
  if (kept.empty())
    return make_error(ErrorKind::kNotFound,
                      "no run is recorded yet: start one with `pcache run -- CMD`");
  if (!which.empty()) {
    char* end = nullptr;
    const long long wanted = std::strtoll(which.c_str(), &end, 10);
    if (*end != '\0' || wanted == 0)
      return make_error(ErrorKind::kInvalid,
                        "a run is a number, or -1 for the one before the last, not " + which);
    const auto back = static_cast<size_t>(-wanted);
    if (wanted < 0 && back >= kept.size()) return no_such_run(which, kept);
    request["run"] = wanted > 0 ? static_cast<uint64_t>(wanted) : kept[kept.size() - 1 - back];
    PCACHE_ASSIGN(answer, ask(channel, request));
    if (!answer.body.contains("run")) return no_such_run(which, kept);
  }
  PCACHE_ASSIGN(RunView run, parse(answer.text("run"), "what the daemon keeps"));
  run.number = answer.body.value("number", uint64_t{0});
  run.kept = kept;
  return run;
}

Result<RunView> read_report_file(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  std::stringstream text;
  text << in.rdbuf();
  if (!in) return system_error("cannot read the report " + printable(path), errno ? errno : EIO);
  return parse(text.str(), printable(path));
}

Json read_record(const Channel& channel, const std::string& strong) {
  if (strong.empty()) return nullptr;
  Json request = make_request("record");
  request["strong"] = strong;
  const auto answer = ask(channel, request);
  return answer ? answer->body.value("record", Json()) : Json();
}

std::string time_text(double seconds) {
  const auto then = static_cast<time_t>(seconds);
  const time_t now = ::time(nullptr);
  struct tm then_tm {
  }, now_tm{};
  ::localtime_r(&then, &then_tm);
  ::localtime_r(&now, &now_tm);
  char text[40];
  const bool today = then_tm.tm_yday == now_tm.tm_yday && then_tm.tm_year == now_tm.tm_year;
  const size_t n =
      std::strftime(text, sizeof text, today ? "today %H:%M:%S" : "%Y-%m-%d %H:%M:%S", &then_tm);
  return std::string(text, n);
}

std::string run_title(const RunView& run) {
  if (run.number == 0) return "Run";
  if (!run.kept.empty() && run.number == run.kept.back()) return "Last run";
  return fmt::format("Run {}", run.number);
}

}  // namespace pcache::cli
