// posix_check: does what programs do to files, in a directory of its own, and prints one line for
// each thing seen ("section.what = value"). Values never depend on the machine, the time or the
// inode numbers, so the same run in a mount and in a bare directory must print the same lines; that
// is the whole test.
#pragma once

#include <cerrno>
#include <cstring>
#include <functional>
#include <string>

namespace posix_check {

void section(const std::string& name);
void say(const std::string& what, const std::string& value);
void say(const std::string& what, long long value);
inline void say(const std::string& what, int value) { say(what, static_cast<long long>(value)); }
inline void say(const std::string& what, long value) { say(what, static_cast<long long>(value)); }
inline void say(const std::string& what, bool value) {
  say(what, std::string(value ? "yes" : "no"));
}
inline void say(const std::string& what, const char* value) { say(what, std::string(value)); }

// The outcome of a system call: "ok" or the errno's name.
std::string outcome(long result);

void write_file(const std::string& path, const std::string& text, int mode = 0644);
std::string read_file(const std::string& path);
std::string stat_line(const std::string& path);  // type, mode, nlink, size (not of directories)
// Runs `body` in a child with these ids (root only; as an ordinary user: as it is) and waits.
void as_user(unsigned uid, unsigned gid, const std::function<void()>& body);
void in_child(const std::function<void()>& body);
bool is_root();

void check_names();
void check_directories();
void check_contents();
void check_mappings();
void check_permissions();

}  // namespace posix_check
