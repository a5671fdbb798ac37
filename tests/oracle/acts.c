// acts ACT...: what a small C program does with files, one act an argument: OP:PATH[:MORE].
//
// Shells always fork and exec, and read and write by small whole steps. Here is the rest: forks without
// exec, threads, mappings, dirfds, partial writes, exclusive creation, both streams from one process.
// Each act prints what it saw, or the name of the error; nothing that differs from run to run.
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static const char *op, *path, *more;

static void say(const char* what) { printf("%s %s: %s\n", op, path, what); }

static int failed(void) {
  say(strerrorname_np(errno));
  return -1;
}

static void say_bytes(const char* bytes, size_t size) {
  unsigned sum = 7;
  for (size_t i = 0; i < size; ++i) sum = sum * 31 + (unsigned char)bytes[i];
  printf("%s %s: %zu bytes, %08x\n", op, path, size, sum);
}

static int read_fd(int fd) {
  static char bytes[1 << 16];
  size_t size = 0;
  ssize_t got;
  while ((got = read(fd, bytes + size, sizeof bytes - size)) > 0) size += (size_t)got;
  if (got < 0) return failed();
  say_bytes(bytes, size);
  return 0;
}

static int copy(const char* from, const char* to) {
  char bytes[4096];
  ssize_t got;
  const int in = open(from, O_RDONLY);
  if (in < 0) return -1;
  const int out = open(to, O_WRONLY | O_CREAT | O_TRUNC, 0666);
  if (out < 0) {
    close(in);
    return -1;
  }
  while ((got = read(in, bytes, sizeof bytes)) > 0)
    if (write(out, bytes, (size_t)got) != got) break;
  close(in);
  return close(out) | (got == 0 ? 0 : -1);
}

static int put(int flags, const char* text) {
  const int fd = open(path, flags, 0666);
  if (fd < 0) return failed();
  if (write(fd, text, strlen(text)) < 0) return failed();
  return close(fd);
}

static int map(void) {
  struct stat st;
  const int fd = open(path, O_RDONLY);
  if (fd < 0 || fstat(fd, &st) != 0) return failed();
  if (st.st_size == 0) return say("empty"), 0;
  char* bytes = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
  close(fd);
  if (bytes == MAP_FAILED) return failed();
  say_bytes(bytes, (size_t)st.st_size);
  return munmap(bytes, (size_t)st.st_size);
}

static int by_name(const void* a, const void* b) { return strcmp(*(char* const*)a, *(char* const*)b); }

static int list(void) {
  char* names[256];
  size_t count = 0;
  DIR* dir = opendir(path);
  if (!dir) return failed();
  for (struct dirent* entry; count < 256 && (entry = readdir(dir));)
    if (strcmp(entry->d_name, ".") && strcmp(entry->d_name, ".."))
      names[count++] = strdup(entry->d_name);
  closedir(dir);
  qsort(names, count, sizeof *names, by_name);
  printf("%s %s:", op, path);
  for (size_t i = 0; i < count; ++i) printf(" %s", names[i]);
  printf("\n");
  return 0;
}

static int look(int result, const struct stat* st) {
  if (result != 0) return failed();
  printf("%s %s: %o", op, path, st->st_mode);
  if (S_ISREG(st->st_mode)) printf(" size %lld links %lu", (long long)st->st_size, st->st_nlink);
  printf("\n");
  return 0;
}

static int read_at(int enter) {
  const int dir = open(path, O_RDONLY | O_DIRECTORY);
  if (dir < 0) return failed();
  const int here = enter ? open(".", O_RDONLY | O_DIRECTORY) : -1;
  if (enter && fchdir(dir) != 0) return failed();
  const int fd = enter ? open(more, O_RDONLY) : openat(dir, more, O_RDONLY);
  const int result = fd < 0 ? failed() : read_fd(fd);
  if (enter && fchdir(here) != 0) return failed();
  return result;
}

// An editor's save: aside, exclusively, then over it.
static int save(void) {
  char name[4096];
  snprintf(name, sizeof name, "%s.new", path);
  const int fd = open(name, O_WRONLY | O_CREAT | O_EXCL, 0666);
  if (fd < 0) return failed();
  if (write(fd, more, strlen(more)) < 0 || close(fd) != 0) return failed();
  return rename(name, path) == 0 ? 0 : (unlink(name), failed());
}

static int fork_copy(void) {
  int status;
  fflush(stdout);
  const pid_t child = fork();
  if (child == 0) _exit(copy(path, more) == 0 ? 0 : 1);
  if (child < 0 || waitpid(child, &status, 0) != child) return failed();
  printf("%s %s: %d\n", op, path, WEXITSTATUS(status));
  return 0;
}

static int spawn_cat(void) {
  fflush(stdout);
  const pid_t child = vfork();
  if (child == 0) {
    execl("/bin/cat", "cat", path, (char*)NULL);
    _exit(127);
  }
  int status;
  if (child < 0 || waitpid(child, &status, 0) != child) return failed();
  printf("%s %s: %d\n", op, path, WEXITSTATUS(status));
  return 0;
}

static void* thread_copy(void* to) { return copy(path, to) == 0 ? NULL : to; }

