// pcache explain: prints the reasons that the last run recorded. Nothing is worked out anew here.
#include <fmt/format.h>
#include <unistd.h>

#include "cli/client.h"
#include "cli/commands.h"
#include "cli/text.h"

namespace pcache::cli {
namespace {

using Words = std::vector<std::string>;

// The filter is part of the command line, or of a path that a reason names.
bool selected(const Json& execution, const std::string& filter) {
  if (filter.empty()) return true;
  std::string line;
  for (const std::string& word : execution.value("argv", Words())) line += word + " ";
  if (line.find(filter) != std::string::npos) return true;
  for (const Json& reason : execution.value("reasons", Json::array())) {
    if (reason.value("path", "").find(filter) != std::string::npos) return true;
  }
  return filter == std::to_string(execution.value("id", uint64_t{0}));
}

std::string outcome_text(const Painter& paint, const std::string& outcome) {
  if (outcome == "miss") return paint(Colour::kYellow, "ran");
  if (outcome == "uncacheable") return paint(Colour::kRed, "not cached");
  if (outcome == "not_worth_it") return paint(Colour::kDim, "not worth it");
  return paint(Colour::kGreen, outcome);
}

void print_execution(const Painter& paint, const Json& execution) {
  fmt::print("{}: {}\n", outcome_text(paint, execution.value("outcome", "")),
             command_text(execution.value("argv", Words()), terminal_width(STDOUT_FILENO) - 16));
  std::vector<Words> rows;
  for (const Json& reason : execution.value("reasons", Json::array())) {
    rows.push_back({reason.value("code", ""), printable(reason.value("path", "")),
                    printable(reason.value("detail", ""))});
  }
  if (rows.empty()) rows.push_back({"no reason was recorded"});
  fmt::print("{}", aligned(rows, "    "));
}

void print_run(const Json& run, const Json& chosen, const std::string& filter) {
  const Painter paint(STDOUT_FILENO);
  fmt::print("Last run: {}\n  {}, {}, {} not cacheable; exit status {}, {}\n\n",
             command_text(run.value("command", Words()), 80),
             counted(run.value("hits", uint64_t{0}), "hit", "hits"),
             counted(run.value("misses", uint64_t{0}), "miss", "misses"),
             run.value("uncacheable", uint64_t{0}), run.value("exit_status", 0),
             format_seconds(run.value("wall_s", 0.0)));
  for (const Json& execution : chosen) print_execution(paint, execution);
  if (!chosen.empty()) return;
  if (filter.empty()) {
    fmt::print("Everything was a hit: nothing ran.\n");
  } else {
    fmt::print("Nothing that ran has \"{}\" in its command line or its reasons.\n",
               printable(filter));
  }
}

}  // namespace

int explain_command(const ExplainArguments& arguments) {
  const auto locations = Locations::find();
  if (!locations) return fail(locations.error().to_string());
  auto connection = connect_or_start(*locations);
  if (!connection) return fail(connection.error().to_string());
  const auto answer = ask(connection->channel, make_request("last_run"));
  if (!answer) return fail(answer.error().to_string());
  const Json run = Json::parse(answer->text("run"), nullptr, /*allow_exceptions=*/false);
  if (!run.is_object()) return fail("no run is recorded yet: start one with `pcache run -- CMD`");

  Json chosen = Json::array();
  for (const Json& execution : run.value("executions", Json::array())) {
    if (execution.value("outcome", "") != "hit" && selected(execution, arguments.filter)) {
      chosen.push_back(execution);
    }
  }
  if (arguments.json) {
    const Json out = {{"command", run.value("command", Words())}, {"executions", chosen}};
    fmt::print("{}\n", out.dump(2, ' ', false, Json::error_handler_t::replace));
  } else {
    print_run(run, chosen, arguments.filter);
  }
  return 0;
}

}  // namespace pcache::cli
