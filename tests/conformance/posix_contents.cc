// Contents: reads and writes, appends, holes, times, large files, copies, mappings, locks.
#include <fcntl.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <set>

#include "tests/conformance/posix_check.h"

namespace posix_check {
namespace {

int64_t mtime_ns(const char* path) {
  struct stat st {};
  ::stat(path, &st);
  return st.st_mtim.tv_sec * 1'000'000'000 + st.st_mtim.tv_nsec;
}

void backdate(const char* path) {
  const struct timespec old[2] = {{1000, 1}, {1000, 1}};
  ::utimensat(AT_FDCWD, path, old, 0);
}
constexpr int64_t kOld = 1000 * 1'000'000'000ll + 1;

void check_append() {
  section("append");
  write_file("app", "0");
  const int a = ::open("app", O_WRONLY | O_APPEND), b = ::open("app", O_WRONLY | O_APPEND);
  ::write(a, "a", 1);
  ::write(b, "b", 1);
  ::write(a, "a", 1);
  say("two descriptors", read_file("app"));
  say("position", static_cast<long>(::lseek(a, 0, SEEK_CUR)));
  ::ftruncate(a, 1);
  ::write(b, "c", 1);
  say("after truncation", read_file("app"));
  ::fcntl(a, F_SETFL, 0);
  ::pwrite(a, "Z", 1, 0);
  say("flag cleared", read_file("app"));
  const int c = ::open("app", O_RDWR);
  ::fcntl(c, F_SETFL, O_APPEND);
  ::write(c, "E", 1);
  say("flag set later", read_file("app"));
  for (const int fd : {a, b, c}) ::close(fd);
  for (int i = 0; i < 4; ++i) {
    if (::fork() == 0) {
      const int fd = ::open("log", O_WRONLY | O_APPEND | O_CREAT, 0644);
      for (int k = 0; k < 100; ++k) ::write(fd, "line\n", 5);
      ::_exit(0);
    }
  }
  while (::wait(nullptr) > 0) {
  }
  say("four writers", stat_line("log"));
}

void check_holes() {
  section("holes");
  const int fd = ::open("holes", O_RDWR | O_CREAT, 0644);
  say("far write", outcome(::pwrite(fd, "end", 3, 1 << 20)));
  say("stat", stat_line("holes"));
  say("data", static_cast<long>(::lseek(fd, 0, SEEK_DATA)));
  say("hole", static_cast<long>(::lseek(fd, 0, SEEK_HOLE)));
  say("beyond", outcome(::lseek(fd, 2 << 20, SEEK_DATA)));
  char c = 'x';
  say("read hole", outcome(::pread(fd, &c, 1, 5000)));
  say("zero", static_cast<int>(c));
  say("fallocate", outcome(::fallocate(fd, 0, 0, 2 << 20)));
  say("grown", stat_line("holes"));
  say("keep size", outcome(::fallocate(fd, FALLOC_FL_KEEP_SIZE, 0, 4 << 20)));
  say("kept", stat_line("holes"));
  say("punch", outcome(::fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 1 << 20, 4096)));
  say("punched", outcome(::pread(fd, &c, 1, 1 << 20)));
  say("punched is zero", static_cast<int>(c));
  say("negative", outcome(::fallocate(fd, 0, -1, 10)));
  ::close(fd);
  const int big = ::open("large", O_RDWR | O_CREAT | O_LARGEFILE, 0644);
  say("5 GiB write", outcome(::pwrite(big, "far", 3, 5ll << 30)));
  say("5 GiB stat", stat_line("large"));
  char text[4] = {};
  say("5 GiB read", outcome(::pread(big, text, 3, 5ll << 30)));
  say("5 GiB text", text);
  say("shrink", outcome(::ftruncate(big, 10)));
  say("shrunk", stat_line("large"));
  ::close(big);
  say("truncate by name", outcome(::truncate("large", 3)));
  say("truncated", stat_line("large"));
  say("truncate dir", outcome(::truncate(".", 3)));
  say("truncate absent", outcome(::truncate("absent2", 3)));
  say("truncate negative", outcome(::truncate("large", -1)));
}

void check_io() {
  section("io");
  std::string block(3 << 20, 'q');
  for (size_t i = 0; i < block.size(); i += 4096) block[i] = static_cast<char>('a' + i / 4096 % 26);
  const int fd = ::open("io", O_RDWR | O_CREAT, 0644);
  say("3 MiB", ::write(fd, block.data(), block.size()) == static_cast<ssize_t>(block.size()));
  std::string back(block.size(), '\0');
  say("read", ::pread(fd, back.data(), back.size(), 0) == static_cast<ssize_t>(back.size()));
  say("equal", back == block);
  say("eof", static_cast<long>(::pread(fd, back.data(), 10, 3 << 20)));
  struct iovec parts[2] = {{block.data(), 3}, {block.data() + 4096, 2}};
  say("pwritev", static_cast<long>(::pwritev(fd, parts, 2, 100)));
  say("pread", ::pread(fd, back.data(), 5, 100) == 5 && back.substr(0, 5) == "aqqbq");
  say("fsync", outcome(::fsync(fd)));
  say("fdatasync", outcome(::fdatasync(fd)));
  const int rd = ::open("io", O_RDONLY), wr = ::open("io", O_WRONLY);
  say("write to reader", outcome(::write(rd, "x", 1)));
  say("read from writer", outcome(::read(wr, back.data(), 1)));
  say("ftruncate reader", outcome(::ftruncate(rd, 1)));
  ::pwrite(wr, "seen", 4, 7);
  ::pread(rd, back.data(), 4, 7);
  say("seen by another", back.substr(0, 4));
  const int out = ::open("copy", O_RDWR | O_CREAT, 0644);
  off_t zero = 0;
  long copied = 0;
  for (long n; copied < (3 << 20) &&
               (n = ::copy_file_range(rd, nullptr, out, nullptr, (3 << 20) - copied, 0)) > 0;) {
    copied += n;
  }
  say("copy_file_range", copied);
  const int sent = ::open("sent", O_RDWR | O_CREAT, 0644);
  say("sendfile", static_cast<long>(::sendfile(sent, rd, &zero, 1 << 20)));
  ::pread(fd, block.data(), block.size(), 0);
  ::pread(out, back.data(), back.size(), 0);
  say("copy equal", back == block);
  say("path only", outcome(::read(::open("io", O_PATH), back.data(), 1)));
  const int direct = ::open("io", O_RDONLY | O_DIRECT);
  void* aligned = ::mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  say("direct", static_cast<long>(::pread(direct, aligned, 4096, 4096)));
  for (const int f : {fd, rd, wr, out, sent, direct}) ::close(f);
  say("rdwr trunc", outcome(::open("io", O_RDWR | O_TRUNC)));
  say("emptied", stat_line("io"));
  write_file("prog", "#!/bin/sh\nexit 7\n", 0755);
  in_child([] {
    const int status = std::system("./prog");
    say("script", WEXITSTATUS(status));
  });
  const int busy = ::open("prog", O_WRONLY);
  in_child([] {
    ::execl("./prog", "prog", nullptr);
    say("exec while written", outcome(-1));
  });
  ::close(busy);
}

void check_times() {
  section("times");
  write_file("t", "1");
  backdate("t");
  say("set", static_cast<bool>(mtime_ns("t") == kOld));
  const int fd = ::open("t", O_RDWR);
  say("open leaves", mtime_ns("t") == kOld);
  char c;
  ::read(fd, &c, 1);
  say("read leaves", mtime_ns("t") == kOld);
  ::pwrite(fd, "2", 1, 0);
  say("write moves", mtime_ns("t") > kOld);
  backdate("t");
  ::ftruncate(fd, 5);
  say("ftruncate moves", mtime_ns("t") > kOld);
  backdate("t");
  ::chmod("t", 0600);
  say("chmod leaves", mtime_ns("t") == kOld);
  ::link("t", "t2");
  ::rename("t2", "t3");
  say("link and rename leave", mtime_ns("t3") == kOld);
  const struct timespec omit[2] = {{0, UTIME_OMIT}, {77, 88}};
  ::futimens(fd, omit);
  struct stat st {};
  ::fstat(fd, &st);
  say("omit atime", st.st_atim.tv_sec != 77);
  say("mtime ns", static_cast<long>(st.st_mtim.tv_nsec));
  ::futimens(fd, nullptr);
  say("now", mtime_ns("t") > kOld);
  backdate("t");
  const int trunc = ::open("t", O_WRONLY | O_TRUNC);
  say("O_TRUNC moves", mtime_ns("t") > kOld);
  ::close(trunc);
  ::close(fd);
  write_file("newer1", "");
  write_file("newer2", "");
  say("in order", mtime_ns("newer1") <= mtime_ns("newer2"));
  struct stat before {
  }, after{};
  ::stat("t", &before);
  ::usleep(20000);
  ::chmod("t", 0640);
  ::stat("t", &after);
  say("chmod moves ctime", before.st_ctim.tv_sec != after.st_ctim.tv_sec ||
                               before.st_ctim.tv_nsec != after.st_ctim.tv_nsec);
}

void check_xattrs() {
  section("xattr");
  write_file("x", "");
  char value[100] = {};
  say("set", outcome(::setxattr("x", "user.a", "hello", 5, 0)));
  say("create again", outcome(::setxattr("x", "user.a", "h", 1, XATTR_CREATE)));
  say("replace absent", outcome(::setxattr("x", "user.b", "h", 1, XATTR_REPLACE)));
  say("get", static_cast<long>(::getxattr("x", "user.a", value, sizeof value)));
  say("value", value);
  say("size", static_cast<long>(::getxattr("x", "user.a", nullptr, 0)));
  say("small buffer", outcome(::getxattr("x", "user.a", value, 2)));
  say("absent", outcome(::getxattr("x", "user.zz", value, 2)));
  say("empty", outcome(::setxattr("x", "user.empty", "", 0, 0)));
  std::string names(1000, '\0');
  names.resize(static_cast<size_t>(std::max<ssize_t>(0, ::listxattr("x", names.data(), 1000))));
  std::set<std::string> found;
  for (size_t i = 0; i < names.size(); i += std::strlen(&names[i]) + 1) {
    if (std::string(&names[i]).starts_with("user.")) found.insert(&names[i]);
  }
  for (const auto& name : found) say("listed", name);
  say("list small", outcome(::listxattr("x", value, 3)));
  say("remove", outcome(::removexattr("x", "user.a")));
  say("remove again", outcome(::removexattr("x", "user.a")));
  ::symlink("x", "xlink");
  say("on a link", outcome(::lsetxattr("xlink", "user.a", "1", 1, 0)));
  ::mkdir("xd", 0755);
  say("on a directory", outcome(::setxattr("xd", "user.d", "1", 1, 0)));
  const int fd = ::open("x", O_RDONLY);
  say("by descriptor", outcome(::fsetxattr(fd, "user.f", "1", 1, 0)));
  ::close(fd);
  say("trusted", outcome(::setxattr("x", "trusted.t", "1", 1, 0)));
  say("strange", outcome(::setxattr("x", "nospace.t", "1", 1, 0)));
  say("large", outcome(::setxattr("x", "user.large", std::string(3000, 'l').data(), 3000, 0)));
}

void check_locks() {
  section("locks");
  write_file("lock", "12345678");
  const int fd = ::open("lock", O_RDWR);
  struct flock range {};
  range.l_type = F_WRLCK;
  range.l_len = 4;
  say("set", outcome(::fcntl(fd, F_SETLK, &range)));
  in_child([] {
    const int other = ::open("lock", O_RDWR);
    struct flock want {};
    want.l_type = F_WRLCK;
    want.l_len = 4;
    say("conflict", outcome(::fcntl(other, F_SETLK, &want)));
    want.l_start = 4;
    say("beside", outcome(::fcntl(other, F_SETLK, &want)));
  });
  say("flock", outcome(::flock(fd, LOCK_EX)));
  in_child([] {
    const int other = ::open("lock", O_RDWR);
    say("flock conflict", outcome(::flock(other, LOCK_EX | LOCK_NB)));
  });
  ::close(fd);
  const int again = ::open("lock", O_RDWR);
  say("flock after close", outcome(::flock(again, LOCK_EX | LOCK_NB)));
  ::close(again);
}

}  // namespace

