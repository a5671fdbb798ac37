// pcache clear: forgets every record; with --all also takes away whatever else of pcache is there,
// as one does before it is uninstalled.
#include <fmt/format.h>
#include <unistd.h>

#include <cstdio>
#include <filesystem>
#include <iostream>

#include "cli/client.h"
#include "cli/commands.h"
#include "cli/text.h"

namespace pcache::cli {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kSettingsFile = "pcache.conf";  // the user's own

uint64_t size_of(const std::string& dir) {
  uint64_t bytes = 0;
  std::error_code error;
  for (fs::recursive_directory_iterator at(dir, error), end; !error && at != end;
       at.increment(error)) {
    std::error_code ignored;
    if (at->is_regular_file(ignored)) bytes += at->file_size(ignored);
  }
  return bytes;
}

// What the daemon keeps in PCACHE_DIR, which may be a directory with other things in it.
bool is_ours(const std::string& name) {
  return name == "store" || name == "unfinished" || name.starts_with("daemon.");
}

// Nothing is mounted and no daemon runs any more.
Result<void> remove_files(const std::string& dir) {
  std::error_code error;
  std::vector<fs::path> ours;
  for (fs::directory_iterator at(dir, error), end; !error && at != end; at.increment(error))
    if (is_ours(at->path().filename().string())) ours.push_back(at->path());
  for (const fs::path& path : ours) {
    fs::remove_all(path, error);
    if (error) return system_error("cannot remove " + printable(path.string()), error.value());
  }
  ::rmdir(dir.c_str());  // if nothing else is in it
  return {};
}

int say(bool json, const Json& told, const std::string& text) {
  if (json)
    fmt::print("{}\n", told.dump(2, ' ', false, Json::error_handler_t::replace));
  else
    fmt::print("{}\n", text);
  return 0;
}

int clear_all(const Locations& locations, bool json) {
  if (const int status = umount_command({.all = true, .silent = true}); status != 0) return status;
  const uint64_t freed = size_of(locations.dir);
  if (const auto removed = remove_files(locations.dir); !removed)
    return fail(removed.error().to_string());
  const std::string settings = locations.dir + "/" + std::string(kSettingsFile);
  const bool kept = ::access(settings.c_str(), F_OK) == 0;
  return say(json,
             {{"removed", locations.dir}, {"freed_bytes", freed}, {"kept", kept ? settings : ""}},
             fmt::format("Nothing is mounted, no daemon runs, and {} is gone ({}).{}",
                         printable(locations.dir), format_bytes(freed),
                         kept ? " Your settings stay: " + printable(settings) : ""));
}

}  // namespace

int clear_command(const ClearArguments& arguments) {
  const auto locations = Locations::find();
  if (!locations) return fail(locations.error().to_string());
  if (!arguments.yes) {
    const char* what = arguments.all ? "this unmounts everything and removes the whole store"
                                     : "this forgets every record";
    if (arguments.json || ::isatty(STDIN_FILENO) != 1)
      return fail(std::string(what) + ": say so with --yes");
    fmt::print("{} [y/N] ",
               arguments.all
                   ? fmt::format("Unmount everything, and remove {}?", printable(locations->dir))
                   : fmt::format("Forget everything in {}?", printable(locations->store())));
    std::fflush(stdout);
    std::string answer;
    std::getline(std::cin, answer);
    if (answer != "y" && answer != "Y" && answer != "yes") {
      fmt::print("Nothing was done.\n");
      return 1;
    }
  }
  if (arguments.all) return clear_all(*locations, arguments.json);
  auto connection = connect_or_start(*locations);
  if (!connection) return fail(connection.error().to_string());
  const auto answer = ask(connection->channel, make_request("clear"));
  if (!answer) return fail(answer.error().to_string());
  const uint64_t freed = answer->body.value("freed_bytes", uint64_t{0});
  return say(arguments.json, {{"store", locations->store()}, {"freed_bytes", freed}},
             fmt::format("Cleared {} ({}).", printable(locations->store()), format_bytes(freed)));
}

}  // namespace pcache::cli
