#include "cli/views/overview.h"

#include <algorithm>
#include <set>
#include <utility>
#include <vector>

#include "cli/text.h"

namespace pcache::cli {
namespace {

constexpr size_t kFew = 3;  // are shown one by one

std::string program_of(const Json& execution) {
  const auto argv = execution.value("argv", std::vector<std::string>());
  return argv.empty() ? "?" : argv[0].substr(argv[0].rfind('/') + 1);
}

template <class Predicate>
ProgramCounts take(Json* executions, Predicate is_taken) {
  ProgramCounts taken;
  Json kept = Json::array();
  for (Json& execution : *executions) {
    if (is_taken(execution))
      ++taken[program_of(execution)];
    else
      kept.push_back(std::move(execution));
  }
  *executions = std::move(kept);
  return taken;
}

bool is_only_new(const Json& execution) {
  const auto reasons = execution.find("reasons");
  return execution.value("outcome", "") == "miss" && !execution.contains("like") &&
         reasons != execution.end() && reasons->size() == 1 &&
         (*reasons)[0].value("code", "") == "no-record";
}

// Variables that came, went or changed are alike.
std::string kind_of_detail(const std::string& detail) {
  if (!detail.starts_with("env ")) return detail;
  return detail.find(" was added") != std::string::npos     ? "env added"
         : detail.find(" was removed") != std::string::npos ? "env removed"
                                                            : "env changed";
}

}  // namespace

ProgramCounts take_covered(Json* executions) {
  // Parents come before their children: begun first, numbered first.
  std::set<uint64_t> recorded;  // or inside of what is
  std::set<uint64_t> covered;
  for (const Json& execution : *executions) {
    const auto id = execution.value("id", uint64_t{0});
    const bool inside = recorded.contains(execution.value("parent", uint64_t{0}));
    if (inside || execution.value("recorded", false)) recorded.insert(id);
    if (inside && execution.value("outcome", "") == "uncacheable") covered.insert(id);
  }
  return take(executions, [&](const Json& execution) {
    return covered.contains(execution.value("id", uint64_t{0}));
  });
}

bool merge_alike(Json* executions) {
  const auto kind = [](const Json& execution) {
    std::string text = program_of(execution) + '\0' + execution.value("outcome", "");
    for (const Json& reason : execution.value("reasons", Json::array()))
      for (const char* field : {"code", "path", "detail"})
        text += '\0' + reason.value(field, std::string());
    return text;
  };
  std::map<std::string, uint64_t> count;
  for (const Json& execution : *executions)
    if (!is_only_new(execution)) ++count[kind(execution)];
  std::set<std::string> seen;
  const ProgramCounts taken = take(executions, [&](const Json& execution) {
    if (is_only_new(execution)) return false;
    const std::string text = kind(execution);
    return count[text] > kFew && !seen.insert(text).second;
  });
  for (Json& execution : *executions)
    if (!is_only_new(execution))
      if (const uint64_t all = count[kind(execution)]; all > kFew) execution["alike"] = all - 1;
  return !taken.empty();
}

ProgramCounts take_new(Json* explained) {
  const auto count = std::count_if(explained->begin(), explained->end(), is_only_new);
  if (static_cast<size_t>(count) <= kFew) return {};
  return take(explained, is_only_new);
}

bool shorten_reasons(Json* explained) {
  bool shortened = false;
  std::set<std::string> shown;  // diffs
  for (Json& execution : *explained) {
    std::map<std::pair<std::string, std::string>, size_t> alike;
    const auto kind = [](const Json& reason) {
      return std::pair(reason.value("code", ""), kind_of_detail(reason.value("detail", "")));
    };
    for (const Json& reason : execution["reasons"]) ++alike[kind(reason)];
    Json kept = Json::array();
    for (Json& reason : execution["reasons"]) {
      size_t& count = alike[kind(reason)];
      if (count == 0) continue;  // stands for it already
      if (count > kFew) {
        reason["and"] = count - 1;
        count = 0;
        shortened = true;
      }
      if (reason.contains("diff") &&
          !shown.insert(reason.value("path", "") + '\0' + reason["diff"].dump()).second) {
        reason.erase("diff");
        shortened = true;
      }
      kept.push_back(std::move(reason));
    }
    execution["reasons"] = std::move(kept);
  }
  return shortened;
}

std::string listed(const ProgramCounts& programs) {
  std::vector<std::pair<std::string, uint64_t>> sorted(programs.begin(), programs.end());
  std::stable_sort(sorted.begin(), sorted.end(),
                   [](const auto& a, const auto& b) { return a.second > b.second; });
  std::string out;
  for (const auto& [name, count] : sorted) {
    out += (out.empty() ? "" : ", ") + (count > 1 ? std::to_string(count) + " " : "") +
           printable(name);
  }
  return out;
}

}  // namespace pcache::cli
