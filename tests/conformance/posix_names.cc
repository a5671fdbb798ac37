// Names: creation, removal, rename, links, symbolic links, special files, directories.
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <set>
#include <vector>

#include "tests/conformance/posix_check.h"

namespace posix_check {
namespace {

void check_creation() {
  section("create");
  for (const int mode : {0, 0400, 0600, 0644, 0666, 0755, 0777, 04755, 02755, 01777}) {
    char name[32];
    std::snprintf(name, sizeof name, "m%04o", mode);
    const int fd = ::open(name, O_RDWR | O_CREAT | O_EXCL, mode);
    say(name, outcome(fd));
    say(std::string(name) + " write", outcome(::write(fd, "x", 1)));
    ::close(fd);
    say(std::string(name) + " stat", stat_line(name));
    say(std::string(name) + " chmod", outcome(::chmod(name, 0604)));
    say(std::string(name) + " then", stat_line(name));
  }
  for (const int mask : {0, 027, 077}) {
    ::umask(static_cast<mode_t>(mask));
    const std::string tag = "umask" + std::to_string(mask);
    write_file(tag, "", 0666);
    say(tag + " file", stat_line(tag));
    ::mkdir((tag + "d").c_str(), 0777);
    say(tag + " dir", stat_line(tag + "d"));
    ::mkfifo((tag + "p").c_str(), 0666);
    say(tag + " fifo", stat_line(tag + "p"));
  }
  ::umask(022);
  say("excl exists", outcome(::open("m0644", O_CREAT | O_EXCL | O_WRONLY, 0644)));
  say("trunc", outcome(::open("m0644", O_WRONLY | O_TRUNC)));
  say("trunc size", stat_line("m0644"));
  say("dir as file", outcome(::open("umask0d", O_WRONLY)));
  say("file as dir", outcome(::open("m0644", O_RDONLY | O_DIRECTORY)));
  say("below a file", outcome(::open("m0644/x", O_RDONLY)));
  say("absent", outcome(::open("absent", O_RDONLY)));
  say("absent dir", outcome(::open("absent/x", O_CREAT | O_WRONLY, 0644)));
  say("mkdir exists", outcome(::mkdir("m0644", 0755)));
  say("trailing slash", outcome(::open("m0644/", O_RDONLY)));
  say("creat slash", outcome(::open("new/", O_CREAT | O_WRONLY, 0644)));
  say("255", outcome(::open(std::string(255, 'n').c_str(), O_CREAT | O_WRONLY, 0644)));
  say("256", outcome(::open(std::string(256, 'n').c_str(), O_CREAT | O_WRONLY, 0644)));
  say("unlink 255", outcome(::unlink(std::string(255, 'n').c_str())));
  write_file("strange \n\\\"'name\x01\xff", "odd");
  say("odd name", read_file("strange \n\\\"'name\x01\xff"));
  ::unlink("strange \n\\\"'name\x01\xff");
}

void check_removal() {
  section("remove");
  ::mkdir("rd", 0755);
  write_file("rd/f", "1");
  say("rmdir full", outcome(::rmdir("rd")));
  say("unlink dir", outcome(::unlink("rd")));
  say("rmdir file", outcome(::rmdir("rd/f")));
  say("rmdir dot", outcome(::rmdir("rd/.")));
  say("unlink absent", outcome(::unlink("rd/absent")));
  const int fd = ::open("rd/f", O_RDWR);
  say("unlink", outcome(::unlink("rd/f")));
  struct stat st {};
  say("open unlinked fstat", outcome(::fstat(fd, &st)));
  say("open unlinked nlink", static_cast<long>(st.st_nlink));
  say("open unlinked size", static_cast<long>(st.st_size));
  say("open unlinked write", outcome(::pwrite(fd, "hello", 5, 10)));
  ::fstat(fd, &st);
  say("open unlinked grown", static_cast<long>(st.st_size));
  say("open unlinked ftruncate", outcome(::ftruncate(fd, 3)));
  ::fstat(fd, &st);
  say("open unlinked shrunk", static_cast<long>(st.st_size));
  say("open unlinked fchmod", outcome(::fchmod(fd, 0600)));
  char c = 0;
  say("open unlinked read", outcome(::pread(fd, &c, 1, 0)));
  say("open unlinked byte", std::string(1, c));
  write_file("rd/f", "other");
  say("new one", read_file("rd/f"));
  ::fstat(fd, &st);
  say("old one", static_cast<long>(st.st_size));
  ::close(fd);
  say("unlink new", outcome(::unlink("rd/f")));
  const int dir = ::open("rd", O_RDONLY | O_DIRECTORY);
  say("rmdir", outcome(::rmdir("rd")));
  say("create in removed", outcome(::openat(dir, "x", O_CREAT | O_WRONLY, 0644)));
  ::close(dir);
}

void check_rename() {
  section("rename");
  write_file("a", "A");
  write_file("b", "B");
  ::mkdir("d1", 0755);
  ::mkdir("d2", 0755);
  write_file("d2/full", "");
  const int fd = ::open("b", O_RDONLY);
  say("over", outcome(::rename("a", "b")));
  say("b", read_file("b"));
  char c = 0;
  say("old b", outcome(::read(fd, &c, 1)));
  say("old b is", std::string(1, c));
  struct stat st {};
  ::fstat(fd, &st);
  say("old b nlink", static_cast<long>(st.st_nlink));
  ::close(fd);
  say("absent", outcome(::rename("a", "c")));
  say("file over dir", outcome(::rename("b", "d1")));
  say("dir over file", outcome(::rename("d1", "b")));
  say("dir over full dir", outcome(::rename("d1", "d2")));
  say("dir into itself", outcome(::rename("d1", "d1/x")));
  say("dir over empty dir", outcome(::mkdir("d3", 0755) + ::rename("d2", "d3")));
  say("moved content", stat_line("d3/full"));
  write_file("x", "X");
  write_file("y", "Y");
  say("noreplace", outcome(::renameat2(AT_FDCWD, "x", AT_FDCWD, "y", RENAME_NOREPLACE)));
  say("noreplace free", outcome(::renameat2(AT_FDCWD, "x", AT_FDCWD, "z", RENAME_NOREPLACE)));
  say("exchange", outcome(::renameat2(AT_FDCWD, "z", AT_FDCWD, "y", RENAME_EXCHANGE)));
  say("z", read_file("z"));
  say("y", read_file("y"));
  say("exchange absent", outcome(::renameat2(AT_FDCWD, "z", AT_FDCWD, "no", RENAME_EXCHANGE)));
  say("exchange file dir", outcome(::renameat2(AT_FDCWD, "z", AT_FDCWD, "d3", RENAME_EXCHANGE)));
  say("now dir", stat_line("z"));
  say("and in it", stat_line("z/full"));
  say("both",
      outcome(::renameat2(AT_FDCWD, "y", AT_FDCWD, "q", RENAME_EXCHANGE | RENAME_NOREPLACE)));
  say("same", outcome(::rename("y", "y")));
  ::mkdir("s1", 0755);
  ::mkdir("s2", 0755);
  write_file("s1/f", "across");
  say("across dirs", outcome(::rename("s1/f", "s2/g")));
  say("across", read_file("s2/g"));
  say("source gone", stat_line("s1/f"));
  say("dir across", outcome(::rename("s1", "s2/s1")));
  char cwd[4096];
  ::chdir("s2/s1");
  ::rename("../../s2", "../../s3");
  const std::string where = ::getcwd(cwd, sizeof cwd) == nullptr ? "?" : cwd;
  say("cwd follows", where.size() > 6 && where.substr(where.size() - 6) == "/s3/s1");
  ::chdir("../..");
}

void check_links() {
  section("link");
  write_file("l1", "one");
  say("link", outcome(::link("l1", "l2")));
  say("stat", stat_line("l2"));
  write_file("l2", "two!");
  say("shared", read_file("l1"));
  struct stat a {
  }, b{};
  ::stat("l1", &a);
  ::stat("l2", &b);
  say("same inode", a.st_ino == b.st_ino && a.st_dev == b.st_dev);
  say("chmod", outcome(::chmod("l2", 0640)));
  say("chmod seen", stat_line("l1"));
  say("exists", outcome(::link("l1", "l2")));
  ::mkdir("ldir", 0755);
  say("directory", outcome(::link("ldir", "l3")));
  say("rename between links", outcome(::rename("l1", "l2")));
  say("both stay", stat_line("l1"));
  say("unlink", outcome(::unlink("l1")));
  say("one left", stat_line("l2"));
  say("symlink", outcome(::symlink("l2", "sl")));
  say("hard link to symlink", outcome(::linkat(AT_FDCWD, "sl", AT_FDCWD, "sl2", 0)));
  say("sl2", stat_line("sl2"));
  say("followed", outcome(::linkat(AT_FDCWD, "sl", AT_FDCWD, "sl3", AT_SYMLINK_FOLLOW)));
  say("sl3", stat_line("sl3"));
  char target[64] = {};
  say("readlink", outcome(::readlink("sl", target, sizeof target - 1)));
  say("target", target);
  say("readlink of file", outcome(::readlink("l2", target, sizeof target)));
  ::symlink("absent", "dangling");
  say("dangling", outcome(::open("dangling", O_RDONLY)));
  say("excl dangling", outcome(::open("dangling", O_CREAT | O_EXCL | O_WRONLY, 0644)));
  say("nofollow", outcome(::open("sl", O_RDONLY | O_NOFOLLOW)));
  say("create through", outcome(::open("dangling", O_CREAT | O_WRONLY, 0644)));
  say("created", stat_line("absent"));
  ::symlink("loop2", "loop1");
  ::symlink("loop1", "loop2");
  say("loop", outcome(::open("loop1", O_RDONLY)));
  say("loop lstat", stat_line("loop1"));
  say("long target", outcome(::symlink(std::string(4000, 't').c_str(), "longlink")));
  say("long lstat", stat_line("longlink"));
  say("too long", outcome(::symlink(std::string(4097, 't').c_str(), "longerlink")));
  say("empty target", outcome(::symlink("", "emptylink")));
  const struct timespec times[2] = {{5, 6}, {7, 8}};
  say("lutimes", outcome(::utimensat(AT_FDCWD, "sl", times, AT_SYMLINK_NOFOLLOW)));
  ::lstat("sl", &a);
  say("lutimes mtime", static_cast<long>(a.st_mtim.tv_sec * 10 + a.st_mtim.tv_nsec));
}

void check_special() {
  section("special");
  say("mkfifo", outcome(::mkfifo("fifo", 0640)));
  say("fifo", stat_line("fifo"));
  in_child([] {
    const int fd = ::open("fifo", O_RDWR);
    say("fifo write", outcome(::write(fd, "ping", 4)));
    char text[5] = {};
    say("fifo read", outcome(::read(fd, text, 4)));
    say("fifo text", text);
  });
  say("fifo nonblock", outcome(::open("fifo", O_WRONLY | O_NONBLOCK)));
  const int sock = ::socket(AF_UNIX, SOCK_STREAM, 0);
  struct sockaddr_un addr {};
  addr.sun_family = AF_UNIX;
  std::strcpy(addr.sun_path, "sock");
  say("bind", outcome(::bind(sock, reinterpret_cast<sockaddr*>(&addr), sizeof addr)));
  say("sock", stat_line("sock"));
  say("listen", outcome(::listen(sock, 1)));
  const int client = ::socket(AF_UNIX, SOCK_STREAM, 0);
  say("connect", outcome(::connect(client, reinterpret_cast<sockaddr*>(&addr), sizeof addr)));
  say("open sock", outcome(::open("sock", O_RDONLY)));
  ::close(sock);
  ::close(client);
  say("mknod file", outcome(::mknod("node", S_IFREG | 0640, 0)));
  say("node", stat_line("node"));
  if (is_root()) {
    say("mknod null", outcome(::mknod("null", S_IFCHR | 0666, static_cast<dev_t>(0x103))));
    say("null", stat_line("null"));
    say("null write", outcome(::open("null", O_WRONLY)));
  } else {
    say("mknod null", outcome(::mknod("null", S_IFCHR | 0666, static_cast<dev_t>(0x103))));
  }
}

}  // namespace

void check_names() {
  check_creation();
  check_removal();
  check_rename();
  check_links();
  check_special();
}

void check_directories() {
  section("directory");
  ::mkdir("big", 0755);
  std::set<std::string> made;
  for (int i = 0; i < 1000; ++i) {
    const std::string name = "file" + std::to_string(i);
    write_file("big/" + name, "");
    made.insert(name);
  }
  DIR* dir = ::opendir("big");
  std::vector<std::string> names;
  std::vector<long> places;
  int types = 0;
  while (const dirent* entry = ::readdir(dir)) {
    names.emplace_back(entry->d_name);
    places.push_back(::telldir(dir));
    types += entry->d_type == DT_REG ? 1 : 0;
  }
  say("entries", static_cast<long>(names.size()));
  say("regular", types);
  say("all", std::set<std::string>(names.begin(), names.end()).size() == 1002);
  bool right = true;
  for (size_t i = 0; i + 1 < names.size(); i += 37) {
    ::seekdir(dir, places[i]);
    const dirent* entry = ::readdir(dir);
    right = right && entry != nullptr && names[i + 1] == entry->d_name;
  }
  say("seekdir", right);
  ::rewinddir(dir);
  long again = 0;
  while (::readdir(dir) != nullptr) ++again;
  say("rewound", again);
  write_file("big/late", "");
  ::rewinddir(dir);
  again = 0;
  while (::readdir(dir) != nullptr) ++again;
  say("rewound after creation", again);
  ::rewinddir(dir);
  long removed = 0;
  while (const dirent* entry = ::readdir(dir)) {
    if (entry->d_name[0] != '.') removed += ::unlinkat(::dirfd(dir), entry->d_name, 0) == 0 ? 1 : 0;
  }
  say("removed while reading", removed);
  ::closedir(dir);
  say("empty now", outcome(::rmdir("big")));

  std::string deep = "deep";
  ::mkdir(deep.c_str(), 0755);
  for (int i = 0; i < 40; ++i) {
    deep += "/" + std::string(40, static_cast<char>('a' + i % 26));
    if (::mkdir(deep.c_str(), 0755) != 0) say("deep", outcome(-1));
  }
  write_file(deep + "/leaf", "bottom");
  say("deep leaf", read_file(deep + "/leaf"));
  say("deep rename", outcome(::rename("deep", "moved")));
  deep.replace(0, 4, "moved");
  say("deep leaf moved", read_file(deep + "/leaf"));
  struct stat before {
  }, after{};
  ::mkdir("times", 0755);
  const struct timespec old[2] = {{1000, 0}, {1000, 0}};
  ::utimensat(AT_FDCWD, "times", old, 0);
  ::stat("times", &before);
  write_file("times/f", "");
  ::stat("times", &after);
  say("creation touches directory", after.st_mtim.tv_sec > before.st_mtim.tv_sec);
  ::utimensat(AT_FDCWD, "times", old, 0);
  write_file("times/f", "more");
  ::stat("times", &after);
  say("writing does not", after.st_mtim.tv_sec == 1000);
  ::unlink("times/f");
  ::stat("times", &after);
  say("removal does", after.st_mtim.tv_sec > 1000);
  say("nlink", stat_line("times"));
  ::mkdir("times/sub", 0755);
  say("nlink with a subdirectory", stat_line("times"));
}

}  // namespace posix_check
