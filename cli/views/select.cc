#include "cli/views/select.h"

#include <algorithm>
#include <iterator>

namespace pcache::cli {
namespace {

std::string base_name(const std::string& path) { return path.substr(path.rfind('/') + 1); }

bool same_command(const Words& a, const Words& b) {
  return a.size() == b.size() && !a.empty() && base_name(a[0]) == base_name(b[0]) &&
         std::equal(a.begin() + 1, a.end(), b.begin() + 1);
}

Words argv_of(const Json& execution) { return execution.value("argv", Words()); }

bool has_reason_about(const Json& execution, const std::string& path) {
  const Json reasons = execution.value("reasons", Json::array());
  return std::any_of(reasons.begin(), reasons.end(),
                     [&](const Json& reason) { return reason.value("path", "") == path; });
}

// A part of the command line, or of a path that a reason names.
bool mentions(const Json& execution, const std::string& text) {
  std::string line;
  for (const std::string& word : argv_of(execution)) line += word + " ";
  if (line.find(text) != std::string::npos) return true;
  const Json reasons = execution.value("reasons", Json::array());
  return std::any_of(reasons.begin(), reasons.end(), [&](const Json& reason) {
    return reason.value("path", "").find(text) != std::string::npos;
  });
}

bool is_hit(const Json& execution) { return execution.value("outcome", "") == "hit"; }

template <class Predicate>
Json filter(const Json& report, Predicate keep) {
  Json chosen = Json::array();
  for (const Json& execution : report.value("executions", Json::array()))
    if (keep(execution)) chosen.push_back(execution);
  return chosen;
}

}  // namespace

Json select_executions(const Json& report, const Wanted& wanted) {
  if (!wanted.command.empty())
    return filter(report, [&](const Json& e) { return same_command(argv_of(e), wanted.command); });
  if (wanted.text.empty()) return filter(report, [](const Json& e) { return !is_hit(e); });
  const bool number = wanted.text.find_first_not_of("0123456789") == std::string::npos;
  if (number)
    if (Json found = filter(report,
                            [&](const Json& e) {
                              return std::to_string(e.value("id", uint64_t{0})) == wanted.text;
                            });
        !found.empty())
      return found;
  if (!wanted.path.empty()) {
    Json found = filter(report, [&](const Json& e) {
      if (!wanted.maker.empty() && e.value("record", "") == wanted.maker) return true;
      return !is_hit(e) && has_reason_about(e, wanted.path);
    });
    if (!found.empty()) return found;
  }
  return filter(report, [&](const Json& e) { return !is_hit(e) && mentions(e, wanted.text); });
}

NearCommand nearest_command(const Json& execution, const Json& report, const Json& current) {
  const Words argv = argv_of(execution);
  NearCommand best;
  if (argv.empty()) return best;
  Words sorted = argv;
  std::sort(sorted.begin(), sorted.end());
  size_t best_common = argv.size() / 2;
  for (const Json& other : report.value("executions", Json::array())) {
    Words words = argv_of(other);
    if (words.empty() || base_name(words[0]) != base_name(argv[0]) ||
        other.value("cwd", "") != execution.value("cwd", ""))
      continue;
    std::sort(words.begin(), words.end());
    Words common;
    std::set_intersection(words.begin(), words.end(), sorted.begin(), sorted.end(),
                          std::back_inserter(common));
    if (common.size() <= best_common || words == sorted) continue;
    const Json now = current.value("executions", Json::array());
    if (std::any_of(now.begin(), now.end(),
                    [&](const Json& e) { return same_command(argv_of(e), argv_of(other)); }))
      continue;
    best_common = common.size();
    best = {argv_of(other), {}, {}};
    std::set_difference(words.begin(), words.end(), sorted.begin(), sorted.end(),
                        std::back_inserter(best.removed));
    std::set_difference(sorted.begin(), sorted.end(), words.begin(), words.end(),
                        std::back_inserter(best.added));
  }
  return best;
}

}  // namespace pcache::cli
