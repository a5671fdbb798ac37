// The system-call table: one row for every call of x86-64 with what it means to pcache.
//
// The seccomp filter, the probe source and the interpreter all work from this table; a call that is
// not in it is kUnknown, is always reported, and makes the execution uncacheable. Nothing passes
// silently.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>

namespace pcache::tracer {

// How the seccomp source lets a call pass.
enum class Trap : uint8_t {
  kAllow,   // not reported
  kNotify,  // reported before it runs (user notification); its outcome follows from what is there
  kTrace,   // stopped before and after (RET_TRACE): it changes something, its result counts
};

// What a call means; the interpreter has one case for each.
enum class Meaning : uint8_t {
  kHarmless,   // no fact, no effect outside the process
  kOpen,       // path, flags, mode
  kOpen2,      // openat2: struct open_how
  kCreat,      // path, mode
  kStat,       // path; AT_SYMLINK_NOFOLLOW in flags; lstat never follows
  kAccess,     // path, bits
  kReadLink,   // path
  kExec,       // path
  kChdir,      // path
  kStatfs,     // path
  kGetXattr,   // path, name
  kListXattr,  // path
  kGetDents,   // fd
  kGetCwd,
  kRead,    // fd 0, 5 to 9 and those the command was given; lseek also on 1 and 2
  kMap,     // mmap of fd 0 only
  kFstat,   // of fd 0, 1, 2: wc -c asks for a size, perl -p STDOUT for a kind
  kResize,  // ftruncate, fallocate
  kFchdir,
  kPrctl,     // PR_SET_DUMPABLE
  kWrite,     // fd, buffer, size
  kWriteV,    // fd, iovec, count
  kSend,      // sendto, sendmsg, sendmmsg on a descriptor: a write where it is a stream
  kTransfer,  // sendfile, splice, tee, vmsplice, copy_file_range: in, out
  kDup,       // dup, dup2, dup3, fcntl(F_DUPFD): old, new
  kIoctl,     // terminal requests
  kConnect,   // socket address
  kBind,
  kAccept,        // of a connection to an own socket
  kSharedMemory,  // System V
  kSignal,        // kill, tkill, tgkill…: target
  kRandom,        // getrandom that may block
  kClock,         // what time it is, or how long something took: of matter to strict_clock alone
  kAffinity,
  kClone3,  // flags in memory
  kSetId,   // setuid, setgid…
  kUnlink,  // path; AT_REMOVEDIR
  kRmdir,
  kRename,   // two paths, flags
  kLink,     // two paths
  kSymlink,  // target, path
  kMkdir,
  kMknod,
  kTruncate,  // path
  kChmod,     // path or fd
  kChown,
  kUtime,     // path or fd, times
  kSetXattr,  // path or fd
  kRefused,   // makes the execution uncacheable: `why` is the reason code
  kUnknown,
};

// Arguments by position, -1 where there is none. A dirfd of -1 with a path means AT_FDCWD.
struct PathArg {
  int8_t dirfd = -1;
  int8_t path = -1;
};

struct SyscallRow {
  int number;
  std::string_view name;
  Trap trap;
  Meaning meaning;
  PathArg first, second;
  int8_t flags = -1;          // position of the flags (AT_*, O_*, RENAME_*, access bits)
  bool no_follow = false;     // lstat, lchown, readlink… never follow the last component
  bool on_fd = false;         // fchmod, fchown, futimens…: argument 0 is a descriptor
  std::string_view why = {};  // kRefused: reason code
};

std::span<const SyscallRow> syscall_table();
// The row of `number`, or one of Meaning::kUnknown.
const SyscallRow& syscall_row(int number);

}  // namespace pcache::tracer
