// What a session leaves for people and programs: the report's JSON (docs/cli.md) and its last line.
#pragma once

#include <string>

#include "store/result.h"
#include "store/unique_fd.h"
#include "tracer/session.h"

namespace pcache::cli {

// One JSON object; bytes that are not UTF-8 become U+FFFD.
std::string report_json(const tracer::SessionReport& report);

// "pcache: 51 hits, 1 miss, 2 not cacheable; saved 4.1 s\n"
std::string summary_line(const tracer::SessionReport& report);

// What --check found, "" where it was not asked for: one line, or a block that names each command
// and difference.
std::string check_block(const tracer::SessionReport& report);

Result<void> write_report(int fd, const std::string& json);

// Writes to a client's stderr, whatever that is; gives up after a second. The descriptor's own
// flags (O_NONBLOCK is shared with the terminal's other users) stay as they are.
void write_line(int fd, const std::string& line);

}  // namespace pcache::cli
