#include "tracer/tracee.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <string_view>

#include "tracer/session.h"

namespace pcache::tracer {
namespace {

constexpr uint64_t kPage = 4096;

std::string proc_path(Tid tid, const std::string& name) {
  return "/proc/" + std::to_string(tid.value) + "/" + name;
}

}  // namespace

bool read_memory(Tid tid, RemotePtr from, void* to, size_t size) {
  iovec local{to, size};
  iovec remote{reinterpret_cast<void*>(from.address), size};  // NOLINT: a tracee's address
  return ::process_vm_readv(tid.value, &local, 1, &remote, 1, 0) == static_cast<ssize_t>(size);
}

std::optional<std::string> read_string(Tid tid, RemotePtr from, size_t limit) {
  // Page by page: a string may end just before an unmapped page.
  std::string text;
  char buffer[kPage];
  while (text.size() < limit) {
    const size_t in_page = kPage - from.address % kPage;
    // Most paths are short: one page is seldom needed whole.
    const size_t want =
        std::min({in_page, limit - text.size(), text.empty() ? size_t{256} : kPage});
    if (!read_memory(tid, from, buffer, want)) return std::nullopt;
    const size_t length = ::strnlen(buffer, want);
    text.append(buffer, length);
    if (length < want) return text;
    from = from + want;
  }
  return std::nullopt;
}

bool write_memory(Tid tid, RemotePtr to, const void* from, size_t size) {
  UniqueFd mem(::open(proc_path(tid, "mem").c_str(), O_RDWR | O_CLOEXEC));
  if (!mem) return false;
  return ::pwrite(mem.get(), from, size, static_cast<off_t>(to.address)) ==
         static_cast<ssize_t>(size);
}

std::string proc_link(Tid tid, const std::string& name) {
  char buffer[4096];
  const ssize_t n = ::readlink(proc_path(tid, name).c_str(), buffer, sizeof buffer);
  return n > 0 ? std::string(buffer, static_cast<size_t>(n)) : std::string();
}

std::string fd_link(Tid tid, int fd) { return proc_link(tid, "fd/" + std::to_string(fd)); }

std::string read_proc(Tid tid, const std::string& name) {
  UniqueFd file(::open(proc_path(tid, name).c_str(), O_RDONLY | O_CLOEXEC));
  std::string text;
  if (!file) return text;
  char buffer[16384];
  ssize_t n;
  while ((n = ::read(file.get(), buffer, sizeof buffer)) > 0)
    text.append(buffer, static_cast<size_t>(n));
  return text;
}

std::vector<std::string> read_proc_list(Tid tid, const std::string& name) {
  const std::string text = read_proc(tid, name);
  std::vector<std::string> list;
  for (size_t begin = 0; begin < text.size();) {
    size_t end = text.find('\0', begin);
    if (end == std::string::npos) end = text.size();
    list.emplace_back(text, begin, end - begin);
    begin = end + 1;
  }
  return list;
}

std::optional<Credentials> read_credentials(Tid tid) {
  const std::string text = read_proc(tid, "status");
  if (text.empty()) return std::nullopt;
  Credentials c;
  const auto field = [&](const char* name) -> const char* {
    const std::string key = std::string("\n") + name + ":";
    const size_t at = text.find(key);
    return at == std::string::npos ? nullptr : text.c_str() + at + key.size();
  };
  if (const char* v = field("Tgid")) c.tgid = static_cast<pid_t>(std::strtol(v, nullptr, 10));
  if (const char* v = field("PPid")) c.parent = static_cast<pid_t>(std::strtol(v, nullptr, 10));
  if (const char* v = field("Umask")) c.umask = static_cast<uint32_t>(std::strtoul(v, nullptr, 8));
  unsigned saved;
  if (const char* v = field("Uid"))
    std::sscanf(v, "%u %u %u %u", &c.uid, &c.euid, &saved, &c.fsuid);
  if (const char* v = field("Gid")) std::sscanf(v, "%u %u", &c.gid, &c.egid);
  if (const char* v = field("Groups")) {
    char* end = nullptr;
    while (*v != '\n' && *v != '\0') {
      const unsigned long group = std::strtoul(v, &end, 10);
      if (end == v) break;
      c.groups.push_back(static_cast<uint32_t>(group));
      v = end;
      while (*v == ' ') ++v;
    }
  }
  if (const char* v = field("CapEff")) c.effective_capabilities = std::strtoull(v, nullptr, 16);
  if (const char* v = field("SigIgn")) c.ignored_signals = std::strtoull(v, nullptr, 16);
  return c;
}

pid_t innermost_pid(Tid tid) {
  const std::string text = read_proc(tid, "status");
  const size_t at = text.find("\nNSpid:");
  if (at == std::string::npos) return 0;
  const std::string line = text.substr(at + 1, text.find('\n', at + 1) - at - 1);
  return static_cast<pid_t>(std::strtol(line.c_str() + line.find_last_of("\t ") + 1, nullptr, 10));
}

std::vector<OpenFd> open_fds(Tid tid) {
  std::vector<OpenFd> fds;
  const std::unique_ptr<DIR, int (*)(DIR*)> dir(::opendir(proc_path(tid, "fd").c_str()),
                                                &::closedir);
  if (!dir) return fds;
  while (const dirent* entry = ::readdir(dir.get())) {
    const std::string_view name = entry->d_name;
    int fd = -1;
    if (std::from_chars(name.data(), name.data() + name.size(), fd).ec != std::errc()) continue;
    fds.push_back({fd, fd_link(tid, fd)});
  }
  std::sort(fds.begin(), fds.end(), [](const OpenFd& a, const OpenFd& b) { return a.fd < b.fd; });
  return fds;
}

std::optional<FdInfo> fd_info(Tid tid, int fd) {
  const std::string text = read_proc(tid, "fdinfo/" + std::to_string(fd));
  FdInfo info;
  const size_t pos = text.find("pos:"), flags = text.find("flags:");
  if (pos == std::string::npos || flags == std::string::npos) return std::nullopt;
  info.offset = std::strtoll(text.c_str() + pos + 4, nullptr, 10);
  info.flags = static_cast<int>(std::strtol(text.c_str() + flags + 6, nullptr, 8));
  return info;
}

std::vector<int> given_descriptors(pid_t pid) {
  std::vector<int> given;
  for (const OpenFd& open : open_fds(Tid{pid})) {
    const std::optional<FdInfo> info = fd_info(Tid{pid}, open.fd);
    if (open.fd > 2 && info && (info->flags & O_CLOEXEC) == 0) given.push_back(open.fd);
  }
  return given;
}

UniqueFd duplicate_fd(pid_t pid, int fd) {
  const UniqueFd process(static_cast<int>(::syscall(SYS_pidfd_open, pid, 0)));
  if (!process) return UniqueFd();
  return UniqueFd(static_cast<int>(::syscall(SYS_pidfd_getfd, process.get(), fd, 0)));
}

FdKind classify(const std::string& link) {
  if (link.empty()) return FdKind::kClosed;
  if (link == "/dev/null") return FdKind::kNull;
  if (link.starts_with("pipe:")) return FdKind::kPipe;
  if (link.starts_with("socket:")) return FdKind::kSocket;
  if (link.starts_with("/dev/pts/") || link.starts_with("/dev/tty") || link == "/dev/console" ||
      link == "/dev/ptmx")
    return FdKind::kTerminal;
  if (link[0] == '/' && (!link.starts_with("/dev/") || link.starts_with("/dev/shm/")))
    return FdKind::kFile;
  return FdKind::kOther;
}

}  // namespace pcache::tracer
