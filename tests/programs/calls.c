/* One system call a function, made bare (libc would choose another), in the working directory.
 * `calls NAME...` makes them one after the other and says what each gave; it always exits with 0,
 * so that what failed is recorded as well. check.py holds what must be there before. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/shm.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/xattr.h>
#include <unistd.h>
#include <utime.h>

#ifndef SYS_fchmodat2
#define SYS_fchmodat2 452
#endif
#define CALL(name, expression) \
  static long call_##name(void) { return expression; }

static int dir(const char* path) { return open(path, O_RDONLY | O_DIRECTORY); }

static long write_to(int fd, const char* text) {
  if (fd < 0) return -1;
  const long n = write(fd, text, strlen(text));
  close(fd);
  return n;
}

/* --- names --- */
CALL(rename, syscall(SYS_rename, "a", "b"))
CALL(renameat, syscall(SYS_renameat, dir("d"), "a", dir("e"), "b"))
CALL(renameat2, syscall(SYS_renameat2, AT_FDCWD, "a", AT_FDCWD, "b", 0))
CALL(renameat2_noreplace, syscall(SYS_renameat2, AT_FDCWD, "a", AT_FDCWD, "b", 1))
CALL(renameat2_exchange, syscall(SYS_renameat2, AT_FDCWD, "a", AT_FDCWD, "b", 2))
CALL(rename_dir, syscall(SYS_rename, "new", "moved"))
CALL(rename_old_dir, syscall(SYS_rename, "d", "moved"))
CALL(link, syscall(SYS_link, "a", "b"))
CALL(linkat, syscall(SYS_linkat, dir("d"), "a", dir("e"), "b", 0))
CALL(linkat_follow, syscall(SYS_linkat, AT_FDCWD, "l", AT_FDCWD, "b", AT_SYMLINK_FOLLOW))
CALL(linkat_nofollow, syscall(SYS_linkat, AT_FDCWD, "l", AT_FDCWD, "b", 0))
CALL(symlink, syscall(SYS_symlink, "a", "b"))
CALL(symlinkat, syscall(SYS_symlinkat, "../a", dir("d"), "b"))
CALL(unlink, syscall(SYS_unlink, "a"))
CALL(unlinkat, syscall(SYS_unlinkat, dir("d"), "a", 0))
CALL(unlinkat_dir, syscall(SYS_unlinkat, AT_FDCWD, "d", AT_REMOVEDIR))
CALL(rmdir, syscall(SYS_rmdir, "d"))
CALL(mkdir, syscall(SYS_mkdir, "new", 0777))
CALL(mkdirat, syscall(SYS_mkdirat, dir("d"), "new", 0750))
CALL(mknod, syscall(SYS_mknod, "b", S_IFREG | 0640, 0))
CALL(mknodat_fifo, syscall(SYS_mknodat, dir("d"), "fifo", S_IFIFO | 0640, 0))

/* --- contents --- */
CALL(creat, write_to((int)syscall(SYS_creat, "b", 0640), "created"))
CALL(open_trunc, write_to((int)syscall(SYS_open, "b", O_WRONLY | O_CREAT | O_TRUNC, 0666), "new"))
CALL(open_excl, write_to((int)syscall(SYS_open, "b", O_WRONLY | O_CREAT | O_EXCL, 0666), "new"))
CALL(open_append, write_to((int)syscall(SYS_open, "a", O_WRONLY | O_APPEND), "more"))
CALL(open_over, write_to((int)syscall(SYS_open, "a", O_WRONLY), "X"))
CALL(open_only_trunc, write_to((int)syscall(SYS_open, "a", O_WRONLY | O_TRUNC), "cut"))
CALL(open_creat_read, syscall(SYS_open, "b", O_RDONLY | O_CREAT, 0644) < 0 ? -1 : 0)
CALL(openat, write_to((int)syscall(SYS_openat, dir("d"), "b", O_WRONLY | O_CREAT, 0600), "at"))
CALL(open_in_new, write_to(open("new/b", O_WRONLY | O_CREAT | O_TRUNC, 0666), "inside"))
CALL(open_by_link, write_to((int)syscall(SYS_open, "l", O_WRONLY | O_CREAT | O_TRUNC, 0666), "by"))
CALL(open_by_proc, write_to(open("/proc/self/cwd/b", O_WRONLY | O_CREAT | O_TRUNC, 0666), "proc"))
CALL(truncate, syscall(SYS_truncate, "a", 2))
CALL(truncate_longer, syscall(SYS_truncate, "a", 100))
CALL(truncate_zero, syscall(SYS_truncate, "a", 0))

