/* As calls.c, for the rest of the table: descriptors, streams, signals, sockets, users; and, by
 * number, calls that are refused whatever they are asked. `uses NAME...`, `uses --number N` (all
 * arguments -1, so that nothing comes of it), `uses --i386` (a 32-bit call), `uses --list`. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/sched.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

#define USE(name, ...) \
  static long use_##name(void) { __VA_ARGS__; }

static char text[4096];
static struct iovec part = {text, sizeof text};
static struct stat st;

/* What was read is said, so that it counts. */
static long said(long n) {
  if (n > 0) printf("%.*s\n", (int)n, text);
  return n;
}

/* --- standard input, a file --- */
USE(read, return said(syscall(SYS_read, 0, text, sizeof text)))
USE(readv, return said(syscall(SYS_readv, 0, &part, 1)))
USE(pread64, return said(syscall(SYS_pread64, 0, text, sizeof text, 1)))
USE(preadv, return said(syscall(SYS_preadv, 0, &part, 1, 1, 0)))
USE(preadv2, return said(syscall(SYS_preadv2, 0, &part, 1, -1L, -1L, 0)))
USE(lseek, return printf("%ld\n", syscall(SYS_lseek, 0, 0, SEEK_END)))
USE(fstat, return syscall(SYS_fstat, 0, &st) < 0 ? -1 : printf("%ld\n", (long)st.st_size))
USE(recvfrom, return syscall(SYS_recvfrom, 0, text, 1, 0, NULL, NULL))
USE(recvmsg, {
  struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
  return syscall(SYS_recvmsg, 0, &message, 0);
})
USE(mmap, {
  const char* map = (char*)syscall(SYS_mmap, NULL, 4096, PROT_READ, MAP_PRIVATE, 0, 0);
  if (map == MAP_FAILED) return -1;
  memcpy(text, map, 4);
  return said(4);
})

/* --- standard output --- */
USE(write, return syscall(SYS_write, 1, "written\n", 8))
USE(fstat_stdout, return syscall(SYS_fstat, 1, &st) < 0 ? -1 : printf("%o\n", st.st_mode& S_IFMT))
USE(ioctl, {
  struct termios settings;
  return syscall(SYS_ioctl, 1, TCGETS, &settings);
})
USE(pwritev, {
  struct iovec data = {"pwritev", 7};
  return syscall(SYS_pwritev, open("a", O_WRONLY), &data, 1, 2, 0);
})
USE(pwritev2, {
  struct iovec data = {"pwritev2", 8};
  return syscall(SYS_pwritev2, open("a", O_WRONLY), &data, 1, 1, 0, 0);
})

/* --- pipes and sockets of its own --- */
USE(tee, {
  int from[2], to[2];
  if (pipe(from) != 0 || pipe(to) != 0 || write(from[1], "tee", 3) != 3) return -1;
  if (syscall(SYS_tee, from[0], to[1], 3, 0) != 3) return -1;
  return said(read(to[0], text, sizeof text));
})
USE(vmsplice, {
  int ends[2];
  struct iovec data = {"vmsplice", 8};
  if (pipe(ends) != 0 || syscall(SYS_vmsplice, ends[1], &data, 1, 0) != 8) return -1;
  return said(read(ends[0], text, sizeof text));
})
USE(sendto, {
  int ends[2];
  if (socketpair(AF_UNIX, SOCK_STREAM, 0, ends) != 0) return -1;
  if (syscall(SYS_sendto, ends[1], "sendto", 6, 0, NULL, 0) != 6) return -1;
  return said(read(ends[0], text, sizeof text));
})
USE(sendmsg, {
  int ends[2];
  struct iovec data = {"sendmsg", 7};
  struct msghdr message = {.msg_iov = &data, .msg_iovlen = 1};
  if (socketpair(AF_UNIX, SOCK_STREAM, 0, ends) != 0) return -1;
  if (syscall(SYS_sendmsg, ends[1], &message, 0) != 7) return -1;
  return said(read(ends[0], text, sizeof text));
})
USE(sendmmsg, {
  int ends[2];
  struct iovec data = {"sendmmsg", 8};
  struct mmsghdr message = {.msg_hdr = {.msg_iov = &data, .msg_iovlen = 1}};
  if (socketpair(AF_UNIX, SOCK_STREAM, 0, ends) != 0) return -1;
  if (syscall(SYS_sendmmsg, ends[1], &message, 1, 0) != 1) return -1;
  return said(read(ends[0], text, sizeof text));
})
static const struct sockaddr_un kSocket = {.sun_family = AF_UNIX, .sun_path = "socket"};
USE(connect, return syscall(SYS_connect, socket(AF_UNIX, SOCK_STREAM, 0), &kSocket, sizeof kSocket))
USE(bind, return syscall(SYS_bind, socket(AF_UNIX, SOCK_STREAM, 0), &kSocket, sizeof kSocket))

