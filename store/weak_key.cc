#include "store/weak_key.h"

#include <algorithm>
#include <cctype>
#include <string_view>

namespace pcache::store {

namespace {

constexpr size_t kShortText = 200;  // longer parts are kept as a hash

// Who is told of the whole environment, because it prints it or hands it to a program we cannot
// see.
enum class Reader : uint8_t { kPrinter, kInterpreter, kShell, kMake, kOther };

template <size_t N>
bool contains(const std::string_view (&list)[N], std::string_view name) {
  return std::find(std::begin(list), std::end(list), name) != std::end(list);
}

bool is_make(std::string_view image) {
  return image == "make" || image == "gmake" || image == "remake";
}

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
  if (contains(kInterpreters, name)) return Reader::kInterpreter;
  return Reader::kOther;
}

bool all_digits(std::string_view text) {
  return !text.empty() && std::all_of(text.begin(), text.end(), [](char c) {
    return std::isdigit(static_cast<unsigned char>(c));
  });
}

bool is_jobs_option(std::string_view word) {
  return word == "--jobs" || word.starts_with("--jobs=") || word.starts_with("--jobserver-");
}

// Takes -jN out of one word of make's; true if nothing of it is left. `*takes_next`: the option's
// argument is the next word.
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

// Of the terminal, the login and the agents; never of the work.
bool is_session_variable(std::string_view name) {
  static constexpr std::string_view kNames[] = {
      "COLUMNS",
      "LINES",
      "WINDOWID",
      "WINDOW",
      "TERM_SESSION_ID",
      "ITERM_SESSION_ID",
      "SSH_AUTH_SOCK",
      "SSH_AGENT_PID",
      "SSH_CLIENT",
      "SSH_CONNECTION",
      "SSH_TTY",
      "GPG_TTY",
      "GPG_AGENT_INFO",
      "DBUS_SESSION_BUS_ADDRESS",
      "DISPLAY",
      "WAYLAND_DISPLAY",
      "XAUTHORITY",
      "SESSION_MANAGER",
      "DESKTOP_SESSION",
      "DESKTOP_STARTUP_ID",
      "XDG_ACTIVATION_TOKEN",
      "XDG_SESSION_ID",
      "XDG_SESSION_TYPE",
      "XDG_SESSION_CLASS",
      "XDG_SESSION_DESKTOP",
      "XDG_SESSION_PATH",
      "XDG_SEAT",
      "XDG_SEAT_PATH",
      "XDG_VTNR",
      "TMUX",
      "TMUX_PANE",
      "STY",
      "TERM_PROGRAM",
      "TERM_PROGRAM_VERSION",
      "INVOCATION_ID",
      "JOURNAL_STREAM",
      "SYSTEMD_EXEC_PID",
      "MANAGERPID",
      "LC_IDENTIFICATION_SESSION",
  };
  return contains(kNames, name) || name.starts_with("KONSOLE_") ||
         name.starts_with("GNOME_TERMINAL_") || name.starts_with("KITTY_") ||
         name.starts_with("VSCODE_");
}

std::string_view name_of(std::string_view variable) {
  return variable.substr(0, variable.find('='));
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

// A shell knows its cwd from PWD, without asking the kernel; an interpreter's script may look at
// it.
bool may_show_cwd(const ImageInfo& image, Reader reader) {
  if (reader == Reader::kInterpreter || reader == Reader::kPrinter)
    return std::any_of(image.env.begin(), image.env.end(),
                       [](const std::string& v) { return v.starts_with("PWD="); });
  if (reader != Reader::kShell) return false;
  // What cannot be read here (a sourced file, eval) may say anything.
  const auto holds = [](std::string_view text) {
    for (const std::string_view word : {"PWD", "pwd", "DIRSTACK", "dirs", "~+", "~-", "\\w", "\\W",
                                        "@P", "eval", "source", ". ./", ". /", ". $", ". \""})
      if (text.find(word) != std::string_view::npos) return true;
    return false;
  };
  return holds(image.script_text) || std::any_of(image.argv.begin(), image.argv.end(), holds);
}

std::string_view value_of(std::string_view variable) {
  const size_t equals = variable.find('=');
  return equals == std::string_view::npos ? std::string_view() : variable.substr(equals + 1);
}

// One variable as it goes into the key; nullopt: not at all.
std::optional<std::string> normalized_variable(const std::string& variable, Reader reader,
                                               const std::string& cwd, bool mentioned) {
  const std::string_view name = name_of(variable);
  if (name.starts_with("PCACHE_")) return std::nullopt;
  if (reader == Reader::kPrinter || mentioned) return variable;
  if (name == "MAKEFLAGS" || name == "MFLAGS" || name == "GNUMAKEFLAGS") {
    return std::string(name) + "=" + without_jobserver(value_of(variable));
  }
  const bool whole = reader == Reader::kInterpreter;
  if (name == "MAKE_TERMOUT" || name == "MAKE_TERMERR" || (!whole && is_session_variable(name))) {
    return std::nullopt;
  }
  if (name == "PWD" && value_of(variable) == cwd) {
    // That it is set, and right, is all a shell or a script can tell from it that cwd does not.
    return whole || reader == Reader::kShell ? std::optional<std::string>("PWD=.") : std::nullopt;
  }
  if (whole) return variable;
  if (name == "_" || name == "SHLVL" || name == "OLDPWD") return std::nullopt;
  if (name == "MAKELEVEL" && reader != Reader::kMake) return std::nullopt;
  return variable;
}

// Whether `root` stands in `text` as a whole path or the beginning of one: "-I/r/include" and
// "/r:/usr" for the root /r, but not "/root2".
bool names_root(std::string_view text, std::string_view root) {
  if (root.size() < 2) return false;
  for (size_t at = text.find(root); at != std::string_view::npos; at = text.find(root, at + 1)) {
    const size_t end = at + root.size();
    if (end == text.size()) return true;
    const char next = text[end];
    const bool same_name = std::isalnum(static_cast<unsigned char>(next)) ||
                           std::string_view("._-+~@%").find(next) != std::string_view::npos;
    if (!same_name) return true;
  }
  return false;
}

bool looks_secret(std::string_view name) {
  std::string upper(name);
  for (char& c : upper) c = static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
  for (const std::string_view word :
       {"TOKEN", "SECRET", "PASSW", "CREDENTIAL", "APIKEY", "API_KEY", "PRIVATE", "AUTH", "_KEY"}) {
    if (upper.find(word) != std::string::npos) return true;
  }
  return false;
}

std::string short_or_hash(const std::string& text) {
  return text.size() <= kShortText ? text : "hash " + hash_bytes(text).hex();
}

std::string joined(const std::vector<std::string>& words) {
  std::string out;
  for (const std::string& word : words) {
    if (!out.empty()) out += ' ';
    out += word;
  }
  return out;
}

const char* shape_name(StreamShape shape) {
  switch (shape) {
    case StreamShape::kClosed:
      return "closed";
    case StreamShape::kNull:
      return "/dev/null";
    case StreamShape::kOther:
      return "open";
  }
  return "open";
}

// Hashes each part and keeps it for explain.
class Parts {
 public:
  void add(std::string name, std::string value) {
    hasher_.add(name).add(value);
    parts_.emplace_back(std::move(name), short_or_hash(value));
  }
  void add(std::string name, uint64_t value) { add(std::move(name), std::to_string(value)); }
  void add(std::string name, const Digest& value) { add(std::move(name), value.hex()); }
  // `shown` is kept instead of the value.
  void add_hidden(std::string name, const std::string& value, std::string shown) {
    hasher_.add(name).add(value);
    parts_.emplace_back(std::move(name), std::move(shown));
  }
  Digest digest() const { return hasher_.finish(); }
  Store::KeyParts take() { return std::move(parts_); }

 private:
  Hasher hasher_;
  Store::KeyParts parts_;
};

void add_files(const ImageInfo& image, Parts* parts) {
  parts->add("executable", image.executable_path.text);
  parts->add("executable content", image.executable_hash);
  parts->add("interpreter", image.interpreter.text);
  parts->add("interpreter content", image.interpreter_hash);
  parts->add("script", image.script.text);
  parts->add("script content", image.script_hash);
}

void add_process(const ImageInfo& image, Parts* parts) {
  parts->add("umask", image.umask);
  parts->add("uid", image.uid);
  parts->add("gid", image.gid);
  std::vector<uint32_t> groups = image.groups;
  std::sort(groups.begin(), groups.end());
  std::string text;
  for (const uint32_t group : groups) text += std::to_string(group) + " ";
  parts->add("groups", text);
  parts->add("capabilities", image.capabilities);
  parts->add("ignored signals", image.ignored_signals);
  parts->add("kernel release", image.kernel_release);
  parts->add("host name", image.node_name);
  parts->add("processor features", image.cpu_flags_hash);
  const Reader reader = reader_of(image);
  const std::string name = image_name(image.executable);
  if (reader == Reader::kShell || reader == Reader::kInterpreter || name == "nice" ||
      name == "prlimit")
    parts->add("resource limits", image.limits);
  static constexpr const char* kStreams[] = {"stdin", "stdout", "stderr"};
  // What stdin is counts when it is used; make gives its children a closed pipe or its own, by
  // chance.
  parts->add(kStreams[0], image.shape[0] == StreamShape::kClosed ? "closed" : "open");
  for (int i = 1; i < 3; ++i) parts->add(kStreams[i], shape_name(image.shape[i]));
}

}  // namespace

std::vector<std::string> normalized_argv(const ImageInfo& image) {
  if (reader_of(image) != Reader::kMake) return image.argv;
  std::vector<std::string> out;
  bool wants_number = false, takes_next = false, options = true;
  for (size_t i = 0; i < image.argv.size(); ++i) {
    std::string word = image.argv[i];
    if (i == 0 || !options || takes_next) {
      takes_next = false;
      out.push_back(std::move(word));
      continue;
    }
    if (wants_number && all_digits(word)) {
      wants_number = false;
      continue;
    }
    if (word == "--") options = false;
    wants_number = word == "--jobs";
    if (is_jobs_option(word)) continue;
    bool number = false;
    if (without_jobs(&word, &number, &takes_next)) {
      wants_number = number;
      continue;
    }
    wants_number = number;
    out.push_back(std::move(word));
  }
  return out;
}

std::vector<std::string> normalized_env(const ImageInfo& image) {
  const Reader reader = reader_of(image);
  std::vector<std::string> out;
  out.reserve(image.env.size());
  for (const std::string& variable : image.env) {
    const bool mentioned = reader == Reader::kShell && is_mentioned(image, name_of(variable));
    if (std::optional<std::string> kept =
            normalized_variable(variable, reader, image.cwd, mentioned)) {
      out.push_back(std::move(*kept));
    }
  }
  // Who prints or iterates over the environment sees its order; to others it cannot matter (of two
  // equal names the first is what getenv finds).
  if (reader == Reader::kPrinter || reader == Reader::kInterpreter) return out;
  std::stable_sort(out.begin(), out.end(), [](const std::string& a, const std::string& b) {
    return name_of(a) < name_of(b);
  });
  return out;
}

WeakKey make_weak_key(const ImageInfo& image, const std::string& root) {
  const std::vector<std::string> argv = normalized_argv(image);
  const std::vector<std::string> env = normalized_env(image);
  const TreePath cwd = TreePath::from_absolute(image.cwd, root);
  WeakKey key;
  const auto bind = [&](const std::string& reason) {
    if (key.root_bound) return;
    key.root_bound = true;
    key.root_reason = reason;
  };

  Hasher command;
  command.add("command").add(image.executable_path.text).add(cwd.text);
  Hasher argv_hash;
  argv_hash.add(static_cast<uint64_t>(argv.size()));
  command.add(static_cast<uint64_t>(argv.size()));
  for (const std::string& arg : argv) {
    argv_hash.add(arg);
    command.add(arg);
    if (names_root(arg, root)) bind("the argument " + short_or_hash(arg) + " names the root");
  }
  key.command = command.finish();

  Parts parts;
  add_files(image, &parts);
  parts.add_hidden("argv", argv_hash.finish().hex(), short_or_hash(joined(argv)));
  parts.add("cwd", cwd.text);
  for (const std::string& variable : env) {
    const std::string name(name_of(variable));
    std::string value(value_of(variable));
    if (names_root(value, root)) {
      bind("the variable " + name + " names the root");
    }
    // "NAME" without "=" is not "NAME=".
    const std::string whole = variable.find('=') == std::string::npos ? variable : "=" + value;
    parts.add_hidden("env " + name, whole,
                     looks_secret(name) ? "hash " + hash_bytes(value).hex() : short_or_hash(value));
  }
  if (cwd.in_root() && may_show_cwd(image, reader_of(image)))
    bind(image_name(image.executable) + " may show its working directory");
  add_process(image, &parts);
  key.digest = parts.digest();
  key.parts = parts.take();
  return key;
}

}  // namespace pcache::store