void check_contents() {
  check_append();
  check_holes();
  check_io();
  check_times();
  check_xattrs();
  check_locks();
}

void check_mappings() {
  section("mmap");
  write_file("map", std::string(8192, 'm'));
  int fd = ::open("map", O_RDWR);
  auto* map = static_cast<char*>(::mmap(nullptr, 8192, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0));
  say("shared", map != MAP_FAILED);
  if (map == MAP_FAILED) return;
  backdate("map");
  std::memcpy(map + 4096, "mapped", 6);
  char text[7] = {};
  ::pread(fd, text, 6, 4096);
  say("write seen by read", text);
  ::pwrite(fd, "direct", 6, 100);
  say("read sees write", std::string(map + 100, 6));
  say("msync", outcome(::msync(map, 8192, MS_SYNC)));
  say("mtime moved", mtime_ns("map") > kOld);
  in_child([map] { map[0] = 'C'; });
  say("child's write", std::string(map, 1));
  ::close(fd);
  std::memcpy(map + 200, "after close", 11);
  say("after close", read_file("map").substr(200, 11));
  ::munmap(map, 8192);
  say("after munmap", read_file("map").substr(200, 11));
  fd = ::open("map", O_RDONLY);
  map = static_cast<char*>(::mmap(nullptr, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0));
  std::memcpy(map, "private", 7);
  say("private", read_file("map").substr(0, 1));
  say("shared of a reader",
      outcome(::mmap(nullptr, 4096, PROT_WRITE, MAP_SHARED, fd, 0) == MAP_FAILED ? -1 : 0));
  ::unlink("map");
  say("mapped and unlinked", std::string(map + 200, 11));
  ::munmap(map, 8192);
  ::close(fd);
  // Written by a mapping alone, closed before it is unmapped: the file's time must have moved.
  write_file("map2", std::string(4096, 'm'));
  backdate("map2");
  say("backdated", mtime_ns("map2") == kOld);
  fd = ::open("map2", O_RDWR);
  map = static_cast<char*>(::mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0));
  ::close(fd);
  map[5] = '!';
  ::msync(map, 4096, MS_SYNC);
  ::munmap(map, 4096);
  ::usleep(1'200'000);
  say("mapping alone moves mtime", mtime_ns("map2") > kOld);
}

}  // namespace posix_check
