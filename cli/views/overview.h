// What `explain` shows of a run when nothing in particular is asked for: the same reasons, in
// short. Pure; whoever asks about one execution gets all of it.
#pragma once

#include <map>
#include <string>

#include "cli/wire.h"

namespace pcache::cli {

using ProgramCounts = std::map<std::string, uint64_t>;  // by base name

// Takes out of `executions` (a report's) what could not be recorded by itself, but is as a part of
// what started it: cc1 is recorded with its gcc. There is nothing to mend about it.
ProgramCounts take_covered(Json* executions);

// Of many executions of one program that ran for exactly the same reasons the first stands for all
// ("alike": how many more). True: something was left out.
bool merge_alike(Json* executions);

// Takes out the executions of which is only known that they are new, where there are many.
ProgramCounts take_new(Json* explained);

// Merges reasons that differ in the path alone, where there are many ("and": how many more), and
// keeps of equal line diffs the first. True: something was left out.
bool shorten_reasons(Json* explained);

std::string listed(const ProgramCounts& programs);  // "12 gcc, 2 sh, make"

}  // namespace pcache::cli
