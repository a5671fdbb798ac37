// pcache generate: the man page and the shells' completions, from the definitions that --help
// shows. Hidden: the build calls it (cli/CMakeLists.txt).
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <ctime>

#include "cli/client.h"
#include "cli/commands.h"
#include "cli/settings.h"

namespace pcache::cli {
namespace {

using Apps = std::vector<const CLI::App*>;
using Options = std::vector<const CLI::Option*>;

// Those that --help shows.
Apps subcommands(const CLI::App& app) {
  return app.get_subcommands([](const CLI::App* sub) { return !sub->get_group().empty(); });
}

Options named_options(const CLI::App& app) {
  return app.get_options([](const CLI::Option* o) { return o->nonpositional(); });
}

Options positionals(const CLI::App& app) {
  return app.get_options([](const CLI::Option* o) { return o->get_positional(); });
}

bool takes_value(const CLI::Option* option) { return option->get_items_expected_max() > 0; }

std::vector<std::string> words_of(const CLI::Option* option) {
  std::vector<std::string> words;
  for (const std::string& name : option->get_snames()) words.push_back("-" + name);
  for (const std::string& name : option->get_lnames()) words.push_back("--" + name);
  return words;
}

// What a value is, by the option's or positional's own name.
enum class ValueKind : uint8_t { kFile, kDirectory, kLevel, kSetting, kCommand, kOther };
ValueKind value_kind(const CLI::Option* option) {
  const std::string name =
      option->get_lnames().empty() ? option->get_name(true) : option->get_lnames().front();
  if (name == "root" || name == "DIR") return ValueKind::kDirectory;
  if (name == "report" || name == "log-file" || name == "log" || name == "output" ||
      name == "FILE" || name == "FILTER")
    return ValueKind::kFile;
  if (name == "log-level") return ValueKind::kLevel;
  if (name == "NAME") return ValueKind::kSetting;
  if (name == "CMD") return ValueKind::kCommand;
  return ValueKind::kOther;
}

std::string joined(const std::vector<std::string>& words, const char* between) {
  std::string out;
  for (const std::string& word : words) out += (out.empty() ? "" : between) + word;
  return out;
}

std::string setting_names() {
  std::vector<std::string> names;
  for (const SettingRow& row : setting_rows()) names.emplace_back(row.name);
  return joined(names, " ");
}

std::string options_text(const CLI::App& app) {
  std::vector<std::string> words;
  for (const CLI::Option* option : named_options(app))
    for (std::string& word : words_of(option)) words.push_back(std::move(word));
  return joined(words, " ");
}

// --- man ---

std::string roff(const std::string& text) {
  std::string out;
  for (const char c : text) {
    if (c == '-' || c == '\\') out += '\\';
    if (out.empty() && (c == '.' || c == '\'')) out += "\\&";
    out += c;
  }
  return out;
}

void man_option(const CLI::Option* option) {
  std::vector<std::string> words;
  for (const std::string& word : words_of(option)) words.push_back("\\fB" + roff(word) + "\\fR");
  std::string value = option->get_type_name();
  value = takes_value(option) ? " \\fI" + value.substr(0, value.find(':')) + "\\fR" : "";
  fmt::print(".TP\n{}{}\n{}\n", joined(words, ", "), value, roff(option->get_description()));
}

void man_subcommand(const CLI::App& app) {
  std::string usage = "\\fBpcache " + roff(app.get_name()) + "\\fR [\\fIOPTIONS\\fR]";
  for (const CLI::Option* option : positionals(app)) {
    const std::string name = option->get_name(true);
    usage += name == "CMD" ? " [\\fB\\-\\-\\fR] \\fICMD\\fR [\\fIARG\\fR...]"
                           : " [\\fI" + name + "\\fR]";
  }
  fmt::print(".SS {}\n{}\n.PP\n{}.\n", roff(app.get_name()), usage, roff(app.get_description()));
  for (const CLI::Option* option : positionals(app))
    fmt::print(".TP\n\\fI{}\\fR\n{}\n", roff(option->get_name(true)),
               roff(option->get_description()));
  for (const CLI::Option* option : named_options(app))
    if (!option->check_lname("help")) man_option(option);
}

void man(const CLI::App& app) {
  fmt::print(".TH PCACHE 1 \"\" \"pcache {}\" \"User Commands\"\n", PCACHE_VERSION);
  fmt::print(
      ".SH NAME\npcache \\- never runs a command twice whose inputs are unchanged\n"
      ".SH SYNOPSIS\n\\fBpcache\\fR \\fICOMMAND\\fR [\\fIOPTIONS\\fR]\n"
      ".SH DESCRIPTION\n"
      "pcache is a memo for processes. It watches what each process of a command reads, lists, "
      "looks for and does not find, and what it leaves behind. When the same command comes again "
      "and all of that is as it was, the process is skipped before its first instruction: exit "
      "status, output and files are there as if it had run.\n"
      ".PP\nIts daemon,\n.BR pcached (8),\nis started when it is needed.\n.SH COMMANDS\n");
  for (const CLI::App* sub : subcommands(app)) man_subcommand(*sub);
  fmt::print(".SH OPTIONS OF EVERY COMMAND\n");
  for (const CLI::Option* option : named_options(app)) man_option(option);
  fmt::print(
      ".SH SETTINGS\nEach is looked for in these places, the later winning: \\fIpcache.conf\\fR in "
      "PCACHE_DIR, \\fI.pcache.conf\\fR in the project's root (but for those of the daemon), the "
      "environment, options. The files hold lines \\fINAME\\fR = \\fIVALUE\\fR; lists take += and "
      "\\-= as well; # begins a comment. \\fBpcache config\\fR shows all, and where they came "
      "from.\n");
  const Settings built_in;
  for (const SettingRow& row : setting_rows()) {
    const std::string& value = built_in.text(row.name);
    fmt::print(".TP\n\\fB{}\\fR, {}{}\n{}{}.\n", roff(row.name), roff(row.variable()),
               row.daemon ? " (of the daemon)" : "", roff(row.help),
               value.empty() ? "" : "; built in: " + roff(value));
  }
  fmt::print(
      ".SH ENVIRONMENT\n.TP\n\\fBPCACHE_DIR\\fR\nWhere everything is kept; built in: pcache in "
      "XDG_CACHE_HOME or ~/.cache.\n.TP\n\\fBNO_COLOR\\fR\nNo colours.\n"
      ".SH FILES\n.TP\n\\fIPCACHE_DIR/store\\fR\nRecords and contents.\n"
      ".TP\n\\fIPCACHE_DIR/daemon.log\\fR\nThe daemon's log.\n"
      ".SH EXIT STATUS\n\\fBrun\\fR, \\fBshell\\fR, \\fBcensus\\fR and \\fBtrace\\fR give the "
      "command's own; 125 where pcache "
      "failed before it started, 126 where it is not executable, 127 where there is none. Other "
      "commands give 0, 1 where they failed or found something wrong, 2 for wrong usage.\n"
      ".SH SEE ALSO\n.BR pcached (8),\n.BR ccache (1),\n.BR make (1)\n");
}

// --- bash ---

std::string bash_reply(ValueKind kind) {
  switch (kind) {
    case ValueKind::kDirectory:
      return "COMPREPLY=($(compgen -d -- \"$cur\"))";
    case ValueKind::kFile:
      return "COMPREPLY=($(compgen -f -- \"$cur\"))";
    case ValueKind::kLevel:
      return "COMPREPLY=($(compgen -W '" + joined(log_levels(), " ") + "' -- \"$cur\"))";
    case ValueKind::kSetting:
      return "COMPREPLY=($(compgen -W '" + setting_names() + "' -- \"$cur\"))";
    case ValueKind::kCommand:
      return "COMPREPLY=($(compgen -c -- \"$cur\"))";
    case ValueKind::kOther:
      return "COMPREPLY=()";
  }
  return "";
}

void bash_values(const CLI::App& app) {
  for (const CLI::Option* option : named_options(app))
    if (takes_value(option))
      fmt::print("    {}) {}; return ;;\n", joined(words_of(option), "|"),
                 bash_reply(value_kind(option)));
}

void bash(const CLI::App& app) {
  std::vector<std::string> names, with_value;
  for (const CLI::App* sub : subcommands(app)) names.push_back(sub->get_name());
  const auto add_values = [&](const CLI::App& of) {
    for (const CLI::Option* option : named_options(of))
      if (takes_value(option))
        for (std::string& word : words_of(option))
          if (std::find(with_value.begin(), with_value.end(), word) == with_value.end())
            with_value.push_back(std::move(word));
  };
  add_values(app);
  for (const CLI::App* sub : subcommands(app)) add_values(*sub);
  fmt::print("# bash completion of pcache; generated by `pcache generate bash`\n_pcache() {{\n");
  fmt::print(
      "  local cur=${{COMP_WORDS[COMP_CWORD]}} prev=${{COMP_WORDS[COMP_CWORD-1]}} i sub= at=0\n");
  fmt::print(
      "  COMPREPLY=()\n  for ((i = 1; i < COMP_CWORD; i++)); do\n"
      "    case ${{COMP_WORDS[i]}} in\n      {}) ((i++)) ;;\n      -*) ;;\n"
      "      *) sub=${{COMP_WORDS[i]}} at=$i; break ;;\n    esac\n  done\n",
      joined(with_value, "|"));
  // A command under `run` completes as itself.
  fmt::print(
      "  if [ \"$sub\" = run ]; then\n    for ((i = at + 1; i < COMP_CWORD; i++)); do\n"
      "      case ${{COMP_WORDS[i]}} in\n        {}) ((i++)) ;;\n        --) ((i++)); break ;;\n"
      "        -*) ;;\n        *) break ;;\n      esac\n    done\n"
      "    if ((i < COMP_CWORD)) || [ \"$prev\" = -- ]; then\n"
      "      if declare -F _command_offset > /dev/null; then _command_offset $i\n"
      "      elif ((i < COMP_CWORD)); then COMPREPLY=($(compgen -f -- \"$cur\"))\n"
      "      else COMPREPLY=($(compgen -c -- \"$cur\")); fi\n      return\n    fi\n  fi\n",
      joined(with_value, "|"));
  fmt::print("  case $prev in\n");
  bash_values(app);
  fmt::print(
      "  esac\n  case $sub in\n  '')\n    COMPREPLY=($(compgen -W '{} {}' -- \"$cur\")) ;;\n",
      joined(names, " "), options_text(app));
  for (const CLI::App* sub : subcommands(app)) {
    fmt::print("  {})\n    case $prev in\n", sub->get_name());
    bash_values(*sub);
    const Options rest = positionals(*sub);
    const std::string otherwise =
        rest.empty() ? "COMPREPLY=()" : bash_reply(value_kind(rest.front()));
    fmt::print(
        "    esac\n    if [[ $cur == -* ]]; then\n"
        "      COMPREPLY=($(compgen -W '{} {}' -- \"$cur\"))\n    else\n      {}\n    fi ;;\n",
        options_text(*sub), options_text(app), otherwise);
  }
  fmt::print("  esac\n}}\ncomplete -o filenames -F _pcache pcache\n");
}

// --- zsh ---

std::string quoted(const std::string& text, const char* special) {
  std::string out;
  for (const char c : text) {
    if (c == '\'')
      out += "'\\''";
    else if (std::string_view(special).find(c) != std::string_view::npos)
      out += std::string("\\") + c;
    else
      out += c;
  }
  return out;
}

std::string zsh_action(ValueKind kind) {
  switch (kind) {
    case ValueKind::kDirectory:
      return "_files -/";
    case ValueKind::kFile:
      return "_files";
    case ValueKind::kLevel:
      return "(" + joined(log_levels(), " ") + ")";
    case ValueKind::kSetting:
      return "(" + setting_names() + ")";
    case ValueKind::kCommand:
      return "_normal";
    case ValueKind::kOther:
      return " ";
  }
  return "";
}

void zsh_options(const CLI::App& app, const char* indent) {
  for (const CLI::Option* option : named_options(app))
    for (const std::string& word : words_of(option)) {
      fmt::print("{}'{}[{}]{}' \\\n", indent, word, quoted(option->get_description(), "[]:\\"),
                 takes_value(option) ? ":value:" + zsh_action(value_kind(option)) : "");
    }
}

void zsh(const CLI::App& app) {
  fmt::print(
      "#compdef pcache\n# zsh completion of pcache; generated by `pcache generate zsh`\n\n"
      "_pcache() {{\n  local context state state_descr line\n  typeset -A opt_args\n"
      "  _arguments -C \\\n");
  zsh_options(app, "    ");
  fmt::print(
      "    '1:command:->command' '*::argument:->argument'\n  case $state in\n  command)\n"
      "    local -a commands=(\n");
  for (const CLI::App* sub : subcommands(app))
    fmt::print("      '{}:{}'\n", sub->get_name(), quoted(sub->get_description(), ":\\"));
  fmt::print("    )\n    _describe command commands ;;\n  argument)\n    case $line[1] in\n");
  for (const CLI::App* sub : subcommands(app)) {
    fmt::print("    {})\n      _arguments {}\\\n", sub->get_name(),
               sub->get_name() == "run" ? "-A '-*' " : "");
    zsh_options(app, "        ");
    for (const CLI::Option* option : named_options(*sub)) {
      if (option->check_lname("help")) continue;  // among those of every command
      for (const std::string& word : words_of(option))
        fmt::print("        '{}[{}]{}' \\\n", word, quoted(option->get_description(), "[]:\\"),
                   takes_value(option) ? ":value:" + zsh_action(value_kind(option)) : "");
    }
    const Options rest = positionals(*sub);
    if (rest.empty())
      fmt::print("        ;;\n");
    else if (value_kind(rest.front()) == ValueKind::kCommand)
      fmt::print("        '*::command:_normal' ;;\n");
    else
      fmt::print("        '1:{}:{}' ;;\n", rest.front()->get_name(true),
                 zsh_action(value_kind(rest.front())));
  }
  fmt::print("    esac ;;\n  esac\n}}\n\n_pcache \"$@\"\n");
}

// --- fish ---

std::string fish_option(const CLI::Option* option) {
  std::string out;
  for (const std::string& name : option->get_snames()) out += " -s " + name;
  for (const std::string& name : option->get_lnames()) out += " -l " + name;
  out += " -d '" + quoted(option->get_description(), "") + "'";
  if (!takes_value(option)) return out;
  switch (value_kind(option)) {
    case ValueKind::kLevel:
      return out + " -x -a '" + joined(log_levels(), " ") + "'";
    case ValueKind::kDirectory:
      return out + " -x -a '(__fish_complete_directories)'";
    case ValueKind::kFile:
      return out + " -r -F";
    default:
      return out + " -x";
  }
}

void fish(const CLI::App& app) {
  fmt::print(
      "# fish completion of pcache; generated by `pcache generate fish`\ncomplete -c pcache -f\n");
  for (const CLI::Option* option : named_options(app))
    fmt::print("complete -c pcache{}\n", fish_option(option));
  for (const CLI::App* sub : subcommands(app)) {
    const std::string& name = sub->get_name();
    fmt::print("complete -c pcache -n __fish_use_subcommand -a {} -d '{}'\n", name,
               quoted(sub->get_description(), ""));
    const std::string within =
        fmt::format("complete -c pcache -n '__fish_seen_subcommand_from {}'", name);
    for (const CLI::Option* option : named_options(*sub))
      if (!option->check_lname("help")) fmt::print("{}{}\n", within, fish_option(option));
    const Options rest = positionals(*sub);
    if (rest.empty()) continue;
    switch (value_kind(rest.front())) {
      case ValueKind::kDirectory:
        fmt::print("{} -x -a '(__fish_complete_directories)'\n", within);
        break;
      case ValueKind::kFile:
        fmt::print("{} -F\n", within);
        break;
      case ValueKind::kSetting:
        fmt::print("{} -x -a '{}'\n", within, setting_names());
        break;
      case ValueKind::kCommand:
        fmt::print("{} -x -a '(__fish_complete_subcommand --fcs-skip=2)'\n", within);
        break;
      default:
        break;
    }
  }
}

}  // namespace

int generate_command(const CLI::App& app, const std::string& what) {
  if (what == "man")
    man(app);
  else if (what == "bash")
    bash(app);
  else if (what == "zsh")
    zsh(app);
  else if (what == "fish")
    fish(app);
  else
    return fail("nothing of this kind is generated: man, bash, zsh or fish", 2);
  return 0;
}

}  // namespace pcache::cli