static long call_openat2(void) {
  struct open_how how = {.flags = O_WRONLY | O_CREAT | O_TRUNC, .mode = 0640};
  return write_to((int)syscall(SYS_openat2, AT_FDCWD, "b", &how, sizeof how), "two");
}
static long call_ftruncate(void) {
  const int fd = open("a", O_WRONLY);
  const long result = syscall(SYS_ftruncate, fd, 2);
  close(fd);
  return result;
}
static long call_fallocate(void) {
  const int fd = open("a", O_WRONLY);
  const long result = syscall(SYS_fallocate, fd, 0, 0, 50);
  close(fd);
  return result;
}
static long call_pwrite(void) {
  const int fd = open("a", O_WRONLY);
  const long result = syscall(SYS_pwrite64, fd, "PW", 2, 1);
  close(fd);
  return result;
}
static long call_writev(void) {
  struct iovec parts[2] = {{"one", 3}, {"two", 3}};
  const int fd = open("b", O_WRONLY | O_CREAT | O_TRUNC, 0644);
  const long result = syscall(SYS_writev, fd, parts, 2);
  close(fd);
  return result;
}
static long call_mmap(void) {
  const int fd = open("a", O_RDWR);
  char* map = mmap(NULL, 4, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  if (map == MAP_FAILED) return -1;
  map[0] = 'M';
  munmap(map, 4);
  return close(fd);
}
static long call_copy_file_range(void) {
  const int in = open("a", O_RDONLY), out = open("b", O_WRONLY | O_CREAT | O_TRUNC, 0644);
  const long result = syscall(SYS_copy_file_range, in, NULL, out, NULL, 100, 0);
  close(out);
  return result;
}
static long call_sendfile(void) {
  const int in = open("a", O_RDONLY), out = open("b", O_WRONLY | O_CREAT | O_TRUNC, 0644);
  const long result = syscall(SYS_sendfile, out, in, NULL, 100);
  close(out);
  return result;
}
static long call_splice(void) {
  int ends[2];
  const int in = open("a", O_RDONLY), out = open("b", O_WRONLY | O_CREAT | O_TRUNC, 0644);
  if (pipe(ends) != 0) return -1;
  const long n = syscall(SYS_splice, in, NULL, ends[1], NULL, 100, 0);
  const long result = syscall(SYS_splice, ends[0], NULL, out, NULL, (size_t)n, 0);
  close(out);
  return result;
}
static long call_sendfile_stdout(void) {
  const int in = open("a", O_RDONLY);
  if (syscall(SYS_sendfile, 1, in, NULL, 100) >= 0) return 0;
  char buffer[100];
  const long n = read(in, buffer, sizeof buffer);
  return n < 0 ? -1 : write(1, buffer, (size_t)n);
}

/* --- copies of standard output --- */
CALL(dup, write((int)syscall(SYS_dup, 1), "by dup\n", 7))
CALL(dup2, write((int)syscall(SYS_dup2, 1, 20), "by dup2\n", 8))
CALL(dup3, write((int)syscall(SYS_dup3, 1, 21, O_CLOEXEC), "by dup3\n", 8))
CALL(fcntl, write((int)syscall(SYS_fcntl, 1, F_DUPFD, 30), "by fcntl\n", 9))
CALL(dup2_swap, syscall(SYS_dup2, 2, 1) < 0 ? -1 : write(1, "to stderr\n", 10))

/* --- attributes --- */
static struct timespec kThen[2] = {{1111111111, 5}, {1222222222, 7}};

CALL(chmod, syscall(SYS_chmod, "a", 0750))
CALL(chmod_dir, syscall(SYS_chmod, "d", 0700))
CALL(fchmod, syscall(SYS_fchmod, open("a", O_RDONLY), 0751))
CALL(fchmodat, syscall(SYS_fchmodat, dir("d"), "a", 0711))
CALL(fchmodat2, syscall(SYS_fchmodat2, AT_FDCWD, "a", 0705, AT_SYMLINK_NOFOLLOW))
CALL(chmod_libc_nofollow, fchmodat(AT_FDCWD, "a", 0604, AT_SYMLINK_NOFOLLOW))
CALL(chown, syscall(SYS_chown, "a", 1234, 1235))
CALL(lchown, syscall(SYS_lchown, "l", 1234, 1235))
CALL(fchown, syscall(SYS_fchown, open("a", O_RDONLY), 1234, -1))
CALL(fchownat, syscall(SYS_fchownat, AT_FDCWD, "l", 77, 78, AT_SYMLINK_NOFOLLOW))
CALL(utimensat, syscall(SYS_utimensat, AT_FDCWD, "a", kThen, 0))
CALL(utimensat_link, syscall(SYS_utimensat, AT_FDCWD, "l", kThen, AT_SYMLINK_NOFOLLOW))
CALL(utimensat_fd, syscall(SYS_utimensat, open("a", O_RDONLY), NULL, kThen, 0))
CALL(utimensat_now, syscall(SYS_utimensat, AT_FDCWD, "a", NULL, 0))
CALL(utimensat_dir, syscall(SYS_utimensat, AT_FDCWD, "d", kThen, 0))

static long call_utime(void) {
  struct utimbuf times = {1111111111, 1333333333};
  return syscall(SYS_utime, "a", &times);
}
static long call_utimes(void) {
  struct timeval times[2] = {{1111111111, 0}, {1444444444, 0}};
  return syscall(SYS_utimes, "a", times);
}
static long call_futimesat(void) {
  struct timeval times[2] = {{1111111111, 0}, {1455555555, 0}};
  return syscall(SYS_futimesat, dir("d"), "a", times);
}

CALL(setxattr, syscall(SYS_setxattr, "a", "user.x", "one", 3, 0))
CALL(lsetxattr, syscall(SYS_lsetxattr, "a", "user.x", "two", 3, 0))
CALL(fsetxattr, syscall(SYS_fsetxattr, open("a", O_RDONLY), "user.x", "three", 5, 0))
CALL(removexattr, syscall(SYS_removexattr, "a", "user.old"))
CALL(lremovexattr, syscall(SYS_lremovexattr, "a", "user.old"))
CALL(fremovexattr, syscall(SYS_fremovexattr, open("a", O_RDONLY), "user.old"))

/* --- where it is --- */
CALL(chdir, syscall(SYS_chdir, "d"))
CALL(fchdir, syscall(SYS_fchdir, dir("d")))
CALL(umask, (long)umask(027))

/* --- what it shares with itself --- */
static const struct sockaddr_un kSocket = {.sun_family = AF_UNIX, .sun_path = "socket"};

static long talk(long (*take)(int)) {
  const int server = socket(AF_UNIX, SOCK_STREAM, 0), client = socket(AF_UNIX, SOCK_STREAM, 0);
  if (syscall(SYS_bind, server, &kSocket, sizeof kSocket) != 0 || listen(server, 1) != 0) return -1;
  char byte = 0;
  if (connect(client, (const struct sockaddr*)&kSocket, sizeof kSocket) == 0 &&
      write(client, "b", 1) == 1 && read((int)take(server), &byte, 1) == 1)
    printf("%c\n", byte);
  return unlink("socket");
}
static long take(int server) { return syscall(SYS_accept, server, NULL, NULL); }
static long take4(int server) { return syscall(SYS_accept4, server, NULL, NULL, SOCK_CLOEXEC); }
static long call_bind(void) {
  if (syscall(SYS_bind, socket(AF_UNIX, SOCK_STREAM, 0), &kSocket, sizeof kSocket) != 0) return -1;
  return unlink("socket");
}
CALL(accept, talk(take))
CALL(accept4, talk(take4))
static long call_shmget(void) {
  const long id = syscall(SYS_shmget, IPC_PRIVATE, 4096, IPC_CREAT | 0600);
  char* text = (char*)syscall(SYS_shmat, id, NULL, 0);
  if (id < 0 || text == (char*)-1) return -1;
  strcpy(text, "shared");
  puts(text);
  return syscall(SYS_shmctl, id, IPC_RMID, NULL);
}

static const struct {
  const char* name;
  long (*function)(void);
} kCalls[] = {
#define ROW(name) \
  { #name, call_##name }
    ROW(rename),
    ROW(renameat),
    ROW(renameat2),
    ROW(renameat2_noreplace),
    ROW(renameat2_exchange),
    ROW(rename_dir),
    ROW(rename_old_dir),
    ROW(link),
    ROW(linkat),
    ROW(linkat_follow),
    ROW(linkat_nofollow),
    ROW(symlink),
    ROW(symlinkat),
    ROW(unlink),
    ROW(unlinkat),
    ROW(unlinkat_dir),
    ROW(rmdir),
    ROW(mkdir),
    ROW(mkdirat),
    ROW(mknod),
    ROW(mknodat_fifo),
    ROW(creat),
    ROW(open_trunc),
    ROW(open_excl),
    ROW(open_append),
    ROW(open_over),
    ROW(open_only_trunc),
    ROW(open_creat_read),
    ROW(openat),
    ROW(open_in_new),
    ROW(open_by_link),
    ROW(open_by_proc),
    ROW(openat2),
    ROW(truncate),
    ROW(truncate_longer),
    ROW(truncate_zero),
    ROW(ftruncate),
    ROW(fallocate),
    ROW(pwrite),
    ROW(writev),
    ROW(mmap),
    ROW(copy_file_range),
    ROW(sendfile),
    ROW(splice),
    ROW(sendfile_stdout),
    ROW(chmod),
    ROW(chmod_dir),
    ROW(fchmod),
    ROW(fchmodat),
    ROW(fchmodat2),
    ROW(chmod_libc_nofollow),
    ROW(chown),
    ROW(lchown),
    ROW(fchown),
    ROW(fchownat),
    ROW(utimensat),
    ROW(utimensat_link),
    ROW(utimensat_fd),
    ROW(utimensat_now),
    ROW(utimensat_dir),
    ROW(utime),
    ROW(utimes),
    ROW(futimesat),
    ROW(setxattr),
    ROW(lsetxattr),
    ROW(fsetxattr),
    ROW(removexattr),
    ROW(lremovexattr),
    ROW(fremovexattr),
    ROW(chdir),
    ROW(fchdir),
    ROW(umask),
    ROW(dup),
    ROW(dup2),
    ROW(dup3),
    ROW(fcntl),
    ROW(dup2_swap),
    ROW(bind),
    ROW(accept),
    ROW(accept4),
    ROW(shmget),
};

int main(int argc, char** argv) {
  if (argc == 5 && strcmp(argv[1], "--set-xattr") == 0)  // for check.py
    return setxattr(argv[4], argv[2], argv[3], strlen(argv[3]), 0) == 0 ? 0 : 1;
  for (int i = 1; i < argc; ++i) {
    size_t row = 0;
    while (row < sizeof kCalls / sizeof kCalls[0] && strcmp(kCalls[row].name, argv[i]) != 0) ++row;
    if (row == sizeof kCalls / sizeof kCalls[0]) return 2;
    errno = 0;
    const long result = kCalls[row].function();
    printf("%s: %s\n", argv[i], result < 0 ? strerror(errno) : "done");
  }
  return 0;
}
