#include "store/pseudo_file.h"

#include <unistd.h>

#include <algorithm>
#include <cerrno>

namespace pcache::store {

namespace {

constexpr size_t kMaxBytes = 16u << 20;

bool keeps_line(std::string_view path, std::string_view line) {
  if (path == "/proc/cpuinfo") {
    return !line.starts_with("cpu MHz") && !line.starts_with("bogomips");
  }
  return line.starts_with("MemTotal:") || line.starts_with("SwapTotal:") ||
         line.starts_with("HugePages_Total:") || line.starts_with("Hugepagesize:");
}

}  // namespace

bool is_pseudo_file(std::string_view path) {
  return path.starts_with("/proc/") || path.starts_with("/sys/");
}

std::string steady_part(std::string_view path, std::string_view content) {
  if (path != "/proc/cpuinfo" && path != "/proc/meminfo") return std::string(content);
  std::string out;
  while (!content.empty()) {
    const size_t end = std::min(content.find('\n'), content.size() - 1) + 1;
    if (keeps_line(path, content.substr(0, end))) out += content.substr(0, end);
    content.remove_prefix(end);
  }
  return out;
}

int hash_pseudo_file(std::string_view path, int fd, Digest* digest) {
  std::string content(16 * 1024, '\0');
  size_t done = 0;
  for (;;) {
    // Not pread: some of these files know no offset.
    const ssize_t got = read(fd, content.data() + done, content.size() - done);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return errno;
    if (got == 0) break;
    done += static_cast<size_t>(got);
    if (done == content.size()) content.resize(content.size() * 2);
    if (done > kMaxBytes) return EFBIG;
  }
  *digest = hash_bytes(steady_part(path, {content.data(), done}));
  return 0;
}

}  // namespace pcache::store
