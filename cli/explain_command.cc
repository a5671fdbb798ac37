// pcache explain: prints the reasons that a run recorded. Nothing is worked out anew here.
#include <fmt/format.h>
#include <unistd.h>

#include "cli/client.h"
#include "cli/commands.h"
#include "cli/text.h"
#include "cli/views/explain.h"
#include "cli/views/overview.h"
#include "cli/views/select.h"
#include "cli/working_dir.h"

namespace pcache::cli {
namespace {

constexpr size_t kMostExplained = 50;  // in full; the others' reasons are listed

// A path as reports name it, and the record that left it.
void find_path(const Channel& channel, const RunView& run, Wanted* wanted) {
  if (wanted->text.empty()) return;
  const std::string path = absolute_path(wanted->text);
  const std::string root = run.report.value("root", "");
  wanted->path = is_inside(path, root) && path != root ? path.substr(root.size() + 1) : path;
  Json request = make_request("producer");
  request["path"] = path;
  if (const auto answer = ask(channel, request)) wanted->maker = answer->text("strong");
}

// Without --run the last run that knows the command, or the path's maker.
Result<RunView> choose_run(const Channel& channel, const ExplainArguments& arguments,
                           Wanted* wanted) {
  PCACHE_ASSIGN(RunView run, read_run(channel, arguments.run));
  find_path(channel, run, wanted);
  if (!arguments.run.empty() || wanted->command.empty()) return run;
  for (auto at = run.kept.rbegin(); at != run.kept.rend(); ++at) {
    const auto other = read_run(channel, std::to_string(*at));
    if (other && !select_executions(other->report, *wanted).empty()) return *other;
  }
  return run;
}

Json explain_all(Explainer& explainer, const Json& selected) {
  Json out = Json::array();
  for (const Json& execution : selected)
    out.push_back(out.size() < kMostExplained ? explainer.explain(execution) : execution);
  return out;
}

// What ran, in short; then how to ask for more.
void print_overview(Explainer& explainer, Json selected) {
  const size_t width = wrap_width(STDOUT_FILENO);
  const Painter paint(STDOUT_FILENO);
  const ProgramCounts covered = take_covered(&selected);
  bool shortened = merge_alike(&selected);
  Json explained = explain_all(explainer, selected);
  const ProgramCounts fresh = take_new(&explained);
  shortened = shorten_reasons(&explained) || shortened;
  for (const Json& execution : explained) print_explained(paint, execution);
  if (!fresh.empty())
    fmt::print("{}",
               aligned({{"ran, and recorded for the first time: " + listed(fresh)}}, "", width));
  if (!covered.empty())
    fmt::print("{}",
               aligned({{"recorded with what started them, not by themselves: " + listed(covered)}},
                       "", width));
  if (shortened || !fresh.empty() || !covered.empty())
    fmt::print("\n{}", paint(Colour::kDim,
                             aligned({{"`pcache explain N` tells everything of the execution #N, "
                                       "`pcache explain WORD` of those with this word"}},
                                     "", width)));
}

void print_run(Explainer& explainer, const Json& selected, const Wanted& wanted) {
  const Painter paint(STDOUT_FILENO);
  const Json& report = explainer.run().report;
  const std::string title = run_title(explainer.run());
  const size_t width = terminal_width(STDOUT_FILENO);
  fmt::print("{}: {}\n", title,
             command_text(report.value("command", Words()), width - title.size() - 2));
  const std::string numbers = fmt::format(
      "{}, {}, {} not cacheable; exit status {}, {}{}",
      counted(report.value("hits", uint64_t{0}), "hit", "hits"),
      counted(report.value("misses", uint64_t{0}), "miss", "misses"),
      report.value("uncacheable", uint64_t{0}), report.value("exit_status", 0),
      format_seconds(report.value("wall_s", 0.0)),
      report.contains("started_s") ? ", " + time_text(report.value("started_s", 0.0)) : "");
  fmt::print("{}\n", aligned({{numbers}}, "  ", wrap_width(STDOUT_FILENO)));
  if (!selected.empty()) {
    if (wanted.command.empty() && wanted.text.empty()) return print_overview(explainer, selected);
    for (const Json& execution : explain_all(explainer, selected))
      print_explained(paint, execution);
    return;
  }
  if (!wanted.command.empty()) {
    fmt::print("No run that is kept has this command: {}\n", command_text(wanted.command, 80));
  } else if (wanted.text.empty()) {
    fmt::print("Everything was a hit: nothing ran.\n");
  } else {
    fmt::print("Nothing that ran has \"{}\" in its command line or its reasons.\n",
               printable(wanted.text));
  }
}

int explain_codes(bool json) {
  if (json) {
    fmt::print("{}\n", reason_codes_json().dump(2));
  } else {
    print_reason_codes(Painter(STDOUT_FILENO));
  }
  return 0;
}

}  // namespace

int explain_command(const ExplainArguments& arguments) {
  if (arguments.codes) return explain_codes(arguments.json);
  const auto locations = Locations::find();
  if (!locations) return fail(locations.error().to_string());
  auto connection = connect_or_start(*locations);
  if (!connection) return fail(connection.error().to_string());
  Wanted wanted;
  wanted.text = arguments.what;
  wanted.command = arguments.command;
  auto run = choose_run(connection->channel, arguments, &wanted);
  if (!run) return fail(run.error().to_string());
  const Json selected = select_executions(run->report, wanted);
  Explainer explainer(connection->channel, std::move(*run));
  if (arguments.json) {
    const Json out = {{"run", explainer.run().number},
                      {"command", explainer.run().report.value("command", Words())},
                      {"executions", explain_all(explainer, selected)}};
    fmt::print("{}\n", out.dump(2, ' ', false, Json::error_handler_t::replace));
  } else {
    print_run(explainer, selected, wanted);
  }
  return 0;
}

}  // namespace pcache::cli
