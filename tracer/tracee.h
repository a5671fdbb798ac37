// Tracee: what pcache reads and writes of another process, by /proc and process_vm_*.
//
// All functions may be called by any thread. None may be called on a FUSE thread. Reading a
// tracee's memory can fault pages in from the mount: do it with no lock held that a FUSE handler
// takes.
#pragma once

#include <sys/types.h>

#include <compare>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "store/unique_fd.h"

namespace pcache::tracer {

struct Tid {
  pid_t value = 0;
  auto operator<=>(const Tid&) const = default;
};

// An address in a tracee; it cannot be dereferenced here.
struct RemotePtr {
  uint64_t address = 0;
  RemotePtr operator+(uint64_t offset) const { return {address + offset}; }
};

// A NUL-terminated string of at most `limit` bytes; nothing when unreadable or longer.
std::optional<std::string> read_string(Tid tid, RemotePtr from, size_t limit = 4096);
// Exactly `size` bytes, or false.
bool read_memory(Tid tid, RemotePtr from, void* to, size_t size);
// Through /proc/PID/mem: also where the page is read-only (private copies are made).
bool write_memory(Tid tid, RemotePtr to, const void* from, size_t size);

// readlink of /proc/TID/cwd, exe, root, fd/N. Empty on failure.
std::string proc_link(Tid tid, const std::string& name);
std::string fd_link(Tid tid, int fd);
// Whole small files of /proc.
std::string read_proc(Tid tid, const std::string& name);
std::vector<std::string> read_proc_list(Tid tid, const std::string& name);  // NUL-separated

// What /proc/PID/status says.
struct Credentials {
  pid_t tgid = 0, parent = 0;
  uint32_t umask = 022;
  uint32_t uid = 0, euid = 0, fsuid = 0, gid = 0, egid = 0;
  std::vector<uint32_t> groups;
  uint64_t effective_capabilities = 0;
  uint64_t ignored_signals = 0;
};
std::optional<Credentials> read_credentials(Tid tid);
// As it is known in the innermost namespace it is in; 0 where that can't be read.
pid_t innermost_pid(Tid tid);

struct OpenFd {
  int fd;
  std::string link;  // "pipe:[123]", "/dev/null", "/path"
};
std::vector<OpenFd> open_fds(Tid tid);
// Flags (O_ACCMODE…) and offset of a descriptor.
struct FdInfo {
  int flags = 0;
  int64_t offset = 0;
};
std::optional<FdInfo> fd_info(Tid tid, int fd);
// A duplicate of the process's descriptor (same open file description). `pid` is a thread group id.
UniqueFd duplicate_fd(pid_t pid, int fd);

enum class FdKind : uint8_t { kClosed, kNull, kTerminal, kPipe, kSocket, kFile, kOther };
FdKind classify(const std::string& link);

}  // namespace pcache::tracer
