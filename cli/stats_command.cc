#include <fmt/format.h>

#include "cli/client.h"
#include "cli/commands.h"
#include "cli/text.h"

namespace pcache::cli {
namespace {

std::vector<std::string> count_row(const std::string& name, const Json& from, const char* key) {
  return {name, std::to_string(from.value(key, uint64_t{0}))};
}

std::string percentage(uint64_t hits, uint64_t misses) {
  if (hits + misses == 0) return "";
  return fmt::format("{:.1f} % of what can be cached",
                     100.0 * static_cast<double>(hits) / static_cast<double>(hits + misses));
}

void print_stats(const Json& stats) {
  if (const Json last = stats.value("last_run", Json::object()); !last.empty()) {
    fmt::print("Last run: {}\n",
               command_text(last.value("command", std::vector<std::string>()), 80));
    std::vector<std::vector<std::string>> rows = {
        count_row("hits", last, "hits"),
        count_row("misses", last, "misses"),
        count_row("not cacheable", last, "uncacheable"),
        {"took", format_seconds(last.value("wall_s", 0.0))},
        {"saved", format_seconds(last.value("saved_s", 0.0))},
        {"served", format_bytes(last.value("bytes_served", uint64_t{0}))}};
    fmt::print("{}", aligned(rows, "  "));
  }
  std::vector<std::string> hits = count_row("hits", stats, "hits");
  hits.push_back(percentage(stats.value("hits", uint64_t{0}), stats.value("misses", uint64_t{0})));
  std::vector<std::vector<std::string>> rows = {
      count_row("runs", stats, "runs"),
      hits,
      count_row("misses", stats, "misses"),
      count_row("not cacheable", stats, "uncacheable"),
      {"saved", format_seconds(stats.value("saved_s", 0.0))},
      {"served", format_bytes(stats.value("bytes_served", uint64_t{0}))}};
  fmt::print("All runs:\n{}", aligned(rows, "  "));
  rows = {count_row("records", stats, "records"),
          {"contents", std::to_string(stats.value("blobs", uint64_t{0})),
           format_bytes(stats.value("blob_bytes", uint64_t{0}))}};
  fmt::print("Store {}:\n{}", printable(stats.value("store", "")), aligned(rows, "  "));
}

}  // namespace

int stats_command(const StatsArguments& arguments) {
  const auto locations = Locations::find();
  if (!locations) return fail(locations.error().to_string());
  auto connection = connect_or_start(*locations);
  if (!connection) return fail(connection.error().to_string());
  Json request = make_request("stats");
  request["zero"] = arguments.zero;
  const auto answer = ask(connection->channel, request);
  if (!answer) return fail(answer.error().to_string());
  Json stats = answer->body;
  stats.erase("ok");
  if (arguments.json) {
    fmt::print("{}\n", stats.dump(2, ' ', false, Json::error_handler_t::replace));
  } else {
    print_stats(stats);
    if (arguments.zero) fmt::print("The counts of all runs start again at zero.\n");
  }
  return 0;
}

}  // namespace pcache::cli
