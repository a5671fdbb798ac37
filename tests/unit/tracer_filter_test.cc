// The system-call table, and the seccomp filter that is made from it.
#include <asm/unistd_64.h>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <set>
#include <sstream>

#include "tracer/session.h"
#include "tracer/syscall_table.h"

namespace pcache::tracer {
namespace {

constexpr int kX32 = 0x40000000;

TEST(SyscallTable, IsSortedAndHasEachNumberAndNameOnce) {
  std::set<std::string_view> names;
  int last = -1;
  for (const SyscallRow& row : syscall_table()) {
    EXPECT_GT(row.number, last) << row.name;
    last = row.number;
    EXPECT_TRUE(names.insert(row.name).second) << row.name;
  }
}

TEST(SyscallTable, HasEveryNumber) {
  for (int number = 0; number <= 334; ++number)
    EXPECT_NE(syscall_row(number).meaning, Meaning::kUnknown) << number;
  for (int number = 424; number <= 469; ++number)
    EXPECT_NE(syscall_row(number).meaning, Meaning::kUnknown) << number;
  for (const int number : {-1, 335, 423, 470, 1000, kX32})
    EXPECT_EQ(syscall_row(number).meaning, Meaning::kUnknown) << number;
}

// As the installed kernel headers have them.
TEST(SyscallTable, HasTheNamesOfTheHeader) {
  std::ifstream header;
  for (const char* path :
       {"/usr/include/x86_64-linux-gnu/asm/unistd_64.h", "/usr/include/asm/unistd_64.h"}) {
    header.open(path);
    if (header) break;
    header.clear();
  }
  ASSERT_TRUE(header);
  size_t count = 0;
  for (std::string line; std::getline(header, line);) {
    std::istringstream words(line);
    std::string define, name;
    int number = -1;
    if (!(words >> define >> name >> number) || define != "#define" || !name.starts_with("__NR_"))
      continue;
    ++count;
    EXPECT_EQ(syscall_row(number).name, name.substr(5)) << number;
  }
  EXPECT_GT(count, 300u);
}

TEST(SyscallTable, WhatIsRefusedSaysWhy) {
  for (const SyscallRow& row : syscall_table()) {
    EXPECT_EQ(row.meaning == Meaning::kRefused, !row.why.empty()) << row.name;
    EXPECT_EQ(row.meaning == Meaning::kHarmless || row.meaning == Meaning::kClock,
              row.trap == Trap::kAllow)
        << row.name;
  }
}

// What changes a name or an inode needs its result: it is stopped before and after.
TEST(SyscallTable, WhatChangesSomethingIsStoppedBeforeAndAfter) {
  for (const SyscallRow& row : syscall_table()) {
    switch (row.meaning) {
      case Meaning::kUnlink:
      case Meaning::kRmdir:
      case Meaning::kRename:
      case Meaning::kLink:
      case Meaning::kSymlink:
      case Meaning::kMkdir:
      case Meaning::kMknod:
      case Meaning::kTruncate:
      case Meaning::kChmod:
      case Meaning::kChown:
      case Meaning::kUtime:
      case Meaning::kSetXattr:
      case Meaning::kCreat:
      case Meaning::kOpen2:
      case Meaning::kDup:
      case Meaning::kChdir:  // where the process is now
      case Meaning::kFchdir:
      case Meaning::kBind:
      case Meaning::kAccept:
        EXPECT_EQ(row.trap, Trap::kTrace) << row.name;
        break;
      case Meaning::kSharedMemory:  // the number that it gives
        EXPECT_EQ(row.trap == Trap::kTrace, row.name == "shmget") << row.name;
        break;
      default:
        EXPECT_NE(row.trap, Trap::kTrace) << row.name;
    }
  }
}

TEST(SyscallTable, PathArgumentsAreWhereTheCallHasThem) {
  const auto arguments = [](std::string_view name) {
    for (const SyscallRow& row : syscall_table())
      if (row.name == name)
        return std::array<int, 5>{row.first.dirfd, row.first.path, row.second.dirfd,
                                  row.second.path, row.flags};
    ADD_FAILURE() << name;
    return std::array<int, 5>{};
  };
  using A = std::array<int, 5>;
  EXPECT_EQ(arguments("open"), (A{-1, 0, -1, -1, 1}));
  EXPECT_EQ(arguments("openat"), (A{0, 1, -1, -1, 2}));
  EXPECT_EQ(arguments("newfstatat"), (A{0, 1, -1, -1, 3}));
  EXPECT_EQ(arguments("statx"), (A{0, 1, -1, -1, 2}));
  EXPECT_EQ(arguments("faccessat"), (A{0, 1, -1, -1, -1}));
  EXPECT_EQ(arguments("faccessat2"), (A{0, 1, -1, -1, 3}));
  EXPECT_EQ(arguments("renameat2"), (A{0, 1, 2, 3, 4}));
  EXPECT_EQ(arguments("linkat"), (A{0, 1, 2, 3, 4}));
  EXPECT_EQ(arguments("symlink"), (A{-1, 1, -1, -1, -1}));
  EXPECT_EQ(arguments("symlinkat"), (A{1, 2, -1, -1, -1}));
  EXPECT_EQ(arguments("unlinkat"), (A{0, 1, -1, -1, 2}));
  EXPECT_EQ(arguments("fchownat"), (A{0, 1, -1, -1, 4}));
  EXPECT_EQ(arguments("fchmodat"), (A{0, 1, -1, -1, -1}));
  EXPECT_EQ(arguments("fchmodat2"), (A{0, 1, -1, -1, 3}));
  EXPECT_EQ(arguments("utimensat"), (A{0, 1, -1, -1, 3}));
  EXPECT_EQ(arguments("execveat"), (A{0, 1, -1, -1, 4}));
}

// tests/programs has a program for each call that changes something.
TEST(SyscallTable, WhatChangesSomethingHasAProgram) {
  std::ifstream file(PROGRAMS "/calls.c");
  std::stringstream text;
  text << file.rdbuf();
  ASSERT_FALSE(text.str().empty());
  for (const SyscallRow& row : syscall_table()) {
    if (row.trap != Trap::kTrace) continue;
    const std::string call = "SYS_" + std::string(row.name) + ",";
    EXPECT_NE(text.str().find(call), std::string::npos) << row.name;
  }
}

// Runs the classic BPF program as the kernel would, so that each action is seen by itself.
class Filter : public ::testing::Test {
 protected:
  using Code = std::vector<sock_filter>;

