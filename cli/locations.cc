#include "cli/locations.h"

#include <fmt/format.h>
#include <pwd.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>

namespace pcache::cli {
namespace {

std::string environment(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? std::string() : std::string(value);
}

Result<std::string> cache_home() {
  std::string cache = environment("XDG_CACHE_HOME");
  if (!cache.empty() && cache[0] == '/') return cache;
  std::string home = environment("HOME");
  if (home.empty()) {
    const struct passwd* user = ::getpwuid(::getuid());
    if (user != nullptr && user->pw_dir != nullptr) home = user->pw_dir;
  }
  if (home.empty() || home[0] != '/') {
    return make_error(ErrorKind::kInvalid,
                      "no place for the cache: HOME is not set; set PCACHE_DIR to a directory");
  }
  return home + "/.cache";
}

uint64_t fnv1a(const std::string& text) {
  uint64_t hash = 0xcbf29ce484222325;
  for (const unsigned char c : text) hash = (hash ^ c) * 0x100000001b3;
  return hash;
}

}  // namespace

std::string Locations::unfinished(const std::string& mount) const {
  return fmt::format("{}/unfinished/{:016x}", dir, fnv1a(mount));
}

Result<Locations> Locations::find() {
  Locations found;
  std::string dir = environment("PCACHE_DIR");
  if (dir.empty()) {
    PCACHE_ASSIGN(const std::string cache, cache_home());
    dir = cache + "/pcache";
  }
  std::error_code error;
  std::filesystem::path absolute = std::filesystem::absolute(dir, error);
  if (error) return system_error("PCACHE_DIR " + dir, error.value());
  const std::filesystem::path real = std::filesystem::weakly_canonical(absolute, error);
  found.dir = (error ? absolute.lexically_normal() : real).string();
  while (found.dir.size() > 1 && found.dir.back() == '/') found.dir.pop_back();

  const std::string name = fmt::format("/pcache-{:016x}.sock", fnv1a(found.dir));
  const std::string runtime = environment("XDG_RUNTIME_DIR");
  struct stat st {};
  if (!runtime.empty() && runtime[0] == '/' &&
      runtime.size() + name.size() < sizeof(sockaddr_un::sun_path) &&
      ::stat(runtime.c_str(), &st) == 0 && S_ISDIR(st.st_mode) && st.st_uid == ::geteuid() &&
      ::access(runtime.c_str(), W_OK | X_OK) == 0) {
    found.socket = runtime + name;
  } else {
    found.socket = fmt::format("/tmp/pcache-{}{}", ::geteuid(), name);
    found.socket_in_tmp = true;
  }
  return found;
}

Result<void> check_private_dir(const std::string& dir) {
  struct stat st {};
  if (::lstat(dir.c_str(), &st) != 0) return system_error(dir);
  if (!S_ISDIR(st.st_mode) || st.st_uid != ::geteuid() || (st.st_mode & 077) != 0) {
    return make_error(ErrorKind::kInvalid,
                      dir +
                          " is not a private directory of yours (mode 0700): remove it, or set "
                          "XDG_RUNTIME_DIR");
  }
  return {};
}

bool is_inside(const std::string& path, const std::string& dir) {
  if (dir == "/") return !path.empty() && path[0] == '/';
  return path.compare(0, dir.size(), dir) == 0 &&
         (path.size() == dir.size() || path[dir.size()] == '/');
}

}  // namespace pcache::cli
