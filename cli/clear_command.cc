#include <fmt/format.h>
#include <unistd.h>

#include <cstdio>
#include <iostream>

#include "cli/client.h"
#include "cli/commands.h"
#include "cli/text.h"

namespace pcache::cli {

int clear_command(bool yes, bool json) {
  const auto locations = Locations::find();
  if (!locations) return fail(locations.error().to_string());
  if (!yes) {
    if (json) return fail("this forgets every record: say so with --yes");
    if (::isatty(STDIN_FILENO) != 1) return fail("this forgets every record: say so with --yes");
    fmt::print("Forget everything in {}? [y/N] ", printable(locations->store()));
    std::fflush(stdout);
    std::string answer;
    std::getline(std::cin, answer);
    if (answer != "y" && answer != "Y" && answer != "yes") return 1;
  }
  auto connection = connect_or_start(*locations);
  if (!connection) return fail(connection.error().to_string());
  const auto answer = ask(connection->channel, make_request("clear"));
  if (!answer) return fail(answer.error().to_string());
  const uint64_t freed = answer->body.value("freed_bytes", uint64_t{0});
  if (json) {
    const Json out = {{"store", locations->store()}, {"freed_bytes", freed}};
    fmt::print("{}\n", out.dump(2, ' ', false, Json::error_handler_t::replace));
  } else {
    fmt::print("Cleared {} ({}).\n", printable(locations->store()), format_bytes(freed));
  }
  return 0;
}

}  // namespace pcache::cli
