// The subcommands: the options each takes, and the function that carries it out and returns the
// exit status of pcache. Options are parsed in main.cc.
#pragma once

#include <string>
#include <vector>

namespace CLI {
class App;
}

namespace pcache::cli {

// Exit statuses of `run` and `shell`, as env(1), nohup(1) and docker have them.
inline constexpr int kPcacheFailed = 125;
inline constexpr int kNotExecutable = 126;
inline constexpr int kNotFound = 127;

struct MountArguments {
  std::string dir = ".";
  bool no_passthrough = false;
  bool no_seize = false;
  bool disable = false, read_only = false, recache = false;  // of what is seized
  bool json = false;
};
int mount_command(const MountArguments& arguments);

struct UmountArguments {
  std::string dir;  // "": the mount that holds the working directory
  bool all = false;
  bool lazy = false;
  bool json = false;
  bool silent = false;  // says only what goes wrong
};
int umount_command(const UmountArguments& arguments);

struct RunArguments {
  std::string root;
  std::string report;
  bool quiet = false;
  bool disable = false;
  bool read_only = false;
  bool recache = false;
  bool check = false;
  bool no_passthrough = false;
  bool pid_namespace = false;
  int watch_fd = -1;  // of trace and census: gets every event, and nothing is recorded
  std::vector<std::string> command;
};
int run_command(const RunArguments& arguments);  // returns only when it fails
// Looks a program up as execvp does: 0, or the errno that this would give.
int look_up_program(const std::string& name);
int shell_command(RunArguments arguments);

int status_command(bool json);

struct TopArguments {
  bool once = false;
  bool json = false;
};
int top_command(const TopArguments& arguments);

struct StatsArguments {
  bool json = false;
  bool zero = false;
};
int stats_command(const StatsArguments& arguments);

struct ExplainArguments {
  std::string what;  // a path, an execution's number, a part of a command line; "": what ran
  std::vector<std::string> command;  // instead of `what`
  std::string run;                   // "": the last
  bool codes = false;
  bool json = false;
};
int explain_command(const ExplainArguments& arguments);

struct WhyArguments {
  std::string file;
  bool tree = false;
  bool json = false;
};
int why_command(const WhyArguments& arguments);

struct GraphArguments {
  std::string run;  // "": the last
  std::string format = "html";
  std::string report;  // a file of `run --report` instead of a run that is kept
  std::string output;  // "": standard output; html on a terminal: a file of its own
};
int graph_command(const GraphArguments& arguments);

// census and trace: CMD traced, with nothing recorded.
struct WatchArguments {
  std::vector<std::string> command;
  std::string root;
  std::string output;
  bool all = false;
  bool json = false;
};
int census_command(const WatchArguments& arguments);
int trace_command(const WatchArguments& arguments);

struct ClearArguments {
  bool yes = false;
  bool all = false;  // mounts, the daemon and all files, too
  bool json = false;
};
int clear_command(const ClearArguments& arguments);

struct GcArguments {
  std::string max_size, older_than;  // "": by the settings; whatever its age
  bool dry_run = false;
  bool json = false;
};
int gc_command(const GcArguments& arguments);

struct VerifyArguments {
  std::string sample;  // "": everything
  bool json = false;
};
int verify_command(const VerifyArguments& arguments);

int doctor_command(bool json);

// `what`: man, bash, zsh, fish.
int generate_command(const CLI::App& app, const std::string& what);

struct ConfigArguments {
  std::string name;  // "": all
  bool json = false;
};
int config_command(const ConfigArguments& arguments);

}  // namespace pcache::cli
