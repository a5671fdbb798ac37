#include <fmt/format.h>

#include <cstdio>
#include <cstdlib>

#include "cli/client.h"
#include "cli/commands.h"
#include "cli/settings.h"
#include "cli/text.h"
#include "cli/working_dir.h"

namespace pcache::cli {

namespace {

// Settings of what is started in the mount: the files are read anew for each command.
Json environment_of_settings() {
  Json environment = Json::object();
  if (const char* home = std::getenv("HOME")) environment["HOME"] = home;
  for (const SettingRow& row : setting_rows())
    if (const char* text = std::getenv(row.variable().c_str())) environment[row.variable()] = text;
  return environment;
}

}  // namespace

int mount_command(const MountArguments& arguments) {
  const auto locations = Locations::find();
  if (!locations) return fail(locations.error().to_string());
  const auto dir = real_directory(*locations, arguments.dir);
  if (!dir) return fail(dir.error().to_string());
  auto connection = connect_or_start(*locations);
  if (!connection) return fail(connection.error().to_string());

  const Settings settings = Settings::read(locations->dir, *dir);
  for (const std::string& problem : settings.problems()) warn(problem);
  Json request = make_request("mount");
  request["dir"] = *dir;
  request["no_passthrough"] = arguments.no_passthrough || !settings.flag("passthrough");
  request["settings"] = settings.to_request();
  request["environment"] = environment_of_settings();
  request["read_only"] = arguments.read_only;
  request["recache"] = arguments.recache;
  const bool seize = !arguments.no_seize && !arguments.disable && settings.flag("seizing");
  request["seize"] = seize;
  const char* path = std::getenv("PATH");
  request["path"] = path == nullptr ? "/usr/local/bin:/usr/bin:/bin" : path;
  const auto answer = ask(connection->channel, request);
  if (!answer) return fail(answer.error().to_string());

  if (arguments.json) {
    const Json out = {{"mounted", *dir},
                      {"passthrough", answer->flag("passthrough")},
                      {"seizes", answer->flag("seizes")},
                      {"seize_problem", seize ? answer->text("seize_problem") : ""},
                      {"note", answer->text("note")}};
    fmt::print("{}\n", out.dump(2, ' ', false, Json::error_handler_t::replace));
    return 0;
  }
  fmt::print("Mounted {}{}.\n", printable(*dir),
             answer->flag("passthrough") ? " (contents by kernel passthrough)" : "");
  if (const std::string note = answer->text("note"); !note.empty()) warn(note);
  const auto cwd = enter_working_dir(*locations);
  if (cwd && is_inside(*cwd, *dir)) {
    fmt::print("This shell was here before the mount: `cd .` enters it.\n");
  }
  if (answer->flag("seizes")) {
    fmt::print(
        "Commands started in it are cached; `pcache explain` tells what became of the last.\n");
  } else {
    fmt::print("Commands are cached under `pcache run -- CMD` and in `pcache shell`{}.\n",
               seize ? fmt::format(" (not by themselves: {})", answer->text("seize_problem")) : "");
  }
  return 0;
}

}  // namespace pcache::cli
