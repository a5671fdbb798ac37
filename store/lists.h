// Lists: the names that rules go by, which a project or user may change (docs/cli.md, "Settings").
//
// A session goes by one Lists, which never changes while it lasts; the daemon serves several at
// once. A list that changes what a record means — which facts are taken, what is left out of a key,
// what must always run — is part of every weak key of the session (`meaning`), so that a record
// made by other lists never matches; strict_clock, though no list, says what may be recorded and is
// one of them. records_mtimes is not: it only says that a program is not
// skipped, and its records are not looked up.
//
// Pure; belongs to neither the store's database nor the command line, so both may link it.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <unordered_set>
#include <utility>
#include <vector>

namespace pcache::store {

// Names, or patterns with * ? [ (as a shell has them). Immutable.
class NameList {
 public:
  NameList() = default;
  explicit NameList(std::vector<std::string> words);

  bool contains(std::string_view name) const;
  const std::vector<std::string>& words() const { return words_; }  // sorted, each once
  const std::vector<std::string>& patterns() const { return patterns_; }

 private:
  struct Hash : std::hash<std::string_view> {
    using is_transparent = void;
  };
  std::vector<std::string> words_, patterns_;
  std::unordered_set<std::string, Hash, std::equal_to<>> names_;
};

// What `owner` and all it starts do below `dir` is its own affair (rule 13).
struct PrivateDir {
  std::string owner;
  std::string dir;  // absolute
  bool operator==(const PrivateDir&) const = default;
};

struct Lists {
  NameList mtime_ignored;       // programs whose stat keeps no mtime
  NameList mtime_matters;       // programs whose open keeps the mtime too
  NameList overwrites_blindly;  // programs that never look at what they replace
  NameList never;               // programs that must always run, with all that contains them
  NameList records_mtimes;      // programs that are not skipped as a whole
  NameList session_variables;   // left out of keys
  NameList seize;               // what is seized in a mount; says nothing about records
  std::vector<PrivateDir> private_dirs;
  bool strict_clock = false;  // what reads the clock is not recorded

  // Of the lists that a record depends on, those that are not the built-in ones, as
  // (name, words); the weak key's part of it.
  std::vector<std::pair<std::string, std::string>> meaning;
  void seal();  // makes `meaning`; call it when the lists are complete

  static const Lists& defaults();
};

// Compilers, assemblers and linkers.
const NameList& compilers();

// "ccache:/home/x/.cache/ccache"; nothing where it is not of that form.
std::optional<PrivateDir> parse_private_dir(std::string_view word);

}  // namespace pcache::store
