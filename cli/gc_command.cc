// pcache gc: forgets what was used least lately.
#include <fmt/format.h>

#include "cli/client.h"
#include "cli/commands.h"
#include "cli/progress.h"
#include "cli/text.h"

namespace pcache::cli {

int gc_command(const GcArguments& arguments) {
  Json request = make_request("gc");
  request["dry_run"] = arguments.dry_run;
  if (!arguments.max_size.empty()) {
    const auto bytes = parse_bytes(arguments.max_size);
    if (!bytes) return fail(printable(arguments.max_size) + " is no size: say 20G or 500M", 2);
    request["max_bytes"] = *bytes;
  }
  if (!arguments.older_than.empty()) {
    const auto seconds = parse_duration(arguments.older_than);
    if (!seconds)
      return fail(printable(arguments.older_than) + " is no time: say 30d, 12h or 90m", 2);
    request["older_than_s"] = *seconds;
  }
  const auto locations = Locations::find();
  if (!locations) return fail(locations.error().to_string());
  auto connection = connect_or_start(*locations);
  if (!connection) return fail(connection.error().to_string());
  ProgressBar bar;
  const auto answer = ask(connection->channel, request, [&](const Json& progress) {
    const uint64_t done = progress.value("done", uint64_t{0});
    const uint64_t total = progress.value("total", uint64_t{0});
    bar.show(total == 0 ? 1 : static_cast<double>(done) / static_cast<double>(total),
             fmt::format("{} of {}", done, counted(total, "entry", "entries")));
  });
  bar.clear();
  if (!answer) return fail(answer.error().to_string());
  Json out = answer->body;
  out.erase("ok");
  out["dry_run"] = arguments.dry_run;
  if (arguments.json) {
    fmt::print("{}\n", out.dump(2));
    return 0;
  }
  const auto number = [&](const char* key) { return out.value(key, uint64_t{0}); };
  fmt::print("{} {} and {} of contents ({}). The store holds {}.\n",
             arguments.dry_run ? "Would forget" : "Forgot",
             counted(number("records"), "record", "records"), format_bytes(number("bytes")),
             counted(number("blobs"), "file", "files"), format_bytes(number("disk_bytes")));
  return 0;
}

}  // namespace pcache::cli
