#include "cli/daemon/log.h"

#include <fcntl.h>
#include <time.h>
#include <unistd.h>

#include <atomic>
#include <cstdio>

#include "cli/settings.h"
#include "store/unique_fd.h"

namespace pcache::cli {
namespace {

std::atomic<LogLevel> level_kept{LogLevel::kInfo};

const char* prefix_of(LogLevel level) {
  switch (level) {
    case LogLevel::kError:
      return "error: ";
    case LogLevel::kWarning:
      return "warning: ";
    case LogLevel::kInfo:
      return "";
    case LogLevel::kDebug:
      return "debug: ";
  }
  return "";
}

}  // namespace

bool is_logged(LogLevel level) { return level <= level_kept; }

void set_log_level(const std::string& name) {
  const std::vector<std::string>& names = log_levels();
  for (size_t i = 0; i < names.size(); ++i)
    if (names[i] == name) level_kept = static_cast<LogLevel>(i);
}

bool set_log_file(const std::string& path) {
  const UniqueFd file(::open(path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600));
  if (!file) return false;
  ::dup2(file.get(), STDOUT_FILENO);
  ::dup2(file.get(), STDERR_FILENO);
  return true;
}

void log_line(const std::string& text) { log_at(LogLevel::kInfo, text); }

void log_at(LogLevel level, const std::string& text) {
  if (!is_logged(level)) return;
  struct timespec now {};
  ::clock_gettime(CLOCK_REALTIME, &now);
  struct tm local {};
  ::localtime_r(&now.tv_sec, &local);
  char stamp[64];
  const size_t n = ::strftime(stamp, sizeof stamp, "%Y-%m-%d %H:%M:%S", &local);
  std::snprintf(stamp + n, sizeof stamp - n, ".%03ld ", now.tv_nsec / 1'000'000);
  const std::string line = stamp + std::string(prefix_of(level)) + text + "\n";
  (void)!::write(STDERR_FILENO, line.data(), line.size());
}

}  // namespace pcache::cli