/* --- signals, to itself and to who started it --- */
USE(kill, return syscall(SYS_kill, getpid(), 0))
USE(kill_parent, return syscall(SYS_kill, getppid(), 0))
USE(tkill, return syscall(SYS_tkill, getpid(), 0))
USE(tgkill, return syscall(SYS_tgkill, getpid(), getpid(), 0))
static siginfo_t info = {.si_code = SI_QUEUE};
USE(rt_sigqueueinfo, return syscall(SYS_rt_sigqueueinfo, getpid(), 0, &info))
USE(rt_tgsigqueueinfo, return syscall(SYS_rt_tgsigqueueinfo, getpid(), getpid(), 0, &info))
USE(pidfd_send_signal,
    return syscall(SYS_pidfd_send_signal, syscall(SYS_pidfd_open, getpid(), 0), 0, NULL, 0))

/* --- users: to what it is already --- */
USE(setuid, return syscall(SYS_setuid, geteuid()))
USE(setgid, return syscall(SYS_setgid, getegid()))
USE(setreuid, return syscall(SYS_setreuid, -1, geteuid()))
USE(setregid, return syscall(SYS_setregid, -1, getegid()))
USE(setresuid, return syscall(SYS_setresuid, -1, -1, -1))
USE(setresgid, return syscall(SYS_setresgid, -1, -1, -1))
USE(setfsuid, return syscall(SYS_setfsuid, -1) < 0 ? -1 : 0)
USE(setfsgid, return syscall(SYS_setfsgid, -1) < 0 ? -1 : 0)
USE(setgroups, return syscall(SYS_setgroups, 0, NULL))
USE(setuid_other, return syscall(SYS_setuid, 1234))
USE(capset, {
  struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
  struct __user_cap_data_struct data[2];
  if (syscall(SYS_capget, &header, data) != 0) return -1;
  return syscall(SYS_capset, &header, data);
})

/* --- the machine, itself, and others --- */
USE(statfs, {
  struct statfs fs;
  return syscall(SYS_statfs, ".", &fs);
})
USE(prctl, return syscall(SYS_prctl, PR_SET_DUMPABLE, 0, 0, 0, 0))
USE(sched_getaffinity, {
  const long size = syscall(SYS_sched_getaffinity, 0, sizeof text, text);
  int count = 0;
  for (long i = 0; i < size; ++i) count += __builtin_popcount((unsigned char)text[i]);
  return size < 0 ? -1 : printf("%d\n", count);
})
USE(getrandom, return syscall(SYS_getrandom, text, 16, 0) < 0 ? -1 : 0)
USE(clone3, {
  struct clone_args arguments = {.exit_signal = SIGCHLD};
  const long child = syscall(SYS_clone3, &arguments, sizeof arguments);
  if (child == 0) _exit(creat("b", 0600) < 0);
  return child < 0 ? -1 : waitpid((pid_t)child, NULL, 0) < 0 ? -1 : 0;
})
USE(clone3_namespace, {
  struct clone_args arguments = {.flags = CLONE_NEWUSER, .exit_signal = SIGCHLD};
  const long child = syscall(SYS_clone3, &arguments, sizeof arguments);
  if (child == 0) _exit(0);
  return child < 0 ? -1 : waitpid((pid_t)child, NULL, 0) < 0 ? -1 : 0;
})
USE(execveat, {
  char* const argv[] = {"./script", NULL};
  fflush(stdout);
  return syscall(SYS_execveat, AT_FDCWD, "./script", argv, NULL, 0);
})
USE(execveat_by_descriptor, {
  char* const argv[] = {"echo", "by descriptor", NULL};
  fflush(stdout);
  return syscall(SYS_execveat, open("/bin/echo", O_RDONLY), "", argv, NULL, AT_EMPTY_PATH);
})

