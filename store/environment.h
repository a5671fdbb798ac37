// What a program can see of its environment, and how much of that stands in its weak key.
//
// The key leaves out what must not cause a miss (window size, agents, SHLVL, `_`…, design.md "The
// weak key"). Where a program, or one that it runs, turns out to look at such a variable after all,
// that becomes a fact (FactKind::kEnvironment) of everyone whose key has left it out: `sh -c env`
// depends on COLUMNS, although sh alone does not. Who looks is told by the program (env, python:
// everything) and by the text of scripts and makefiles (a name that stands there is looked at).
//
// Pure.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "store/fact.h"
#include "store/weak_key.h"

namespace pcache::store {

// Who is told of the whole environment, because it prints it or hands it to a program we cannot
// see.
enum class Reader : uint8_t { kPrinter, kInterpreter, kShell, kMake, kOther };
Reader reader_of(const ImageInfo& image);

struct EnvironmentReads {
  bool whole = false;  // all variables
  bool jobs = false;   // make's own as well (MAKEFLAGS, -j)
  std::vector<std::string> names;
};

// By the program itself, as its command line tells.
EnvironmentReads environment_reads(const ImageInfo& image);
// By a shell or make that reads `text` as its script.
EnvironmentReads reads_of_text(std::string_view text, const Lists& lists);
// A script whose text may print where it is run / may ask for random numbers.
bool text_shows_cwd(std::string_view text);
bool text_is_random(std::string_view text);

// Whether the key of `image` holds no word of this variable.
bool key_leaves_out(const ImageInfo& image, std::string_view name);
// The answer to a FactKind::kEnvironment: one variable (names[0]), or all that keys leave out (no
// name; param kWithJobs: make's own too).
FactValue environment_value(const ImageInfo& image, const FactKey& key);

// --- for the weak key ---
std::string_view name_of(std::string_view variable);
std::string_view value_of(std::string_view variable);
bool all_digits(std::string_view text);
bool is_jobs_option(std::string_view word);
// Takes -jN out of one word of make's; true if nothing of it is left. `*takes_next`: the option's
// argument is the next word.
bool without_jobs(std::string* word, bool* wants_number, bool* takes_next);
bool is_mentioned(const ImageInfo& image, std::string_view name);
bool may_show_cwd(const ImageInfo& image, Reader reader);
// One variable as it goes into the key; nullopt: not at all.
std::optional<std::string> normalized_variable(const std::string& variable, Reader reader,
                                               const ImageInfo& image, bool mentioned);

}  // namespace pcache::store
