/* As calls.c, for calls that only look: each function says what it saw. */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

#ifndef SYS_faccessat2
#define SYS_faccessat2 439
#endif
#define LOOK(name, ...) \
  static void look_##name(void) { __VA_ARGS__; }

static int dir(const char* path) { return open(path, O_RDONLY | O_DIRECTORY); }

static void say(long result) {
  if (result < 0)
    puts(strerror(errno));
  else
    printf("%ld\n", result);
}
static void say_stat(long result, const struct stat* st) {
  if (result < 0) {
    puts(strerror(errno));
    return;
  }
  printf("%o %u:%u", st->st_mode, st->st_uid, st->st_gid);
  if (S_ISREG(st->st_mode))
    printf(" %lld %lu %lld.%09ld", (long long)st->st_size, (unsigned long)st->st_nlink,
           (long long)st->st_mtim.tv_sec, st->st_mtim.tv_nsec);
  puts("");
}
static void say_text(long length, const char* text) {
  if (length < 0)
    puts(strerror(errno));
  else
    printf("%.*s\n", (int)length, text);
}

static struct stat st;
static char text[4096];

LOOK(stat, say_stat(syscall(SYS_stat, "a", &st), &st))
LOOK(lstat, say_stat(syscall(SYS_lstat, "l", &st), &st))
LOOK(lstat_dot, say_stat(syscall(SYS_lstat, "l/.", &st), &st))
LOOK(stat_link, say_stat(syscall(SYS_stat, "l", &st), &st))
LOOK(stat_slash, say_stat(syscall(SYS_stat, "a/", &st), &st))
LOOK(stat_below, say_stat(syscall(SYS_stat, "d/a", &st), &st))
LOOK(stat_dotdot, say_stat(syscall(SYS_stat, "d/../a", &st), &st))
LOOK(stat_proc, say_stat(syscall(SYS_stat, "/proc/self/cwd/a", &st), &st))
LOOK(newfstatat, say_stat(syscall(SYS_newfstatat, dir("d"), "a", &st, 0), &st))
LOOK(fstat_of_path, say_stat(fstat(open("a", O_PATH), &st), &st))
LOOK(fstat_of_dir, say_stat(fstat(dir("d"), &st), &st))
LOOK(access, say(syscall(SYS_access, "a", F_OK)))
LOOK(access_x, say(syscall(SYS_access, "a", X_OK)))
LOOK(faccessat, say(syscall(SYS_faccessat, dir("d"), "a", R_OK)))
LOOK(faccessat2, say(syscall(SYS_faccessat2, AT_FDCWD, "l", F_OK, AT_SYMLINK_NOFOLLOW)))
LOOK(readlink, say_text(syscall(SYS_readlink, "l", text, sizeof text), text))
LOOK(readlinkat, say_text(syscall(SYS_readlinkat, dir("d"), "l", text, sizeof text), text))
LOOK(getxattr, say_text(syscall(SYS_getxattr, "a", "user.x", text, sizeof text), text))
LOOK(lgetxattr, say_text(syscall(SYS_lgetxattr, "a", "user.x", text, sizeof text), text))
LOOK(fgetxattr, say_text(syscall(SYS_fgetxattr, open("a", O_RDONLY), "user.x", text, 100), text))
LOOK(listxattr, say(syscall(SYS_listxattr, "a", text, sizeof text)))
LOOK(llistxattr, say(syscall(SYS_llistxattr, "a", text, sizeof text)))
LOOK(flistxattr, say(syscall(SYS_flistxattr, open("a", O_RDONLY), text, sizeof text)))
LOOK(open_dir_fails, say(syscall(SYS_open, "d", O_RDONLY | O_DIRECTORY) < 0 ? -1 : 0))
LOOK(open_nofollow, say(syscall(SYS_open, "l", O_RDONLY | O_NOFOLLOW) < 0 ? -1 : 0))
LOOK(chdir, say(syscall(SYS_chdir, "d")))

