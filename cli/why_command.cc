// pcache why: which command made a file, from what.
#include <fmt/format.h>
#include <stdlib.h>
#include <unistd.h>

#include "cli/client.h"
#include "cli/commands.h"
#include "cli/text.h"
#include "cli/views/provenance.h"
#include "cli/working_dir.h"

namespace pcache::cli {
namespace {

// Directories on the way without links, as records name them; the last name as it is.
std::string canonical(const std::string& file) {
  const std::string path = absolute_path(file);
  const size_t slash = path.rfind('/');
  if (slash == std::string::npos || slash == 0) return path;
  char* real = ::realpath(path.substr(0, slash).c_str(), nullptr);
  if (real == nullptr) return path;
  std::string parent = real;
  ::free(real);
  return (parent == "/" ? "" : parent) + path.substr(slash);
}

}  // namespace

int why_command(const WhyArguments& arguments) {
  const auto locations = Locations::find();
  if (!locations) return fail(locations.error().to_string());
  auto connection = connect_or_start(*locations);
  if (!connection) return fail(connection.error().to_string());
  const std::string path = canonical(arguments.file);
  const auto found = Provenance(connection->channel).of(path, arguments.tree);
  if (!found) return fail(found.error().to_string());
  if (found->is_null()) {
    return fail("no command that is recorded left " + printable(path) +
                ": it was there before, or what made it could not be recorded (`pcache explain " +
                printable(arguments.file) + "`)");
  }
  if (arguments.json) {
    fmt::print("{}\n", found->dump(2, ' ', false, Json::error_handler_t::replace));
  } else {
    print_provenance(Painter(STDOUT_FILENO), *found, arguments.tree);
  }
  return 0;
}

}  // namespace pcache::cli