static int threads(void) {
  char names[2][4096];
  pthread_t ids[2];
  void* result;
  for (int i = 0; i < 2; ++i) {
    snprintf(names[i], sizeof names[i], "%s.%d", more, i);
    pthread_create(&ids[i], NULL, thread_copy, names[i]);
  }
  for (int i = 0; i < 2; ++i) {
    pthread_join(ids[i], &result);
    say(result ? "failed" : "copied");
  }
  return 0;
}

static int both_streams(void) {
  fflush(stdout);
  for (int i = 0; i < 4; ++i)
    if (dprintf(1 + i % 2, "%s %d\n", path, i) < 0) return -1;
  return 0;
}

static int read_as_stdin(void) {
  const int fd = open(path, O_RDONLY);
  if (fd < 0) return failed();
  dup2(fd, 0);
  close(fd);
  return read_fd(0);
}

static int write_unlinked(void) {
  const int fd = open(path, O_RDWR | O_CREAT | O_TRUNC, 0666);
  if (fd < 0 || unlink(path) != 0) return failed();
  if (write(fd, "gone", 4) != 4 || lseek(fd, 0, SEEK_SET) != 0) return failed();
  return read_fd(fd);
}

static int patch(void) {
  const int fd = open(path, O_RDWR);
  if (fd < 0) return failed();
  if (pwrite(fd, more, strlen(more), 1) < 0) return failed();
  return close(fd);
}

static int times(const char* file, const char* seconds) {
  struct timespec both[2] = {{0, 0}, {0, 0}};
  both[0].tv_sec = both[1].tv_sec = seconds ? atol(seconds) : 0;
  return utimensat(AT_FDCWD, file, seconds ? both : NULL, AT_SYMLINK_NOFOLLOW);
}

static int check(int result) { return result == 0 ? 0 : failed(); }

static int act(void) {
  struct stat st;
  char target[4096];
  int fd;
  if (!strcmp(op, "read")) return (fd = open(path, O_RDONLY)) < 0 ? failed() : read_fd(fd);
  if (!strcmp(op, "map")) return map();
  if (!strcmp(op, "readat")) return read_at(0);
  if (!strcmp(op, "enter")) return read_at(1);
  if (!strcmp(op, "list")) return list();
  if (!strcmp(op, "stat")) return look(stat(path, &st), &st);
  if (!strcmp(op, "lstat")) return look(lstat(path, &st), &st);
  if (!strcmp(op, "can")) return check(access(path, R_OK | X_OK));
  if (!strcmp(op, "readlink")) {
    const ssize_t size = readlink(path, target, sizeof target - 1);
    if (size < 0) return failed();
    target[size] = 0;
    return say(target), 0;
  }
  if (!strcmp(op, "write")) return put(O_WRONLY | O_CREAT | O_TRUNC, more);
  if (!strcmp(op, "over")) return put(O_WRONLY | O_CREAT, more);
  if (!strcmp(op, "empty")) return put(O_WRONLY | O_TRUNC, more);
  if (!strcmp(op, "excl")) return put(O_WRONLY | O_CREAT | O_EXCL, more);
  if (!strcmp(op, "append")) return put(O_WRONLY | O_CREAT | O_APPEND, more);
  if (!strcmp(op, "patch")) return patch();
  if (!strcmp(op, "size")) return check(truncate(path, atol(more)));
  if (!strcmp(op, "copy")) return check(copy(path, more));
  if (!strcmp(op, "rename")) return check(rename(path, more));
  if (!strcmp(op, "keep")) return check(renameat2(AT_FDCWD, path, AT_FDCWD, more, RENAME_NOREPLACE));
  if (!strcmp(op, "link")) return check(link(path, more));
  if (!strcmp(op, "symlink")) return check(symlink(more, path));
  if (!strcmp(op, "unlink")) return check(unlink(path));
  if (!strcmp(op, "mkdir")) return check(mkdir(path, 0777));
  if (!strcmp(op, "rmdir")) return check(rmdir(path));
  if (!strcmp(op, "mode")) return check(chmod(path, (mode_t)strtol(more, NULL, 8)));
  if (!strcmp(op, "time")) return check(times(path, more));
  if (!strcmp(op, "now")) return check(times(path, NULL));
  if (!strcmp(op, "save")) return save();
  if (!strcmp(op, "fork")) return fork_copy();
  if (!strcmp(op, "cat")) return spawn_cat();
  if (!strcmp(op, "threads")) return threads();
  if (!strcmp(op, "both")) return both_streams();
  if (!strcmp(op, "stdin")) return read_as_stdin();
  if (!strcmp(op, "gone")) return write_unlinked();
  fprintf(stderr, "acts: no act is called %s\n", op);
  exit(2);
}

int main(int argc, char** argv) {
  for (int i = 1; i < argc; ++i) {
    char* words = strdup(argv[i]);
    op = strsep(&words, ":");
    path = strsep(&words, ":");
    more = words ? words : "";
    if (!path) path = "";
    if (!strcmp(op, "exit")) {
      fflush(stdout);
      _exit(atoi(path));
    }
    act();
    fflush(stdout);
  }
  return 0;
}
