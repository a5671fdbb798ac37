// The daemon's log: standard error, which is PCACHE_DIR/daemon.log unless it runs in the
// foreground.
#pragma once

#include <string>

namespace pcache::cli {

void log_line(const std::string& text);  // with the time in front; thread-safe, never throws

}  // namespace pcache::cli
