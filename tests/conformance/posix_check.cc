#include "tests/conformance/posix_check.h"

#include <fcntl.h>
#include <grp.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <sstream>

namespace posix_check {
namespace {
std::string g_section;
}

void section(const std::string& name) { g_section = name; }

void say(const std::string& what, const std::string& value) {
  std::printf("%s.%s = %s\n", g_section.c_str(), what.c_str(), value.c_str());
  std::fflush(stdout);
}
void say(const std::string& what, long long value) { say(what, std::to_string(value)); }

std::string outcome(long result) {
  if (result >= 0) return "ok";
  const char* name = ::strerrorname_np(errno);
  return name == nullptr ? "?" : name;
}

void write_file(const std::string& path, const std::string& text, int mode) {
  const int fd = ::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC, mode);
  if (fd < 0 || ::write(fd, text.data(), text.size()) != static_cast<ssize_t>(text.size())) {
    say("write_file " + path, outcome(-1));
  }
  ::close(fd);
}

std::string read_file(const std::string& path) {
  const int fd = ::open(path.c_str(), O_RDONLY);
  if (fd < 0) return outcome(-1);
  std::string text(1 << 20, '\0');
  const ssize_t n = ::read(fd, text.data(), text.size());
  if (n < 0) text = outcome(-1);
  if (n >= 0) text.resize(static_cast<size_t>(n));
  ::close(fd);
  return text;
}

std::string stat_line(const std::string& path) {
  struct stat st {};
  if (::lstat(path.c_str(), &st) != 0) return outcome(-1);
  char line[128];
  std::snprintf(line, sizeof line, "mode %o nlink %lu size %lld", st.st_mode,
                static_cast<unsigned long>(st.st_nlink),
                S_ISDIR(st.st_mode) ? 0LL : static_cast<long long>(st.st_size));
  return line;
}

bool is_root() { return ::geteuid() == 0; }

void in_child(const std::function<void()>& body) {
  std::fflush(stdout);
  const pid_t pid = ::fork();
  if (pid == 0) {
    body();
    std::fflush(stdout);
    ::_exit(0);
  }
  int status = 0;
  ::waitpid(pid, &status, 0);
  if (status != 0) say("child", "failed");
}

void as_user(unsigned uid, unsigned gid, const std::function<void()>& body) {
  in_child([&] {
    if (is_root() && (::setgroups(0, nullptr) != 0 || ::setgid(gid) != 0 || ::setuid(uid) != 0)) {
      say("as_user", outcome(-1));
    }
    body();
  });
}

}  // namespace posix_check

int main(int argc, char** argv) {
  if (argc != 2 || ::chdir(argv[1]) != 0 || ::mkdir("check", 0777) != 0 || ::chdir("check") != 0) {
    std::perror("usage: posix_check EMPTY_DIR");
    return 2;
  }
  ::umask(022);
  posix_check::check_names();
  posix_check::check_directories();
  posix_check::check_contents();
  posix_check::check_mappings();
  posix_check::check_permissions();
  return 0;
}
