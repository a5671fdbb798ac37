// Credentials of the threads that act for callers.
//
// The kernel has checked permissions already (default_permissions) with the caller's real
// credentials, so a root daemon keeps its power and only takes over who *owns* what is created:
// fsuid and fsgid. Setuid bits must not survive a write, a truncation or a passthrough open made by
// the daemon for somebody else, so these threads run without CAP_FSETID and raise it for chmod and
// creation only.
//
// All of this is per thread (raw system calls). Nothing happens in a daemon without privilege.
#pragma once

#include <sys/types.h>

namespace pcache::fusefs {

// Called once by each thread that acts for callers: an umask of its own (0) where unshare(CLONE_FS)
// is allowed (else the process's becomes 0), and no CAP_FSETID.
void enter_acting_thread();

// True where this thread has an umask of its own, so that creations can apply the caller's exactly
// as the lower file system does (not at all under a default ACL).
bool has_own_umask();

// The calling thread creates a file of `mode` as (uid, gid) with `umask` while this lives.
class ActAs {
 public:
  ActAs(uid_t uid, gid_t gid, mode_t umask, mode_t mode);
  ~ActAs();
  ActAs(const ActAs&) = delete;
  ActAs& operator=(const ActAs&) = delete;

 private:
  bool switched_ = false, masked_ = false;
};

// The calling thread has CAP_FSETID while this lives (chmod by an owner outside the file's group).
class KeepSetIdBits {
 public:
  KeepSetIdBits();
  ~KeepSetIdBits();
  KeepSetIdBits(const KeepSetIdBits&) = delete;
  KeepSetIdBits& operator=(const KeepSetIdBits&) = delete;
};

// The calling thread cannot override file modes while this lives: what it gives the kernel as a
// backing file (credentials and all) can then not be opened for writing if its mode is 0400.
class HonourModes {
 public:
  HonourModes();
  ~HonourModes();
  HonourModes(const HonourModes&) = delete;
  HonourModes& operator=(const HonourModes&) = delete;
};

// Opens for reading what its owner, the daemon's user, may execute and not read: for the kernel,
// which loads it on behalf of somebody whose right to execute it is checked already. `path_fd` is
// an O_PATH descriptor. A descriptor, or -1 with errno EACCES where that cannot be done: it belongs
// to somebody else, or user namespaces are not allowed here. Changes nothing that anybody could
// see: no chmod.
int open_to_execute(int path_fd);

}  // namespace pcache::fusefs
