#include <unistd.h>

#include <cstdio>
#include <cstdlib>

#include "cli/client.h"
#include "cli/commands.h"

namespace pcache::cli {

int shell_command(RunArguments arguments) {
  const char* shell = std::getenv("SHELL");
  arguments.command = {shell != nullptr && shell[0] == '/' ? shell : "/bin/sh", "-i"};
  if (::isatty(STDERR_FILENO) == 1) {
    std::fprintf(
        stderr,
        "pcache: this shell and all it starts are traced: debuggers and strace do not work "
        "in it.\n");
  }
  return run_command(arguments);
}

}  // namespace pcache::cli
