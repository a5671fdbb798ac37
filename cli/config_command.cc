// pcache config: every setting, its value, and where it came from.
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>

#include "cli/client.h"
#include "cli/commands.h"
#include "cli/settings.h"
#include "cli/suggest.h"
#include "cli/text.h"
#include "cli/working_dir.h"

namespace pcache::cli {
namespace {

using Words = std::vector<std::string>;

std::string listed(const Words& words, const Words& less, const char* sign) {
  std::string out;
  for (const std::string& word : words)
    if (std::find(less.begin(), less.end(), word) == less.end())
      out += std::string(" ") + sign + printable(word);
  return out;
}

// Lists are long: what differs from the built-in ones is shown.
std::string shown(const SettingRow& row, const Settings& settings) {
  if (row.type != SettingType::kNames) {
    const std::string& text = settings.text(row.name);
    return text.empty() ? "-" : printable(text);
  }
  const Words& words = settings.value(row.name).words;
  const Settings built_in;
  const Words& usual = built_in.value(row.name).words;
  if (settings.value(row.name).origin == "built-in")
    return usual.empty() ? "-" : counted(usual.size(), "name", "names");
  return counted(words.size(), "name", "names") + listed(words, usual, "+") +
         listed(usual, words, "-");
}

Json as_json(const Settings& settings) {
  Json all = Json::array();
  const Settings built_in;
  for (const SettingRow& row : setting_rows()) {
    all.push_back({{"name", row.name},
                   {"value", settings.json(row)},
                   {"origin", settings.value(row.name).origin},
                   {"built_in", built_in.json(row)},
                   {"variable", row.variable()},
                   {"scope", row.daemon ? "daemon" : "project"},
                   {"about", row.help}});
  }
  return all;
}

// A daemon keeps what it was started with.
Json of_running_daemon(const Locations& locations) {
  auto connection = connect_running(locations);
  if (!connection || !*connection) return Json::object();
  const auto answer = ask((*connection)->channel, make_request("status"));
  return answer ? answer->body.value("settings", Json::object()) : Json::object();
}

void print_table(const Settings& settings, const Json& daemon) {
  const Painter paint(STDOUT_FILENO);
  std::vector<Words> rows;
  for (const SettingRow& row : setting_rows()) {
    const bool built_in = settings.value(row.name).origin == "built-in";
    rows.push_back({row.name, shown(row, settings), settings.value(row.name).origin,
                    built_in ? paint(Colour::kDim, row.help) : row.help});
  }
  fmt::print("{}", aligned(rows, "", wrap_width(STDOUT_FILENO)));
  for (const SettingRow& row : setting_rows()) {
    const auto running = daemon.find(row.name);
    if (running != daemon.end() && *running != settings.json(row))
      fmt::print(
          "The running daemon was started with another {}: it takes this one when it is "
          "started again (`pcache umount --all` ends it).\n",
          row.name);
  }
}

int print_one(const Settings& settings, const std::string& name) {
  for (const SettingRow& row : setting_rows()) {
    if (name != row.name) continue;
    if (row.type != SettingType::kNames) {
      fmt::print("{}\n", settings.text(row.name));
    } else {
      for (const std::string& word : settings.value(row.name).words) fmt::print("{}\n", word);
    }
    return 0;
  }
  std::vector<std::string> names;
  for (const SettingRow& row : setting_rows()) names.emplace_back(row.name);
  const std::vector<std::string> meant = nearest(name, names);
  return fail("no setting is called " + printable(name) + ": " +
              (meant.empty() ? "`pcache config` lists them all"
                             : "did you mean " + any_of_them(meant) + "?"));
}

}  // namespace

int config_command(const ConfigArguments& arguments) {
  const auto locations = Locations::find();
  if (!locations) return fail(locations.error().to_string());
  std::string root;
  if (const auto cwd = enter_working_dir(*locations)) {
    if (const auto chosen = choose_root(*locations, *cwd, "")) root = *chosen;
  }
  const Settings settings = Settings::read(locations->dir, root);
  for (const std::string& problem : settings.problems()) warn(problem);
  const int status = settings.problems().empty() ? 0 : 1;
  if (!arguments.name.empty()) return print_one(settings, arguments.name) | status;
  const Json daemon = of_running_daemon(*locations);
  if (arguments.json) {
    const Json out = {{"dir", locations->dir},
                      {"project", root},
                      {"settings", as_json(settings)},
                      {"running_daemon", daemon},
                      {"problems", settings.problems()}};
    fmt::print("{}\n", out.dump(2, ' ', false, Json::error_handler_t::replace));
  } else {
    print_table(settings, daemon);
  }
  return status;
}

}  // namespace pcache::cli
