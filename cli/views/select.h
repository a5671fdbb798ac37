// Which executions of a run a person means. Pure.
#pragma once

#include <string>
#include <vector>

#include "cli/wire.h"

namespace pcache::cli {

using Words = std::vector<std::string>;

// What was asked for; all empty: whatever ran.
struct Wanted {
  std::string text;  // a path, an execution's number, or a part of a command line
  Words command;
  // Of a path, once it is looked up:
  std::string path;   // as reports name it: relative to the root, else absolute
  std::string maker;  // key of the record that left it
};

// In the order of the report. Of a number and a command also hits; of everything else what ran,
// and the hit that brought a path back.
Json select_executions(const Json& report, const Wanted& wanted);

struct NearCommand {
  Words argv;
  Words removed, added;  // words that only the other, only this one has
};
// The execution of `report` in the same directory whose command line is most like that of
// `execution`, but none that `current` has as well; empty argv: none is half like it.
NearCommand nearest_command(const Json& execution, const Json& report, const Json& current);

}  // namespace pcache::cli
