// Reports of runs as the daemon keeps them, and what their commands ask about them.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "cli/client.h"

namespace pcache::cli {

struct RunView {
  Json report;
  uint64_t number = 0;  // 0: it came from a file
  std::vector<uint64_t> kept;
};

// `which`: "" the last run, "12" run 12, "-1" the one before the last.
Result<RunView> read_run(const Channel& channel, const std::string& which);
// A report that `run --report` wrote.
Result<RunView> read_report_file(const std::string& path);

// A record of the store as JSON (cli/daemon/queries.h), null where it is gone.
Json read_record(const Channel& channel, const std::string& strong);

// "today 14:02:11", "2026-11-24 14:02:11"
std::string time_text(double seconds);
std::string run_title(const RunView& run);  // "Last run", "Run 12"

}  // namespace pcache::cli
