#include "cli/daemon/log.h"

#include <time.h>
#include <unistd.h>

#include <cstdio>

namespace pcache::cli {

void log_line(const std::string& text) {
  struct timespec now {};
  ::clock_gettime(CLOCK_REALTIME, &now);
  struct tm local {};
  ::localtime_r(&now.tv_sec, &local);
  char stamp[64];
  const size_t n = ::strftime(stamp, sizeof stamp, "%Y-%m-%d %H:%M:%S", &local);
  std::snprintf(stamp + n, sizeof stamp - n, ".%03ld ", now.tv_nsec / 1'000'000);
  const std::string line = stamp + text + "\n";
  (void)!::write(STDERR_FILENO, line.data(), line.size());
}

}  // namespace pcache::cli
