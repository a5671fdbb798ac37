#include "fusefs/credentials.h"

#include <fcntl.h>
#include <linux/capability.h>
#include <sched.h>
#include <sys/fsuid.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <memory>
#include <string_view>

namespace pcache::fusefs {
namespace {

// The thread's capabilities: all it may have, and the same without CAP_FSETID.
struct ThreadState {
  bool privileged = false;  // can switch fsuid and has CAP_FSETID to drop
  bool own_umask = false;
  gid_t gid = 0;
  __user_cap_data_struct full[2]{};
  __user_cap_data_struct reduced[2]{};
};
thread_local ThreadState t_state;

bool set_caps(const __user_cap_data_struct* data) {
  __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
  return ::syscall(SYS_capset, &header, data) == 0;
}

}  // namespace

void enter_acting_thread() {
  ThreadState& t = t_state;
  if (::unshare(CLONE_FS) == 0) {
    t.own_umask = true;
  }
  // Where unshare is forbidden (some containers) this is the process's: the kernel has applied the
  // caller's umask already, and ours must not be applied as well.
  ::umask(0);
  __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
  if (::syscall(SYS_capget, &header, t.full) != 0) return;
  const uint32_t fsetid = 1u << CAP_FSETID;
  const uint32_t setids = (1u << CAP_SETUID) | (1u << CAP_SETGID);
  if (::geteuid() != 0 || (t.full[0].effective & fsetid) == 0 ||
      (t.full[0].effective & setids) != setids) {
    return;
  }
  t.gid = ::getegid();
  t.reduced[0] = t.full[0];
  t.reduced[1] = t.full[1];
  t.reduced[0].effective &= ~fsetid;
  t.privileged = set_caps(t.reduced);
}

bool has_own_umask() { return t_state.own_umask; }

ActAs::ActAs(uid_t uid, gid_t gid, mode_t umask, mode_t mode) {
  if (t_state.own_umask && umask != 0) {
    ::umask(umask);
    masked_ = true;
  }
  const bool other = uid != 0 || gid != t_state.gid;
  if (!t_state.privileged || (!other && (mode & (S_ISUID | S_ISGID)) == 0)) return;
  switched_ = true;
  if (other) ::setfsgid(gid);
  if (other) ::setfsuid(uid);  // drops the file capabilities; set_caps brings them back
  set_caps(t_state.full);
}

ActAs::~ActAs() {
  if (masked_) ::umask(0);
  if (!switched_) return;
  ::setfsuid(0);
  ::setfsgid(t_state.gid);
  set_caps(t_state.reduced);
}

KeepSetIdBits::KeepSetIdBits() {
  if (t_state.privileged) set_caps(t_state.full);
}

KeepSetIdBits::~KeepSetIdBits() {
  if (t_state.privileged) set_caps(t_state.reduced);
}

namespace {

constexpr size_t kHelperStack = 64 * 1024;

struct Helper {
  int path_fd;
  uid_t uid;
  gid_t gid;
  int fd = -1;
};

bool write_text(const char* path, std::string_view text) {
  const int fd = ::open(path, O_WRONLY | O_CLOEXEC);
  if (fd < 0) return false;
  const bool done = ::write(fd, text.data(), text.size()) == static_cast<ssize_t>(text.size());
  ::close(fd);
  return done;
}

// In a namespace where the user has power over what is the user's own, and over nothing else.
int open_in_namespace(void* argument) {
  Helper& helper = *static_cast<Helper*>(argument);
  char text[64];
  const auto map = [&](unsigned id) {
    const int size = std::snprintf(text, sizeof text, "%u %u 1", id, id);
    return std::string_view(text, static_cast<size_t>(size));
  };
  if (!write_text("/proc/self/setgroups", "deny") ||
      !write_text("/proc/self/uid_map", map(helper.uid)) ||
      !write_text("/proc/self/gid_map", map(helper.gid)))
    return 0;
  char path[40];
  std::snprintf(path, sizeof path, "/proc/self/fd/%d", helper.path_fd);
  helper.fd = ::open(path, O_RDONLY | O_CLOEXEC);
  return 0;
}

}  // namespace

int open_to_execute(int path_fd) {
  struct stat st {};
  Helper helper{path_fd, ::geteuid(), ::getegid()};
  if (::fstat(path_fd, &st) == 0 && S_ISREG(st.st_mode) && st.st_uid == helper.uid) {
    // It shares descriptors and memory, as vfork's child does, so that what it opens is ours; and
    // it sends no signal, for the daemon's other children are waited for elsewhere.
    const auto stack = std::make_unique<char[]>(kHelperStack);
    const pid_t pid = ::clone(open_in_namespace, stack.get() + kHelperStack,
                              CLONE_VM | CLONE_VFORK | CLONE_FILES | CLONE_NEWUSER, &helper);
    if (pid > 0) ::waitpid(pid, nullptr, __WALL);
  }
  if (helper.fd < 0) errno = EACCES;
  return helper.fd;
}

HonourModes::HonourModes() {
  if (!t_state.privileged) return;
  __user_cap_data_struct less[2] = {t_state.reduced[0], t_state.reduced[1]};
  less[0].effective &= ~(1u << CAP_DAC_OVERRIDE);
  set_caps(less);
}

HonourModes::~HonourModes() {
  if (t_state.privileged) set_caps(t_state.reduced);
}

}  // namespace pcache::fusefs
