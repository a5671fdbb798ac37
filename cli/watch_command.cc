// pcache census, pcache trace: CMD traced, with nothing recorded; this process reads the events.
//
// A child becomes CMD as `run` does. Ctrl-C and Ctrl-\ are CMD's to answer, as under time(1).
#include <fcntl.h>
#include <fmt/format.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <cstring>
#include <functional>
#include <memory>

#include "cli/client.h"
#include "cli/commands.h"
#include "cli/text.h"
#include "cli/views/census.h"
#include "cli/views/trace_text.h"

namespace pcache::cli {
namespace {

using File = std::unique_ptr<std::FILE, int (*)(std::FILE*)>;

void read_events(int fd, const std::function<void(const Json&)>& handle) {
  std::string text;
  char buffer[64 * 1024];
  while (true) {
    const ssize_t n = ::read(fd, buffer, sizeof buffer);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return;
    text.append(buffer, static_cast<size_t>(n));
    size_t begin = 0;
    for (size_t end = text.find('\n'); end != std::string::npos; end = text.find('\n', begin)) {
      const Json event = Json::parse(text.begin() + static_cast<std::ptrdiff_t>(begin),
                                     text.begin() + static_cast<std::ptrdiff_t>(end), nullptr,
                                     /*allow_exceptions=*/false);
      begin = end + 1;
      if (event.is_object()) handle(event);
    }
    text.erase(0, begin);
  }
}

// Runs CMD; its exit status as a shell says it. `move_output`: CMD's standard output goes to
// standard error, because ours is the answer's.
int watch(const WatchArguments& arguments, bool move_output,
          const std::function<void(const Json&)>& handle) {
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) return fail("cannot make a pipe", kPcacheFailed);
  UniqueFd reader(ends[0]), writer(ends[1]);
  const pid_t child = ::fork();
  if (child < 0) return fail("cannot fork", kPcacheFailed);
  if (child == 0) {
    reader.reset();
    if (move_output) ::dup2(STDERR_FILENO, STDOUT_FILENO);
    RunArguments run;
    run.root = arguments.root;
    run.quiet = true;
    run.watch_fd = writer.release();
    run.command = arguments.command;
    const int status = run_command(run);
    std::fflush(nullptr);
    ::_exit(status);
  }
  writer.reset();
  ::signal(SIGINT, SIG_IGN);
  ::signal(SIGQUIT, SIG_IGN);
  read_events(reader.get(), handle);
  int status = 0;
  while (::waitpid(child, &status, 0) < 0 && errno == EINTR) continue;
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

File open_output(const std::string& path, std::FILE* otherwise) {
  if (path.empty()) return {otherwise, [](std::FILE*) { return 0; }};
  return {std::fopen(path.c_str(), "we"), &std::fclose};
}

int cannot_write(const std::string& path) {
  return fail(fmt::format("cannot write {}: {}", printable(path), std::strerror(errno)),
              kPcacheFailed);
}

}  // namespace

int census_command(const WatchArguments& arguments) {
  const File out = open_output(arguments.output, stdout);
  if (!out) return cannot_write(arguments.output);
  Census census;
  bool seen = false;
  const bool ours = arguments.output.empty() && arguments.json;
  const int status = watch(arguments, ours, [&](const Json& event) {
    seen = true;
    census.add(event);
  });
  if (!seen) return status;  // it did not start, and has said why
  if (arguments.json)
    fmt::print(out.get(), "{}\n",
               census.json().dump(2, ' ', false, Json::error_handler_t::replace));
  else
    fmt::print(out.get(), "{}", census.table(Painter(::fileno(out.get()))));
  return status;
}

int trace_command(const WatchArguments& arguments) {
  const File out = open_output(arguments.output, stderr);
  if (!out) return cannot_write(arguments.output);
  TraceLog log(arguments.all);
  return watch(arguments, false, [&](const Json& event) {
    if (!log.wants(event)) return;
    fmt::print(out.get(), "{}\n",
               arguments.json ? event.dump(-1, ' ', false, Json::error_handler_t::replace)
                              : TraceLog::line(event));
  });
}

}  // namespace pcache::cli
