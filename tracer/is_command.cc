#include "tracer/is_command.h"

#include <sys/stat.h>

#include <algorithm>
#include <string_view>

#include "store/weak_key.h"
#include "tracer/tracee.h"

namespace pcache::tracer {
namespace {

constexpr std::string_view kInterpreters[] = {"python", "perl", "ruby", "node", "lua",   "tclsh",
                                              "ghci",   "R",    "irb",  "php",  "guile", "sqlite3"};

bool is_interpreter(const std::string& image) {
  return store::is_shell(image) || std::find(std::begin(kInterpreters), std::end(kInterpreters),
                                             image) != std::end(kInterpreters);
}

// A short option, alone or among others: -c, -ec.
bool has_letter(const std::string& option, std::string_view letters) {
  return option.size() > 1 && option[0] == '-' && option[1] != '-' &&
         option.find_first_of(letters) != std::string::npos;
}

// A shell's option whose value is the next word: -o vi, +o zle, -eo pipefail, --rcfile FILE.
bool takes_value(const std::string& option) {
  if (option == "--rcfile" || option == "--init-file") return true;
  return option.size() > 1 && option[1] != '-' && (option.back() == 'o' || option.back() == 'O') &&
         !has_letter(option, "c");
}

}  // namespace

bool is_interactive(const std::string& image, const std::vector<std::string>& argv,
                    bool stdin_is_terminal) {
  if (!is_interpreter(image) || argv.empty()) return false;
  if (argv[0].starts_with('-')) return true;  // a login shell
  const bool shell = store::is_shell(image);
  for (size_t i = 1; i < argv.size(); ++i) {
    const std::string& word = argv[i];
    if (!word.starts_with('-') && !(shell && word.starts_with('+'))) return false;  // a script
    if (word == "-i" || word == "--interactive" || word == "--login") return true;
    if (word == "--version" || word == "--help" || has_letter(word, shell ? "c" : "ce"))
      return false;
    if (shell && takes_value(word)) ++i;
    if (!shell && (word == "-m" || word == "-r" || word == "--eval")) return false;
  }
  return stdin_is_terminal;
}

bool is_command(pid_t process) {
  const Tid tid{process};
  const std::string program = proc_link(tid, "exe");
  struct stat st {};
  if (::stat(program.c_str(), &st) == 0 && (st.st_mode & (S_ISUID | S_ISGID)) != 0) return false;
  const bool terminal = classify(fd_link(tid, 0)) == FdKind::kTerminal;
  return !is_interactive(store::image_name(program), read_proc_list(tid, "cmdline"), terminal);
}

}  // namespace pcache::tracer
