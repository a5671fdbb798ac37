// pcache: parses the command line and calls one subcommand.
#include <CLI/CLI.hpp>

#include "cli/client.h"
#include "cli/commands.h"

namespace pcache::cli {
namespace {

constexpr int kUsage = 2;

struct Arguments {
  MountArguments mount;
  UmountArguments umount;
  RunArguments run;
  StatsArguments stats;
  ExplainArguments explain;
  bool yes = false;
  bool status_json = false;
};

void add_mount_commands(CLI::App& app, Arguments& a) {
  CLI::App* mount = app.add_subcommand("mount", "Mount over a directory");
  mount->add_option("DIR", a.mount.dir, "the directory (default: the working directory)");
  mount->add_flag("--no-passthrough", a.mount.no_passthrough, "copy contents through the daemon");

  CLI::App* umount = app.add_subcommand("umount", "Write out what is still served, then unmount");
  umount->add_option("DIR", a.umount.dir, "the mount (default: the one around you)");
  umount->add_flag("--all", a.umount.all, "every mount; ends the daemon too");
  umount->add_flag("--lazy", a.umount.lazy, "even when processes are in it");
}

void add_run_options(CLI::App* command, RunArguments& run) {
  command->add_option("--root", run.root, "the project (default: the nearest parent with .git)");
  command->add_option("--report", run.report, "write what was done to this file, as JSON");
  command->add_flag("--quiet", run.quiet, "no summary line at the end");
  command->add_flag("--disable", run.disable, "run the command without pcache");
  command->add_flag("--read-only", run.read_only, "hit, but record nothing");
  command->add_flag("--recache", run.recache, "record, but never hit");
  command->add_flag("--no-passthrough", run.no_passthrough, "copy contents through the daemon");
}

// Where CMD begins in argv: it and its own options are nobody's business but its own. Only --root
// and
// --report take a value.
int command_begin(int argc, char** argv, int first) {
  for (int i = first; i < argc; ++i) {
    const std::string word = argv[i];
    if (word == "--" || word.empty() || word[0] != '-') return i;
    if (word == "--root" || word == "--report") ++i;
  }
  return argc;
}

int parse_and_run(int argc, char** argv) {
  Arguments a;
  CLI::App app{"pcache: never runs a command twice whose inputs are unchanged"};
  app.set_version_flag("--version", "pcache " PCACHE_VERSION);
  app.require_subcommand(1);
  add_mount_commands(app, a);
  CLI::App* run = app.add_subcommand("run", "Run a command, skipping what ran before");
  add_run_options(run, a.run);
  std::vector<std::string> for_help;  // CMD never reaches this parser
  run->add_option("CMD", for_help, "the command and its arguments, after -- or the options");
  CLI::App* shell = app.add_subcommand("shell", "An interactive shell under `run`");
  add_run_options(shell, a.run);
  app.add_subcommand("status", "The daemon, mounts and running sessions")
      ->add_flag("--json", a.status_json, "as JSON");
  CLI::App* stats = app.add_subcommand("stats", "Hits, misses, time saved, size of the store");
  stats->add_flag("--json", a.stats.json, "as JSON");
  stats->add_flag("--zero", a.stats.zero, "then start the counts again");
  CLI::App* explain = app.add_subcommand("explain", "Why the last run ran what it ran");
  explain->add_option("FILTER", a.explain.filter, "only executions with this path or text in them");
  explain->add_flag("--json", a.explain.json, "as JSON");
  app.add_subcommand("clear", "Forget all records")->add_flag("--yes", a.yes, "do not ask");

  const bool is_run = argc > 1 && std::string_view(argv[1]) == "run";
  const bool is_job = is_run || (argc > 1 && std::string_view(argv[1]) == "shell");
  int parsed = argc;
  if (is_run) {
    parsed = command_begin(argc, argv, 2);
    int begin = parsed;
    if (begin < argc && std::string_view(argv[begin]) == "--") ++begin;
    a.run.command.assign(argv + begin, argv + argc);
  }
  try {
    app.parse(parsed, argv);
  } catch (const CLI::ParseError& error) {
    const int status = app.exit(error);
    return status == 0 ? 0 : is_job ? kPcacheFailed : kUsage;
  }
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
  if (stats->parsed()) return stats_command(a.stats);
  if (explain->parsed()) return explain_command(a.explain);
  return clear_command(a.yes);
}

}  // namespace
}  // namespace pcache::cli

int main(int argc, char** argv) {
  try {
    return pcache::cli::parse_and_run(argc, argv);
  } catch (const std::exception& error) {
    return pcache::cli::fail(error.what(), pcache::cli::kPcacheFailed);
  }
}
