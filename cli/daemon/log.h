// The daemon's log: standard error, which is PCACHE_DIR/daemon.log, or the file of log_file, unless
// it runs in the foreground. One line an event, with the time and, but for what is merely told, its
// level. Thread-safe; never throws.
#pragma once

#include <string>

namespace pcache::cli {

enum class LogLevel : uint8_t { kError, kWarning, kInfo, kDebug };

void log_line(const std::string& text);  // kInfo
void log_at(LogLevel level, const std::string& text);
bool is_logged(LogLevel level);  // before a costly text is made

void set_log_level(const std::string& name);  // "error", "warning", "info", "debug"
// From now on; false, and everything stays as it is, where it cannot be opened.
bool set_log_file(const std::string& path);

}  // namespace pcache::cli
