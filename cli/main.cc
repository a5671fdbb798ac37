// pcache: parses the command line and calls one subcommand.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <map>

#include "cli/client.h"
#include "cli/commands.h"
#include "cli/settings.h"
#include "cli/suggest.h"
#include "cli/text.h"

namespace pcache::cli {
namespace {

constexpr int kUsage = 2;

struct Arguments {
  std::string log_level, log_file;
  MountArguments mount;
  UmountArguments umount;
  RunArguments run;
  TopArguments top;
  StatsArguments stats;
  ExplainArguments explain;
  WhyArguments why;
  GraphArguments graph;
  WatchArguments watch;
  ConfigArguments config;
  GcArguments gc;
  VerifyArguments verify;
  ClearArguments clear;
  bool status_json = false;
  bool doctor_json = false;
  std::string generate;
};

void add_mount_commands(CLI::App& app, Arguments& a) {
  CLI::App* mount = app.add_subcommand("mount", "Mount over a directory");
  mount->add_option("DIR", a.mount.dir, "the directory (default: the working directory)");
  mount->add_flag("--no-passthrough", a.mount.no_passthrough, "copy contents through the daemon");
  mount->add_flag("--no-seize", a.mount.no_seize,
                  "leave commands alone that are started without `pcache run`");
  mount->add_flag("--disable", a.mount.disable, "cache nothing by itself; the same as --no-seize");
  mount->add_flag("--read-only", a.mount.read_only,
                  "what is started in it hits, but is not recorded");
  mount->add_flag("--recache", a.mount.recache, "what is started in it runs, and is recorded anew");
  mount->add_flag("--json", a.mount.json, "as JSON");

  CLI::App* umount = app.add_subcommand("umount", "Write out what is still served, then unmount");
  umount->add_option("DIR", a.umount.dir, "the mount (default: the one around you)");
  umount->add_flag("--all", a.umount.all, "every mount; ends the daemon too");
  umount->add_flag("--lazy", a.umount.lazy, "even when processes are in it");
  umount->add_flag("--json", a.umount.json, "as JSON");
}

void add_run_options(CLI::App* command, RunArguments& run) {
  command->add_option("--root", run.root, "the project (default: the nearest parent with .git)");
  command->add_option("--report", run.report, "write what was done to this file, as JSON");
  command->add_flag("--quiet", run.quiet, "no summary line at the end");
  command->add_flag("--disable", run.disable, "run the command without pcache");
  command->add_flag("--read-only", run.read_only, "hit, but record nothing");
  command->add_flag("--recache", run.recache, "record, but never hit");
  command->add_flag("--check", run.check, "run what would hit, and tell any difference");
  command->add_flag("--no-passthrough", run.no_passthrough, "copy contents through the daemon");
  command->add_flag("--pid-namespace", run.pid_namespace, "the same process ids each time");
}

// Questions about runs and about commands.
void add_questions(CLI::App& app, Arguments& a, std::vector<std::string>& for_help) {
  CLI::App* explain = app.add_subcommand("explain", "Why a command ran again, or is never cached");
  explain->add_option("WHAT", a.explain.what,
                      "a path, an execution's number, a part of a command line; or -- CMD...");
  explain->add_option("--run", a.explain.run, "run N, or -1 for the one before the last");
  explain->add_flag("--codes", a.explain.codes, "every reason with its meaning and remedy");
  explain->add_flag("--json", a.explain.json, "as JSON");

  CLI::App* why = app.add_subcommand("why", "Which command made a file, from what");
  why->add_option("FILE", a.why.file, "any file, mounted or not")->required();
  why->add_flag("--tree", a.why.tree, "its inputs' makers too, and theirs");
  why->add_flag("--json", a.why.json, "as JSON");

  CLI::App* graph = app.add_subcommand("graph", "A run as a page: processes, time, hits, reasons");
  graph->add_option("RUN", a.graph.run, "run N, or -1 for the one before the last");
  graph->add_option("--format", a.graph.format, "html, dot or json")
      ->check(CLI::IsMember({"html", "dot", "json"}));
  graph->add_option("--report", a.graph.report, "a file that `run --report` wrote");
  graph->add_option("-o,--output", a.graph.output, "the file to write");

  CLI::App* census = app.add_subcommand("census", "What a command does, counted");
  census->add_option("-o,--output", a.watch.output, "write it there, not to standard output");
  CLI::App* trace = app.add_subcommand("trace", "What a command does, event by event");
  trace->add_option("--log", a.watch.output, "write it there, not to standard error");
  trace->add_flag("--all", a.watch.all, "failures too, and every call that is traced");
  for (CLI::App* command : {census, trace}) {
    command->add_option("--root", a.watch.root, "the project (as for run)");
    command->add_flag("--json", a.watch.json, "as JSON");
    command->add_option("CMD", for_help, "the command and its arguments");
  }
}

// What the values of options are called in --help and in the manual.
void name_values(CLI::App& app) {
  static const std::map<std::string, std::string> kNames = {
      {"root", "DIR"},      {"report", "FILE"},     {"log-file", "FILE"},   {"log", "FILE"},
      {"output", "FILE"},   {"run", "N"},           {"log-level", "LEVEL"}, {"format", "FORMAT"},
      {"max-size", "SIZE"}, {"older-than", "TIME"}, {"sample", "PART"}};
  for (CLI::Option* option : app.get_options([](const CLI::Option*) { return true; })) {
    if (option->get_items_expected_max() == 0) continue;
    const auto name =
        option->get_lnames().empty() ? kNames.end() : kNames.find(option->get_lnames().front());
    option->type_name(name == kNames.end() ? "" : name->second);
  }
  for (CLI::App* command : app.get_subcommands({})) name_values(*command);
}

bool takes_value(const std::string& option) {
  return option == "--root" || option == "--report" || option == "--log" || option == "-o" ||
         option == "--output" || option == "--log-level" || option == "--log-file";
}

// The subcommand's place in argv: behind options that stand before it.
int subcommand_begin(int argc, char** argv) {
  for (int i = 1; i < argc; ++i) {
    const std::string_view word = argv[i];
    if (word.empty() || word[0] != '-') return i;
    if (word == "--log-level" || word == "--log-file") ++i;
  }
  return argc;
}

// Where CMD begins in argv: it and its own options are nobody's business but its own.
int command_begin(int argc, char** argv, int first) {
  for (int i = first; i < argc; ++i) {
    const std::string word = argv[i];
    if (word == "--" || word.empty() || word[0] != '-') return i;
    if (takes_value(word)) ++i;
  }
  return argc;
}

std::vector<std::string> command_names(const CLI::App& app) {
  std::vector<std::string> names;
  for (const CLI::App* command :
       app.get_subcommands([](const CLI::App* sub) { return !sub->get_group().empty(); }))
    names.push_back(command->get_name());
  return names;
}

bool is_command(const CLI::App& app, const std::string& name) {
  for (const CLI::App* command : app.get_subcommands([](const CLI::App*) { return true; }))
    if (command->check_name(name)) return true;
  return false;
}

int no_such_command(const CLI::App& app, const std::string& typed) {
  const std::vector<std::string> known = command_names(app);
  std::vector<std::string> meant = nearest(typed, known);
  const std::string what = "there is no command " + printable(typed);
  const std::string run = fmt::format("`pcache run -- {}`", printable(typed));
  const bool program = look_up_program(typed) == 0;
  if (!meant.empty()) {
    if (program) meant.push_back(run);
    return fail(fmt::format("{}: did you mean {}?", what, any_of_them(meant)), kUsage);
  }
  std::string all;
  for (const std::string& name : known) all += (all.empty() ? "" : ", ") + name;
  return fail(fmt::format("{}{}; there are: {}", what,
                          program ? fmt::format(" (the program: {})", run) : "", all),
              kUsage);
}

// An option or a word that nobody asked for.
int not_expected(const CLI::App& app, const std::string& word, int status) {
  const std::vector<CLI::App*> parsed = app.get_subcommands();
  const CLI::App* command = parsed.empty() ? nullptr : parsed.front();
  const std::string speaker = command == nullptr ? "pcache" : "pcache " + command->get_name();
  if (word.size() < 2 || word[0] != '-')
    return fail(fmt::format("{} takes no {} (see `{} --help`)", speaker, printable(word), speaker),
                status);
  std::vector<std::string> known;
  for (const CLI::App* from : {command, &app}) {
    if (from == nullptr) continue;
    for (const CLI::Option* option : from->get_options())
      for (const std::string& name : option->get_lnames()) known.push_back("--" + name);
  }
  const std::string name = word.substr(0, word.find('='));
  std::vector<std::string> meant = nearest(name, known);
  std::sort(meant.begin(), meant.end());
  meant.erase(std::unique(meant.begin(), meant.end()), meant.end());
  return fail(
      fmt::format("{} has no option {}{} (see `{} --help`)", speaker, printable(name),
                  meant.empty() ? "" : ": did you mean " + any_of_them(meant) + "?", speaker),
      status);
}

// What else is wrong with the words: a value that is missing or of no sense.
int wrong_words(const CLI::App& app, const CLI::ParseError& error, int status) {
  const std::vector<CLI::App*> parsed = app.get_subcommands();
  if (parsed.empty() && error.get_name() == "RequiredError") {
    std::string all;
    for (const std::string& name : command_names(app)) all += (all.empty() ? "" : ", ") + name;
    return fail("say what to do, like `pcache run -- make`; there are: " + all, status);
  }
  const std::string speaker = parsed.empty() ? "pcache" : "pcache " + parsed.front()->get_name();
  return fail(fmt::format("{}: {} (see `{} --help`)", speaker, error.what(), speaker), status);
}

// `pcache help`, `pcache help CMD`, `pcache version`: what many other programs have.
std::vector<char*> with_usual_words(int argc, char** argv) {
  static char help[] = "--help", version[] = "--version";
  std::vector<char*> words(argv, argv + argc);
  const std::string_view verb = argc > 1 ? argv[1] : "";
  if (verb == "version" && argc == 2) words[1] = version;
  if (verb == "help" && argc == 2) words[1] = help;
  if (verb == "help" && argc == 3) {
    words[1] = argv[2];
    words[2] = help;
  }
  return words;
}

int parse_and_run(int argc, char** argv) {
  Arguments a;
  CLI::App app{"pcache: never runs a command twice whose inputs are unchanged"};
  app.name("pcache");  // whatever path it was called by
  app.set_version_flag("--version", "pcache " PCACHE_VERSION);
  app.require_subcommand(1);
  app.add_option("--log-level", a.log_level, "what the daemon's log holds from now on")
      ->check(CLI::IsMember(log_levels()));
  app.add_option("--log-file", a.log_file, "where the daemon writes its log from now on");
  add_mount_commands(app, a);
  CLI::App* run = app.add_subcommand("run", "Run a command, skipping what ran before");
  add_run_options(run, a.run);
  std::vector<std::string> for_help;  // CMD never reaches this parser
  run->add_option("CMD", for_help, "the command and its arguments, after -- or the options");
  CLI::App* shell = app.add_subcommand("shell", "An interactive shell under `run`");
  add_run_options(shell, a.run);
  app.add_subcommand("status", "The daemon, mounts and running sessions")
      ->add_flag("--json", a.status_json, "as JSON");
  CLI::App* top =
      app.add_subcommand("top", "What runs now, live: rate, hits, what is being served");
  top->add_flag("--once", a.top.once, "print it once, also on a terminal");
  top->add_flag("--json", a.top.json, "once, as JSON");
  CLI::App* stats = app.add_subcommand("stats", "Hits, misses, time saved, size of the store");
  stats->add_flag("--json", a.stats.json, "as JSON");
  stats->add_flag("--zero", a.stats.zero, "then start the counts again");
  add_questions(app, a, for_help);
  CLI::App* config = app.add_subcommand("config", "Every setting, its value, where it came from");
  config->add_option("NAME", a.config.name, "only the value of this one");
  config->add_flag("--json", a.config.json, "as JSON");
  CLI::App* gc = app.add_subcommand("gc", "Forget what was used least lately");
  gc->add_option("--max-size", a.gc.max_size, "until the store takes no more than this: 20G");
  gc->add_option("--older-than", a.gc.older_than, "what was not used for this time: 30d");
  gc->add_flag("--dry-run", a.gc.dry_run, "only say what would be forgotten");
  gc->add_flag("--json", a.gc.json, "as JSON");
  CLI::App* verify = app.add_subcommand("verify", "Check the store; remove what is damaged");
  verify->add_option("--sample", a.verify.sample, "only this part of the contents: 10%");
  verify->add_flag("--json", a.verify.json, "as JSON");
  app.add_subcommand("doctor", "What works here and what does not, and what mends it")
      ->add_flag("--json", a.doctor_json, "as JSON");
  CLI::App* clear = app.add_subcommand("clear", "Forget all records");
  clear->add_flag("--yes", a.clear.yes, "do not ask");
  clear->add_flag("--all", a.clear.all, "unmount everything, end the daemon, remove its files");
  clear->add_flag("--json", a.clear.json, "as JSON");

  CLI::App* generate = app.add_subcommand("generate", "The man page and completions")->group("");
  generate->add_option("WHAT", a.generate, "man, bash, zsh or fish")->required();
  for (CLI::App* subcommand : app.get_subcommands({})) subcommand->fallthrough();
  name_values(app);
  app.footer(
      "Begin with `pcache run -- make`; ask `pcache explain` why something ran again, and\n"
      "`pcache COMMAND --help` about a command. All of it: pcache(1).");
  const int at = subcommand_begin(argc, argv);
  const std::string_view verb = at < argc ? argv[at] : "";
  if (!verb.empty() && !is_command(app, std::string(verb)))
    return no_such_command(app, std::string(verb));
  const bool is_run = verb == "run";
  const bool is_watch = verb == "census" || verb == "trace";
  const bool is_job = is_run || is_watch || verb == "shell";
  int parsed = argc;
  if (is_run || is_watch) {
    parsed = command_begin(argc, argv, at + 1);
    int begin = parsed;
    if (begin < argc && std::string_view(argv[begin]) == "--") ++begin;
    (is_run ? a.run.command : a.watch.command).assign(argv + begin, argv + argc);
  } else if (verb == "explain") {
    parsed = static_cast<int>(std::find(argv, argv + argc, std::string_view("--")) - argv);
    if (parsed < argc) a.explain.command.assign(argv + parsed + 1, argv + argc);
  }
  try {
    app.parse(parsed, argv);
  } catch (const CLI::ExtrasError& error) {
    const std::vector<std::string> words = app.remaining(true);
    const auto option = std::find_if(words.begin(), words.end(),
                                     [](const std::string& word) { return word[0] == '-'; });
    const int status = is_job ? kPcacheFailed : kUsage;
    if (words.empty()) return fail(error.what(), status);
    return not_expected(app, option != words.end() ? *option : words.front(), status);
  } catch (const CLI::ParseError& error) {
    if (error.get_exit_code() == 0) return app.exit(error);  // --help, --version
    return wrong_words(app, error, is_job ? kPcacheFailed : kUsage);
  }
  if (const auto set = set_log_options(a.log_level, a.log_file); !set)
    return fail(set.error().to_string(), is_job ? kPcacheFailed : 1);
  if (is_job && a.run.recache && a.run.check)
    return fail("--check runs what would hit, and with --recache nothing would: give one of them",
                kPcacheFailed);
  if (run->parsed()) {
    if (a.run.command.empty()) {
      return fail("no command: say `pcache run -- CMD [ARG...]`", kPcacheFailed);
    }
    return run_command(a.run);
  }
  if (shell->parsed()) return shell_command(a.run);
  if (app.got_subcommand("mount")) return mount_command(a.mount);
  if (app.got_subcommand("umount")) return umount_command(a.umount);
  if (app.got_subcommand("status")) return status_command(a.status_json);
  if (top->parsed()) return top_command(a.top);
  if (stats->parsed()) return stats_command(a.stats);
  if (app.got_subcommand("explain")) return explain_command(a.explain);
  if (app.got_subcommand("why")) return why_command(a.why);
  if (app.got_subcommand("graph")) return graph_command(a.graph);
  if (is_watch && a.watch.command.empty())
    return fail(std::string("no command: say `pcache ") + argv[at] + " -- CMD [ARG...]`",
                kPcacheFailed);
  if (app.got_subcommand("census")) return census_command(a.watch);
  if (app.got_subcommand("trace")) return trace_command(a.watch);
  if (generate->parsed()) return generate_command(app, a.generate);
  if (gc->parsed()) return gc_command(a.gc);
  if (verify->parsed()) return verify_command(a.verify);
  if (app.got_subcommand("doctor")) return doctor_command(a.doctor_json);
  if (config->parsed()) return config_command(a.config);
  return clear_command(a.clear);
}

}  // namespace
}  // namespace pcache::cli

int main(int argc, char** argv) {
  try {
    std::vector<char*> words = pcache::cli::with_usual_words(argc, argv);
    words.push_back(nullptr);
    return pcache::cli::parse_and_run(argc, words.data());
  } catch (const std::exception& error) {
    return pcache::cli::fail(error.what(), pcache::cli::kPcacheFailed);
  }
}