  static void SetUpTestSuite() { code_ = make(FilterKind::kAlone, false); }

  static Code make(FilterKind kind, bool clocks) {
    const Result<std::string> program = filter_program({11}, kind, clocks);
    EXPECT_TRUE(program) << program.error().to_string();
    if (!program) return {};
    EXPECT_EQ(program->size() % sizeof(sock_filter), 0u);
    Code code(program->size() / sizeof(sock_filter));
    std::memcpy(code.data(), program->data(), program->size());
    return code;
  }

  static uint32_t action(int number, std::array<uint64_t, 6> args = {},
                         uint32_t arch = AUDIT_ARCH_X86_64) {
    return action_of(code_, number, args, arch);
  }

  static uint32_t action_of(const Code& code, int number, std::array<uint64_t, 6> args = {},
                            uint32_t arch = AUDIT_ARCH_X86_64) {
    seccomp_data data{};
    data.nr = number;
    data.arch = arch;
    for (size_t i = 0; i < 6; ++i) data.args[i] = args[i];
    uint32_t a = 0;
    for (size_t pc = 0; pc < code.size(); ++pc) {
      const sock_filter& f = code[pc];
      switch (f.code) {
        case BPF_LD | BPF_W | BPF_ABS:
          std::memcpy(&a, reinterpret_cast<const char*>(&data) + f.k, sizeof a);
          break;
        case BPF_ALU | BPF_AND | BPF_K:
          a &= f.k;
          break;
        case BPF_JMP | BPF_JA:
          pc += f.k;
          break;
        case BPF_JMP | BPF_JEQ | BPF_K:
          pc += a == f.k ? f.jt : f.jf;
          break;
        case BPF_JMP | BPF_JGE | BPF_K:
          pc += a >= f.k ? f.jt : f.jf;
          break;
        case BPF_JMP | BPF_JGT | BPF_K:
          pc += a > f.k ? f.jt : f.jf;
          break;
        case BPF_RET | BPF_K:
          return f.k & SECCOMP_RET_ACTION_FULL;
        default:
          ADD_FAILURE() << "instruction " << f.code;
          return 0;
      }
    }
    ADD_FAILURE() << "no answer";
    return 0;
  }

