// pcache graph: a run as one page, for dot(1), or as JSON.
#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "cli/client.h"
#include "cli/commands.h"
#include "cli/text.h"
#include "cli/views/graph_page.h"
#include "cli/views/runs.h"

namespace pcache::cli {
namespace {

Result<RunView> find_run(const GraphArguments& arguments) {
  if (!arguments.report.empty()) return read_report_file(arguments.report);
  PCACHE_ASSIGN(const Locations locations, Locations::find());
  PCACHE_ASSIGN(const Connection connection, connect_or_start(locations));
  return read_run(connection.channel, arguments.run);
}

// Not into the working directory: a new name there would be news to commands that list it.
std::string own_file(uint64_t number) {
  const char* dir = std::getenv("TMPDIR");
  return fmt::format("{}/pcache-run-{}-{}.html", dir != nullptr && *dir != '\0' ? dir : "/tmp",
                     ::getuid(), number);
}

Result<void> write_file(const std::string& path, const std::string& text) {
  // A name in /tmp can be somebody else's link.
  UniqueFd fd(::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600));
  if (!fd) return system_error("cannot write " + printable(path));
  for (size_t done = 0; done < text.size();) {
    const ssize_t n = ::write(fd.get(), text.data() + done, text.size() - done);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return system_error("cannot write " + printable(path));
    done += static_cast<size_t>(n);
  }
  return {};
}

}  // namespace

int graph_command(const GraphArguments& arguments) {
  const auto run = find_run(arguments);
  if (!run) return fail(run.error().to_string());
  std::string text;
  if (arguments.format == "html") {
    text = graph_html(run->report, run->number);
  } else if (arguments.format == "dot") {
    text = graph_dot(run->report);
  } else {
    Json out = run->report;
    out["run"] = run->number;
    text = out.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
  }
  std::string path = arguments.output;
  const bool own = path.empty() && arguments.format == "html" && ::isatty(STDOUT_FILENO) == 1;
  if (own) path = own_file(run->number);
  if (path.empty()) {
    const bool written =
        std::fwrite(text.data(), 1, text.size(), stdout) == text.size() && std::fflush(stdout) == 0;
    return written ? 0 : fail(std::string("cannot write: ") + std::strerror(errno));
  }
  if (auto written = write_file(path, text); !written) return fail(written.error().to_string());
  fmt::print("{}\n", printable(path));
  return 0;
}

}  // namespace pcache::cli
