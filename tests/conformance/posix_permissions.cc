// Who may do what, who owns what is created, and setuid bits. Most of it needs root to become
// others; an ordinary user sees the refusals.
#include <fcntl.h>
#include <grp.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "tests/conformance/posix_check.h"

namespace posix_check {
namespace {

std::string owner(const std::string& path) {
  struct stat st {};
  if (::lstat(path.c_str(), &st) != 0) return outcome(-1);
  char line[64];
  std::snprintf(line, sizeof line, "%u:%u %o", st.st_uid, st.st_gid, st.st_mode & 07777);
  return line;
}

void check_refusals() {
  section("refused");
  write_file("secret", "s", 0600);
  ::mkdir("closed", 0700);
  write_file("closed/in", "i");
  write_file("readonly", "r", 0444);
  ::mkdir("rodir", 0555);
  ::chmod(".", 0777);
  as_user(2001, 2001, [] {
    say("read", outcome(::open("secret", O_RDONLY)));
    say("search", outcome(::open("closed/in", O_RDONLY)));
    say("list", outcome(::open("closed", O_RDONLY | O_DIRECTORY)));
    say("write", outcome(::open("readonly", O_WRONLY)));
    say("create", outcome(::open("rodir/new", O_CREAT | O_WRONLY, 0644)));
    say("mkdir", outcome(::mkdir("rodir/new", 0755)));
    say("unlink", outcome(::unlink("rodir/none")));
    say("chmod", outcome(is_root() ? 0 : ::chown("readonly", 0, 0)));
    say("access read", outcome(::access("readonly", R_OK)));
    say("access write", outcome(::access("readonly", W_OK)));
    say("exec", outcome(::access("readonly", X_OK)));
  });
  if (!is_root()) return;
  as_user(2001, 2001, [] {
    say("chmod foreign", outcome(::chmod("readonly", 0666)));
    say("chown foreign", outcome(::chown("readonly", 2001, 2001)));
    say("utimes foreign", outcome(::utimensat(AT_FDCWD, "readonly", nullptr, 0)));
    const struct timespec times[2] = {{1, 1}, {1, 1}};
    say("utimes set foreign", outcome(::utimensat(AT_FDCWD, "readonly", times, 0)));
    say("truncate foreign", outcome(::truncate("readonly", 0)));
    say("xattr foreign", outcome(::setxattr("readonly", "user.x", "1", 1, 0)));
  });
}

void check_ownership() {
  section("owner");
  as_user(2001, 2002, [] {
    write_file("theirs", "t");
    say("file", owner("theirs"));
    ::mkdir("theirdir", 0755);
    say("dir", owner("theirdir"));
    ::symlink("x", "theirlink");
    say("link", owner("theirlink"));
    ::mkfifo("theirfifo", 0600);
    say("fifo", owner("theirfifo"));
    say("give away", outcome(::chown("theirs", 2003, 2003)));
    say("own group", outcome(::chown("theirs", -1, 2002)));
    say("chmod own", outcome(::chmod("theirs", 0640)));
    const int fd = ::open("noaccess", O_CREAT | O_RDWR, 0);
    say("mode 0 write", outcome(::write(fd, "z", 1)));
    say("mode 0 ftruncate", outcome(::ftruncate(fd, 0)));
    say("mode 0 again", outcome(::open("noaccess", O_RDONLY)));
  });
  ::mkdir("shared", 0777);
  ::chown("shared", 0, 2005);
  ::chmod("shared", 02777);
  as_user(2001, 2002, [] {
    write_file("shared/f", "");
    say("setgid directory", owner("shared/f"));
    ::mkdir("shared/d", 0755);
    say("setgid inherited", owner("shared/d"));
  });
  if (!is_root()) return;
  in_child([] {
    const gid_t groups[] = {2005};
    ::setgroups(1, groups);
    ::setgid(2002);
    ::setuid(2001);
    ::mkdir("shared/bygroup", 02775);
    write_file("shared/grp", "", 0755);
    say("supplementary chgrp", outcome(::chown("shared/grp", -1, 2005)));
    say("supplementary setgid", outcome(::chmod("shared/grp", 02755)));
    say("kept", owner("shared/grp"));
  });
  as_user(2001, 2002, [] {
    write_file("notmember", "", 0755);
    say("setgid own group", outcome(::chmod("notmember", 02755)));
    say("own group kept", owner("notmember"));
  });
  ::chown("notmember", 2001, 2007);
  as_user(2001, 2002, [] {
    say("setgid foreign group", outcome(::chmod("notmember", 02755)));
    say("foreign group cleared", owner("notmember"));
  });
  ::mkdir("sticky", 0777);
  ::chmod("sticky", 01777);
  as_user(2001, 2001, [] { write_file("sticky/mine", "m", 0666); });
  as_user(2002, 2002, [] {
    say("sticky unlink", outcome(::unlink("sticky/mine")));
    say("sticky rename", outcome(::rename("sticky/mine", "sticky/yours")));
    say("sticky write", outcome(::open("sticky/mine", O_WRONLY)));
  });
  as_user(2001, 2001, [] { say("sticky own", outcome(::unlink("sticky/mine"))); });
}

void check_setuid_bits() {
  section("setuid");
  // An owner's own write clears the bits too, unless root does it.
  const auto make = [](const char* name) {
    write_file(name, "suid", 0777);
    if (is_root()) ::chown(name, 2001, 2001);
    ::chmod(name, 06777);
  };
  make("s1");
  make("s2");
  make("s3");
  make("s4");
  make("s5");
  say("set", stat_line("s1"));
  as_user(2002, 2002, [] {
    const int fd = ::open("s1", O_WRONLY);
    say("write", outcome(::pwrite(fd, "x", 1, 0)));
    ::close(fd);
    say("truncate", outcome(::truncate("s2", 1)));
    say("O_TRUNC", outcome(::open("s3", O_WRONLY | O_TRUNC)));
    const int f5 = ::open("s5", O_RDWR);
    say("ftruncate", outcome(::ftruncate(f5, 2)));
  });
  say("after write", stat_line("s1"));
  say("after truncate", stat_line("s2"));
  say("after O_TRUNC", stat_line("s3"));
  say("after ftruncate", stat_line("s5"));
  say("chown", outcome(::chown("s4", -1, ::getegid())));
  say("after chown", stat_line("s4"));
  if (!is_root()) return;
  section("acl");
  // user::rw-, user:2001:rw-, group::r--, mask::rw-, other::---
  const unsigned char acl[] = {2,  0, 0, 0,                        // version
                               1,  0, 6, 0, 255,  255, 255, 255,   // owner
                               2,  0, 6, 0, 0xd1, 7,   0,   0,     // user 2001
                               4,  0, 4, 0, 255,  255, 255, 255,   // group
                               16, 0, 6, 0, 255,  255, 255, 255,   // mask
                               32, 0, 0, 0, 255,  255, 255, 255};  // other
  write_file("acl", "a", 0600);
  say("set", outcome(::setxattr("acl", "system.posix_acl_access", acl, sizeof acl, 0)));
  say("mode", stat_line("acl"));
  as_user(2001, 2001, [] { say("named user", outcome(::open("acl", O_RDWR))); });
  as_user(2002, 2002, [] { say("another", outcome(::open("acl", O_RDONLY))); });
  ::chmod("acl", 0600);
  as_user(2001, 2001, [] { say("masked by chmod", outcome(::open("acl", O_RDONLY))); });
  ::mkdir("acldir", 0755);
  say("default", outcome(::setxattr("acldir", "system.posix_acl_default", acl, sizeof acl, 0)));
  ::umask(077);
  write_file("acldir/f", "", 0666);
  ::mkdir("acldir/d", 0777);
  ::umask(022);
  say("inherits, umask unused", stat_line("acldir/f"));
  say("directory inherits", stat_line("acldir/d"));
  unsigned char got[sizeof acl] = {};
  say("of the file",
      static_cast<long>(::getxattr("acldir/f", "system.posix_acl_access", got, sizeof got)));
}

}  // namespace

void check_permissions() {
  check_refusals();
  check_ownership();
  check_setuid_bits();
}

}  // namespace posix_check