  static constexpr uint32_t kAllow = SECCOMP_RET_ALLOW, kNotify = SECCOMP_RET_USER_NOTIF,
                            kTrace = SECCOMP_RET_TRACE;
  static inline Code code_;
};

TEST_F(Filter, FitsTheKernel) { EXPECT_LE(code_.size(), static_cast<size_t>(BPF_MAXINSNS)); }

TEST_F(Filter, FollowsTheTable) {
  for (const SyscallRow& row : syscall_table()) {
    switch (row.meaning) {
      case Meaning::kOpen:  // by their arguments: below
      case Meaning::kRead:
      case Meaning::kMap:
      case Meaning::kSend:
      case Meaning::kRandom:
      case Meaning::kIoctl:
      case Meaning::kDup:
      case Meaning::kPrctl:
        continue;
      default:
        break;
    }
    const uint32_t expected = row.trap == Trap::kAllow    ? kAllow
                              : row.trap == Trap::kNotify ? kNotify
                                                          : kTrace;
    EXPECT_EQ(action(row.number), expected) << row.name;
  }
}

TEST_F(Filter, ReportsWhatIsNotInTheTable) {
  for (const int number : {335, 400, 423, 470, 1023}) EXPECT_EQ(action(number), kNotify) << number;
}

TEST_F(Filter, StopsOtherArchitectures) {
  EXPECT_EQ(action(1, {}, AUDIT_ARCH_I386), kTrace);
  EXPECT_NE(action(kX32 | 1), kAllow);
}

TEST_F(Filter, AnOpenThatChangesNothingIsANotification) {
  for (const uint64_t flags : {uint64_t{O_RDONLY}, uint64_t{O_RDONLY | O_CLOEXEC},
                               uint64_t{O_PATH | O_NOFOLLOW}, uint64_t{O_DIRECTORY}}) {
    EXPECT_EQ(action(__NR_open, {0, flags}), kNotify) << flags;
    EXPECT_EQ(action(__NR_openat, {0, 0, flags}), kNotify) << flags;
  }
  for (const uint64_t flags : {uint64_t{O_WRONLY}, uint64_t{O_RDWR}, uint64_t{O_CREAT},
                               uint64_t{O_TRUNC}, uint64_t{O_WRONLY | O_CREAT | O_TRUNC}}) {
    EXPECT_EQ(action(__NR_open, {0, flags}), kTrace) << flags;
    EXPECT_EQ(action(__NR_openat, {0, 0, flags}), kTrace) << flags;
  }
}

// Descriptor 0, the copies of it that scripts keep (5 to 9), and what the command was given.
TEST_F(Filter, OfReadingOnlyWhatComesFromOutside) {
  for (const int number : {__NR_read, __NR_pread64, __NR_readv, __NR_preadv, __NR_preadv2,
                           __NR_lseek, __NR_recvfrom, __NR_recvmsg}) {
    EXPECT_EQ(action(number, {0}), kNotify) << number;
    EXPECT_EQ(action(number, {3}), kAllow) << number;
    EXPECT_EQ(action(number, {10}), kAllow) << number;
  }
  for (const uint64_t fd : {uint64_t{5}, uint64_t{9}, uint64_t{11}})
    EXPECT_EQ(action(__NR_read, {fd}), kNotify) << fd;
  EXPECT_EQ(action(__NR_mmap, {0, 4096, 1, 2, 0}), kNotify);
  EXPECT_EQ(action(__NR_mmap, {0, 4096, 1, 2, 3}), kAllow);
  EXPECT_EQ(action(__NR_mmap, {0, 4096, 1, 2, ~uint64_t{0}}), kAllow);
}

TEST_F(Filter, EveryWriteIsSeen) {
  for (const int number : {__NR_write, __NR_pwrite64, __NR_writev, __NR_pwritev, __NR_pwritev2})
    for (const uint64_t fd : {uint64_t{1}, uint64_t{2}, uint64_t{7}})
      EXPECT_EQ(action(number, {fd}), kNotify) << number;
}

TEST_F(Filter, OfIoctlAndFcntlOnlyWhatCounts) {
  EXPECT_EQ(action(__NR_ioctl, {1, TCGETS}), kNotify);
  EXPECT_EQ(action(__NR_ioctl, {1, TIOCSTI}), kNotify);
  EXPECT_EQ(action(__NR_ioctl, {1, TIOCGWINSZ}), kAllow);
  EXPECT_EQ(action(__NR_fcntl, {1, F_DUPFD_CLOEXEC}), kTrace);
  EXPECT_EQ(action(__NR_fcntl, {1, F_DUPFD}), kTrace);
  EXPECT_EQ(action(__NR_fcntl, {1, F_GETFL}), kAllow);
  EXPECT_EQ(action(__NR_dup2, {1, 2}), kTrace);
}

TEST_F(Filter, OfPrctlOnlyWhatHidesTheProcess) {
  EXPECT_EQ(action(__NR_prctl, {PR_SET_DUMPABLE, 0}), kNotify);
  EXPECT_EQ(action(__NR_prctl, {PR_SET_NAME, 1}), kAllow);
}

TEST_F(Filter, OfRandomBytesOnlyThoseWaitedFor) {
  EXPECT_EQ(action(__NR_getrandom, {0, 8, GRND_NONBLOCK}), kAllow);
  EXPECT_EQ(action(__NR_getrandom, {0, 32, 0}), kNotify);
}

// strict_clock: whoever tells of look-ups, and also in a process that was seized.
TEST_F(Filter, TellsOfTheClockWhereThatIsOfMatter) {
  for (const FilterKind kind : {FilterKind::kAlone, FilterKind::kWithHub, FilterKind::kSeized}) {
    const Code usual = make(kind, false), strict = make(kind, true);
    for (const int number :
         {__NR_clock_gettime, __NR_gettimeofday, __NR_time, __NR_times, __NR_getrusage}) {
      EXPECT_EQ(action_of(usual, number), kAllow) << number;
      EXPECT_EQ(action_of(strict, number), kNotify) << number;
    }
    EXPECT_EQ(action_of(strict, __NR_clock_nanosleep), kAllow);
    EXPECT_LE(strict.size(), static_cast<size_t>(BPF_MAXINSNS));
  }
}

TEST_F(Filter, LoadsAndLetsThroughWhatIsHarmless) {
  const pid_t child = fork();
  if (child == 0) {
    sock_fprog program{static_cast<unsigned short>(code_.size()), code_.data()};
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) _exit(10);
    const long listener =
        syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_NEW_LISTENER, &program);
    if (listener < 0) _exit(11);
    // Without a listener and a tracer what is reported fails.
    if (close(static_cast<int>(listener)) != 0) _exit(12);
    if (syscall(SYS_getppid) <= 0) _exit(13);
    if (syscall(SYS_write, 1, "", 0) != -1 || errno != ENOSYS) _exit(14);
    if (syscall(SYS_chmod, "/", 0755) != -1 || errno != ENOSYS) _exit(15);
    if (syscall(1000) != -1 || errno != ENOSYS) _exit(16);
    char byte;
    if (syscall(SYS_read, 1023, &byte, 1) != -1 || errno != EBADF) _exit(17);
    _exit(0);
  }
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  EXPECT_TRUE(WIFEXITED(status));
  EXPECT_EQ(WEXITSTATUS(status), 0);
}

}  // namespace
}  // namespace pcache::tracer