static void read_all(int fd) {
  const ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof text);
  say_text(n, text);
}
LOOK(open, read_all((int)syscall(SYS_open, "a", O_RDONLY)))
LOOK(openat, read_all((int)syscall(SYS_openat, dir("d"), "a", O_RDONLY)))
LOOK(open_link, read_all((int)syscall(SYS_open, "l", O_RDONLY)))
LOOK(open_path_then_read, {
  snprintf(text, 100, "/proc/self/fd/%d", open("a", O_PATH));
  read_all(open(text, O_RDONLY));
})
LOOK(open_proc_cwd, read_all(open("/proc/self/cwd/a", O_RDONLY)))
LOOK(openat2, {
  uint64_t how[3] = {O_RDONLY, 0, 0};
  read_all((int)syscall(437, AT_FDCWD, "a", how, sizeof how));
})
LOOK(mmap, {
  const int fd = open("a", O_RDONLY);
  const char* map = fd < 0 ? MAP_FAILED : mmap(NULL, 4, PROT_READ, MAP_PRIVATE, fd, 0);
  say_text(map == MAP_FAILED ? -1 : 4, map);
})
LOOK(statx, {
  struct statx stx;
  const long result = syscall(SYS_statx, AT_FDCWD, "a", 0, STATX_BASIC_STATS, &stx);
  if (result < 0)
    say(result);
  else
    printf("%o %llu %lld\n", stx.stx_mode, (unsigned long long)stx.stx_size,
           (long long)stx.stx_mtime.tv_sec);
})

static int by_name(const void* a, const void* b) {
  return strcmp(*(char* const*)a, *(char* const*)b);
}
static void list(int number) {
  const int fd = dir("d");
  char* names[100];
  size_t count = 0;
  long n;
  if (fd < 0) say(-1);
  while (fd >= 0 && (n = syscall(number, fd, text, sizeof text)) > 0)
    for (long at = 0; at < n;) {
      const unsigned short length = *(unsigned short*)(text + at + 16);
      names[count++] = strdup(text + at + (number == SYS_getdents64 ? 19 : 18));
      at += length;
    }
  qsort(names, count, sizeof names[0], by_name);
  for (size_t i = 0; i < count; ++i) printf("%s ", names[i]);
  puts("");
}
LOOK(getdents, list(SYS_getdents))
LOOK(getdents64, list(SYS_getdents64))
LOOK(getcwd, {
  if (chdir("l") != 0) return say(-1);
  const long n = syscall(SYS_getcwd, text, sizeof text);
  puts(n < 0 ? strerror(errno) : strrchr(text, '/'));
})
LOOK(connect, {
  struct sockaddr_un address = {.sun_family = AF_UNIX, .sun_path = "socket"};
  say(connect(socket(AF_UNIX, SOCK_STREAM, 0), (struct sockaddr*)&address, sizeof address));
})
LOOK(execve, {
  fflush(stdout);
  char* const argv[] = {"./script", NULL};
  syscall(SYS_execve, "./script", argv, NULL);
  say(-1);
})

static const struct {
  const char* name;
  void (*function)(void);
} kLooks[] = {
#define ROW(name) \
  { #name, look_##name }
    ROW(stat),          ROW(lstat),        ROW(lstat_dot),
    ROW(stat_link),     ROW(stat_slash),   ROW(stat_below),
    ROW(stat_dotdot),   ROW(stat_proc),    ROW(newfstatat),
    ROW(fstat_of_path), ROW(fstat_of_dir), ROW(access),
    ROW(access_x),      ROW(faccessat),    ROW(faccessat2),
    ROW(readlink),      ROW(readlinkat),   ROW(getxattr),
    ROW(lgetxattr),     ROW(fgetxattr),    ROW(listxattr),
    ROW(llistxattr),    ROW(flistxattr),   ROW(open_dir_fails),
    ROW(open_nofollow), ROW(chdir),        ROW(open),
    ROW(openat),        ROW(open_link),    ROW(open_path_then_read),
    ROW(open_proc_cwd), ROW(openat2),      ROW(mmap),
    ROW(statx),         ROW(getdents),     ROW(getdents64),
    ROW(getcwd),        ROW(connect),      ROW(execve),
};

int main(int argc, char** argv) {
  for (int i = 1; i < argc; ++i) {
    size_t row = 0;
    while (row < sizeof kLooks / sizeof kLooks[0] && strcmp(kLooks[row].name, argv[i]) != 0) ++row;
    if (row == sizeof kLooks / sizeof kLooks[0]) return 2;
    kLooks[row].function();
  }
  return 0;
}