static const struct {
  const char* name;
  long (*function)(void);
} kUses[] = {
#define ROW(name) \
  { #name, use_##name }
    ROW(read),
    ROW(readv),
    ROW(pread64),
    ROW(preadv),
    ROW(preadv2),
    ROW(lseek),
    ROW(fstat),
    ROW(recvfrom),
    ROW(recvmsg),
    ROW(mmap),
    ROW(write),
    ROW(fstat_stdout),
    ROW(ioctl),
    ROW(pwritev),
    ROW(pwritev2),
    ROW(tee),
    ROW(vmsplice),
    ROW(sendto),
    ROW(sendmsg),
    ROW(sendmmsg),
    ROW(connect),
    ROW(bind),
    ROW(kill),
    ROW(kill_parent),
    ROW(tkill),
    ROW(tgkill),
    ROW(rt_sigqueueinfo),
    ROW(setuid),
    ROW(setgid),
    ROW(rt_tgsigqueueinfo),
    ROW(setreuid),
    ROW(setregid),
    ROW(pidfd_send_signal),
    ROW(setresuid),
    ROW(setresgid),
    ROW(setfsuid),
    ROW(setfsgid),
    ROW(setgroups),
    ROW(setuid_other),
    ROW(capset),
    ROW(statfs),
    ROW(prctl),
    ROW(sched_getaffinity),
    ROW(getrandom),
    ROW(clone3),
    ROW(clone3_namespace),
    ROW(execveat),
    ROW(execveat_by_descriptor),
};

/* A child makes it that has no terminal: one of these calls hangs up whose it is. What it answers
 * depends on the machine and on who asks. */
static int by_number(long number, int say_result) {
  const pid_t child = fork();
  if (child == 0) {
    setsid();
    /* A queue would be made with all flags set. */
    const long flags = number == SYS_msgget ? 0 : -1;
    errno = 0;
    const long result = syscall(number, -1, flags, -1, -1, -1, -1);
    if (say_result) printf("%ld %s\n", result, strerror(errno));
    fflush(stdout);
    _exit(0);
  }
  return child < 0 || waitpid(child, NULL, 0) < 0;
}

static sigjmp_buf without;
static void on_fault(int signal) { siglongjmp(without, signal); }

static int i386_call(void) {
  volatile long result = -ENOSYS;
  signal(SIGSEGV, on_fault);
  if (sigsetjmp(without, 1) == 0)
    __asm__ volatile("int $0x80" : "=a"(result) : "0"(20L) : "memory", "r8", "r9", "r10", "r11");
  printf("%s\n", result == getpid() ? "its own id" : "no 32-bit calls here");
  return 0;
}

int main(int argc, char** argv) {
  if (argc == 3 && strcmp(argv[1], "--number") == 0) return by_number(atol(argv[2]), 0);
  if (argc == 3 && strcmp(argv[1], "--answer") == 0) return by_number(atol(argv[2]), 1);
  if (argc == 2 && strcmp(argv[1], "--i386") == 0) return i386_call();
  if (argc == 2 && strcmp(argv[1], "--list") == 0) {
    for (size_t row = 0; row < sizeof kUses / sizeof kUses[0]; ++row) puts(kUses[row].name);
    return 0;
  }
  for (int i = 1; i < argc; ++i) {
    size_t row = 0;
    while (row < sizeof kUses / sizeof kUses[0] && strcmp(kUses[row].name, argv[i]) != 0) ++row;
    if (row == sizeof kUses / sizeof kUses[0]) return 2;
    errno = 0;
    const long result = kUses[row].function();
    printf("%s: %s\n", argv[i], result < 0 ? strerror(errno) : "done");
  }
  return 0;
}
