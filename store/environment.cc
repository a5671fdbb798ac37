#include "store/environment.h"

#include <algorithm>
#include <cctype>
#include <cerrno>

namespace pcache::store {

namespace {

template <size_t N>
bool contains(const std::string_view (&list)[N], std::string_view name) {
  return std::find(std::begin(list), std::end(list), name) != std::end(list);
}

bool is_make(std::string_view image) {
  return image == "make" || image == "gmake" || image == "remake";
}

constexpr std::string_view kShellNames[] = {"_", "SHLVL", "OLDPWD"};
constexpr std::string_view kMakeNames[] = {"MAKELEVEL", "MAKE_TERMOUT", "MAKE_TERMERR"};
constexpr std::string_view kJobNames[] = {"MAKEFLAGS", "MFLAGS", "GNUMAKEFLAGS"};

}  // namespace

bool all_digits(std::string_view text) {
  return !text.empty() && std::all_of(text.begin(), text.end(), [](char c) {
    return std::isdigit(static_cast<unsigned char>(c));
  });
}

bool is_jobs_option(std::string_view word) {
  return word == "--jobs" || word.starts_with("--jobs=") || word.starts_with("--jobserver-");
}

bool without_jobs(std::string* word, bool* wants_number, bool* takes_next) {
  *wants_number = *takes_next = false;
  if (word->size() < 2 || (*word)[0] != '-' || (*word)[1] == '-') return false;
  for (size_t i = 1; i < word->size(); ++i) {
    const char c = (*word)[i];
    if (c == 'j') {
      *wants_number = i + 1 == word->size();
      word->erase(i);
      return word->size() == 1;
    }
    if (std::string_view("CfIoWE").find(c) != std::string_view::npos) {
      *takes_next = i + 1 == word->size();
      return false;
    }
    if (c == 'l' || c == 'O') return false;  // the rest is its argument
  }
  return false;
}

std::string_view name_of(std::string_view variable) {
  return variable.substr(0, variable.find('='));
}

std::string_view value_of(std::string_view variable) {
  const size_t equals = variable.find('=');
  return equals == std::string_view::npos ? std::string_view() : variable.substr(equals + 1);
}

namespace {

// MAKEFLAGS and MFLAGS: words up to " -- ", behind which stand the variables.
std::string without_jobserver(std::string_view flags) {
  std::string_view tail;
  if (flags.starts_with("-- ")) {
    tail = flags;
    flags = {};
  } else if (const size_t at = flags.find(" -- "); at != std::string_view::npos) {
    tail = flags.substr(at + 1);
    flags = flags.substr(0, at);
  }
  std::string out;
  const auto append = [&out](std::string_view word) {
    if (!out.empty()) out += ' ';
    out += word;
  };
  bool wants_number = false, takes_next = false;
  while (!flags.empty()) {
    const size_t space = flags.find(' ');
    std::string word(flags.substr(0, space));
    flags = space == std::string_view::npos ? std::string_view() : flags.substr(space + 1);
    if (word.empty()) continue;
    if (wants_number && all_digits(word)) {
      wants_number = false;
      continue;
    }
    wants_number = false;
    if (is_jobs_option(word) || without_jobs(&word, &wants_number, &takes_next)) continue;
    append(word);
  }
  if (!tail.empty()) append(tail);
  return out;
}

// awk sees the environment in ENVIRON alone, and what it starts is a program of its own. Its text
// must stand on the command line, and neither load others nor name variables by their names.
bool is_awk_without_environment(const std::string& name, const std::vector<std::string>& argv) {
  static constexpr std::string_view kAwks[] = {"awk", "gawk", "mawk", "nawk", "original-awk"};
  if (!contains(kAwks, name)) return false;
  for (size_t i = 1; i < argv.size(); ++i) {
    const std::string_view word = argv[i];
    for (const std::string_view suspicious : {"ENVIRON", "SYMTAB", "@"})
      if (word.find(suspicious) != std::string_view::npos) return false;
    if (word.starts_with("--") && word != "--") return false;
    if (word.size() < 2 || word[0] != '-' || word == "--") continue;
    if (word[1] != 'F' && word[1] != 'v') return false;  // -f, -E, -i, -l, -W
  }
  return argv.size() > 1;
}

}  // namespace

Reader reader_of(const ImageInfo& image) {
  static constexpr std::string_view kInterpreters[] = {
      "awk",  "bun",    "deno", "emacs",  "gawk", "gjs",  "guile",  "java",  "julia",
      "lua",  "luajit", "mawk", "mono",   "nawk", "node", "nodejs", "ocaml", "original-awk",
      "perl", "php",    "pypy", "python", "R",    "ruby", "tclsh",  "wish",
  };
  const std::string name = image_name(image.executable);
  if (name == "env" || name == "printenv") return Reader::kPrinter;
  // Multi-call binaries: what they are stands in argv[0].
  if (name == "busybox" || name == "coreutils") {
    const std::string called = image.argv.empty() ? name : image_name(image.argv[0]);
    if (called == "env" || called == "printenv") return Reader::kPrinter;
  }
  if (is_make(name)) return Reader::kMake;
  if (is_shell(name)) return Reader::kShell;
  if (is_awk_without_environment(name, image.argv)) return Reader::kOther;
  if (contains(kInterpreters, name)) return Reader::kInterpreter;
  return Reader::kOther;
}

// What a shell's command or script names, it may print. (A sourced file is not looked into.)
bool is_mentioned(const ImageInfo& image, std::string_view name) {
  if (name == "PWD" || name.empty()) return false;  // kept for shells as it is
  const auto holds = [&](std::string_view text) {
    if (name == "_")
      return text.find("$_") != std::string_view::npos ||
             text.find("${_") != std::string_view::npos;
    return text.find(name) != std::string_view::npos;
  };
  return holds(image.script_text) || std::any_of(image.argv.begin(), image.argv.end(), holds);
}

// What cannot be read here (eval, a file named by a variable) may say anything.
bool text_shows_cwd(std::string_view text) {
  for (const std::string_view word : {"PWD", "pwd", "DIRSTACK", "dirs", "~+", "~-", "\\w", "\\W",
                                      "@P", "eval", "source", ". ./", ". /", ". $", ". \""})
    if (text.find(word) != std::string_view::npos) return true;
  return false;
}

// Autoconf's scripts hold "$$-$RANDOM", the name of a temporary file, which is as variable as "$$"
// is and no more, and test -n "$RANDOM", which is the same for every number.
bool text_is_random(std::string_view text) {
  const auto harmless = [&](size_t at) {
    const std::string_view before = text.substr(0, at);
    return text[at] == '$' &&
           (before.ends_with("$$-") || before.ends_with("$$.") ||
            (before.ends_with("-n \"") && text.substr(at).starts_with("$RANDOM\"")));
  };
  for (const std::string_view word : {"$RANDOM", "${RANDOM", "$SRANDOM", "${SRANDOM", "RANDOM%",
                                      "RANDOM %", "(RANDOM", "EPOCHREALTIME", "EPOCHSECONDS"})
    for (size_t at = text.find(word); at != std::string_view::npos; at = text.find(word, at + 1))
      if (!harmless(at)) return true;
  return false;
}

// A shell knows its cwd from PWD, without asking the kernel; an interpreter's script may look at
// it.
bool may_show_cwd(const ImageInfo& image, Reader reader) {
  if (reader == Reader::kInterpreter || reader == Reader::kPrinter)
    return std::any_of(image.env.begin(), image.env.end(),
                       [](const std::string& v) { return v.starts_with("PWD="); });
  if (reader != Reader::kShell) return false;
  return text_shows_cwd(image.script_text) ||
         std::any_of(image.argv.begin(), image.argv.end(),
                     [](const std::string& word) { return text_shows_cwd(word); });
}

std::optional<std::string> normalized_variable(const std::string& variable, Reader reader,
                                               const ImageInfo& image, bool mentioned) {
  const std::string_view name = name_of(variable);
  if (name.starts_with("PCACHE_")) return std::nullopt;
  if (reader == Reader::kPrinter || mentioned) return variable;
  if (name == "MAKEFLAGS" || name == "MFLAGS" || name == "GNUMAKEFLAGS") {
    return std::string(name) + "=" + without_jobserver(value_of(variable));
  }
  const bool whole = reader == Reader::kInterpreter;
  if (name == "MAKE_TERMOUT" || name == "MAKE_TERMERR" ||
      (!whole && image.lists->session_variables.contains(name))) {
    return std::nullopt;
  }
  if (name == "PWD" && value_of(variable) == image.cwd) {
    // That it is set, and right, is all a shell or a script can tell from it that cwd does not.
    return whole || reader == Reader::kShell ? std::optional<std::string>("PWD=.") : std::nullopt;
  }
  if (whole) return variable;
  if (contains(kShellNames, name)) return std::nullopt;
  if (name == "MAKELEVEL" && reader != Reader::kMake) return std::nullopt;
  return variable;
}

namespace {

bool may_be_left_out(const Lists& lists, std::string_view name) {
  return lists.session_variables.contains(name) || contains(kShellNames, name) ||
         contains(kMakeNames, name);
}

// "COLUMNS", but not in "COLUMNS_OF".
bool names_variable(std::string_view text, std::string_view name) {
  if (name == "_")
    return text.find("$_") != std::string_view::npos || text.find("${_") != std::string_view::npos;
  const auto in_name = [](char c) {
    return std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '_';
  };
  for (size_t at = text.find(name); at != std::string_view::npos; at = text.find(name, at + 1)) {
    const size_t end = at + name.size();
    if ((at == 0 || !in_name(text[at - 1])) && (end == text.size() || !in_name(text[end])))
      return true;
  }
  return false;
}

// The names in `text` that fit "KONSOLE_*".
void add_matching(std::string_view text, const std::string& pattern,
                  std::vector<std::string>* names) {
  const NameList list({pattern});
  const std::string_view begin = std::string_view(pattern).substr(0, pattern.find_first_of("*?["));
  for (size_t at = text.find(begin); at != std::string_view::npos; at = text.find(begin, at + 1)) {
    size_t end = at;
    while (end < text.size() &&
           (std::isalnum(static_cast<unsigned char>(text[end])) != 0 || text[end] == '_'))
      ++end;
    const std::string name(text.substr(at, end - at));
    if (list.contains(name) && std::find(names->begin(), names->end(), name) == names->end())
      names->push_back(name);
  }
}

// `set` alone, `export -p`, ${!name}… show all there is.
bool lists_variables(std::string_view text) {
  for (const std::string_view word : {"export -p", "declare", "typeset", "compgen", "${!"})
    if (text.find(word) != std::string_view::npos) return true;
  for (size_t at = text.find("set"); at != std::string_view::npos; at = text.find("set", at + 1)) {
    const bool begins =
        at == 0 || std::string_view(" \t\n;&|({`").find(text[at - 1]) != std::string_view::npos;
    size_t end = at + 3;
    while (end < text.size() && (text[end] == ' ' || text[end] == '\t')) ++end;
    if (begins && (end == text.size() ||
                   std::string_view("\n;&|)>}`").find(text[end]) != std::string_view::npos))
      return true;
  }
  return false;
}

// ls and its kin fit columns into the width of the window when they are asked for columns.
bool fits_into_window(const ImageInfo& image) {
  static constexpr std::string_view kAlways[] = {"column", "dir",  "dialog", "git", "less",
                                                 "man",    "more", "pr",     "top", "whiptail"};
  const std::string name = image_name(image.executable);
  if (contains(kAlways, name)) return true;
  if (name != "ls" && name != "vdir") return false;
  return std::any_of(image.argv.begin() + (image.argv.empty() ? 0 : 1), image.argv.end(),
                     [](const std::string& word) {
                       if (word.starts_with("--format")) return true;
                       return word.size() > 1 && word[0] == '-' && word[1] != '-' &&
                              word.find_first_of("Cxm") != std::string::npos;
                     });
}

}  // namespace

EnvironmentReads reads_of_text(std::string_view text, const Lists& lists) {
  EnvironmentReads reads;
  reads.whole = lists_variables(text);
  for (const std::string& name : lists.session_variables.words())
    if (names_variable(text, name)) reads.names.emplace_back(name);
  for (const std::string& pattern : lists.session_variables.patterns())
    add_matching(text, pattern, &reads.names);
  for (const std::string_view name : kShellNames)
    if (names_variable(text, name)) reads.names.emplace_back(name);
  for (const std::string_view name : kMakeNames)
    if (names_variable(text, name)) reads.names.emplace_back(name);
  return reads;
}

EnvironmentReads environment_reads(const ImageInfo& image) {
  EnvironmentReads reads;
  switch (reader_of(image)) {
    case Reader::kPrinter:
      reads.whole = reads.jobs = true;
      return reads;
    case Reader::kInterpreter:
      reads.whole = true;
      return reads;
    case Reader::kShell:
    case Reader::kMake: {
      std::string text = image.script_text;
      for (const std::string& word : image.argv) text += "\n" + word;
      return reads_of_text(text, *image.lists);
    }
    case Reader::kOther:
      if (fits_into_window(image)) reads.names = {"COLUMNS", "LINES"};
      return reads;
  }
  return reads;
}

bool key_leaves_out(const ImageInfo& image, std::string_view name) {
  const Reader reader = reader_of(image);
  if (reader == Reader::kPrinter || !may_be_left_out(*image.lists, name)) return false;
  if (reader == Reader::kInterpreter) return name == "MAKE_TERMOUT" || name == "MAKE_TERMERR";
  if (reader == Reader::kShell && is_mentioned(image, name)) return false;
  return !(reader == Reader::kMake && name == "MAKELEVEL");
}

FactValue environment_value(const ImageInfo& image, const FactKey& key) {
  FactValue value;
  if (!key.names.empty()) {
    value.err = ENOENT;
    for (const std::string& variable : image.env) {
      if (name_of(variable) != key.names[0]) continue;
      value.err = 0;
      value.text = variable;  // with its name: "NAME" is not "NAME="
      return value;
    }
    return value;
  }
  Hasher all;
  for (const std::string& variable : image.env) {
    const std::string_view name = name_of(variable);
    if (may_be_left_out(*image.lists, name) ||
        ((key.param & kWithJobs) != 0 && contains(kJobNames, name)))
      all.add(variable);
  }
  if ((key.param & kWithJobs) != 0 && reader_of(image) == Reader::kMake)
    for (const std::string& word : image.argv) all.add(word);
  value.hash = all.finish();
  return value;
}

}  // namespace pcache::store
