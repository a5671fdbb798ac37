// The subcommands: the options each takes, and the function that carries it out and returns the
// exit status of pcache. Options are parsed in main.cc.
#pragma once

#include <string>
#include <vector>

namespace pcache::cli {

// Exit statuses of `run` and `shell`, as env(1), nohup(1) and docker have them.
inline constexpr int kPcacheFailed = 125;
inline constexpr int kNotExecutable = 126;
inline constexpr int kNotFound = 127;

struct MountArguments {
  std::string dir = ".";
  bool no_passthrough = false;
};
int mount_command(const MountArguments& arguments);

struct UmountArguments {
  std::string dir;  // "": the mount that holds the working directory
  bool all = false;
  bool lazy = false;
};
int umount_command(const UmountArguments& arguments);

struct RunArguments {
  std::string root;
  std::string report;
  bool quiet = false;
  bool disable = false;
  bool read_only = false;
  bool recache = false;
  bool no_passthrough = false;
  std::vector<std::string> command;
};
int run_command(const RunArguments& arguments);  // returns only when it fails
int shell_command(RunArguments arguments);

int status_command(bool json);

struct StatsArguments {
  bool json = false;
  bool zero = false;
};
int stats_command(const StatsArguments& arguments);

struct ExplainArguments {
  std::string filter;
  bool json = false;
};
int explain_command(const ExplainArguments& arguments);

int clear_command(bool yes);

}  // namespace pcache::cli
