#include "cli/views/trace_text.h"

#include <fcntl.h>
#include <fmt/format.h>

#include <cstring>
#include <tuple>

#include "cli/text.h"

namespace pcache::cli {
namespace {

constexpr size_t kWidest = 4000;

std::string mode_text(uint64_t flags) {
  std::string out = (flags & O_PATH) != 0             ? "path"
                    : (flags & O_ACCMODE) == O_RDONLY ? "read"
                    : (flags & O_ACCMODE) == O_WRONLY ? "write"
                                                      : "read-write";
  if ((flags & O_CREAT) != 0) out += ",create";
  if ((flags & O_EXCL) != 0) out += ",exclusive";
  if ((flags & O_TRUNC) != 0) out += ",truncate";
  if ((flags & O_APPEND) != 0) out += ",append";
  return out;
}

std::string path_text(const Json& event) {
  std::string out = printable(event.value("path", ""));
  if (out.empty() && event.contains("fd")) out = fmt::format("descriptor {}", event["fd"].dump());
  if (event.contains("ino")) out += fmt::format(" (inode {})", event["ino"].dump());
  return out;
}

std::string result_text(int64_t result) {
  if (result >= 0) return std::to_string(result);
  const char* name = ::strerrorname_np(static_cast<int>(-result));
  return name == nullptr ? std::to_string(result) : name;
}

std::string exec_text(const Json& event) {
  std::string out = printable(event.value("path", "")) + "  " +
                    command_text(event.value("argv", std::vector<std::string>()), kWidest) +
                    "  in " + printable(event.value("cwd", ""));
  const Json changed = event.value("env", Json::object());
  for (const auto& [name, value] : changed.items())
    out += value.is_null() ? "  -" + printable(name)
                           : "  " + printable(name) + "=" + printable(value.get<std::string>());
  return out;
}

// (what it does, to what) of a call that succeeded or failed.
std::pair<std::string, std::string> call_text(const Json& event) {
  const std::string what = event.value("what", "");
  const int64_t result = event.value("result", int64_t{0});
  const std::string path = path_text(event), second = printable(event.value("path2", ""));
  if (what == "open") {
    const uint64_t flags = event.value("flags", uint64_t{0});
    const bool creates = result >= 0 && (flags & O_CREAT) != 0 && !event.value("existed", true);
    return {creates ? "creates" : "opens", path + "  " + mode_text(flags)};
  }
  if (what == "read") return {"reads", path + fmt::format("  {} bytes", result)};
  if (what == "map") return {"maps", path};
  if (what == "write" || what == "send")
    return {"writes", path + fmt::format("  {} bytes", result)};
  if (what == "transfer")
    return {"copies", path + " -> " + second + fmt::format("  {} bytes", result)};
  if (what == "list") return {"lists", path};
  if (what == "remove") return {"removes", path};
  if (what == "rename") return {"renames", path + " -> " + second};
  if (what == "link") return {"links", path + " -> " + second};
  if (what == "symlink") return {"symlinks", path};
  if (what == "mkdir" || what == "mknod") return {"creates", path + "  " + what};
  if (what == "truncate") return {"modifies", path + "  truncate"};
  if (what == "attributes") return {"modifies", path + "  " + event.value("name", "")};
  if (what == "stat" || what == "access" || what == "readlink" || what == "fstat")
    return {what, path};
  return {event.value("name", "?"), path};
}

}  // namespace

bool TraceLog::wants(const Json& event) {
  if (all_ || event.value("ev", "") != "call") return true;
  if (event.value("result", int64_t{0}) < 0) return false;
  const std::string what = event.value("what", "");
  if (what == "read" || what == "write" || what == "send" || what == "map" || what == "list" ||
      what == "transfer") {
    const std::string key = fmt::format("{} {} {} {}", event.value("tid", 0), what,
                                        event.value("path", ""), event.value("path2", ""));
    return told_.insert(key).second;
  }
  return what == "open" || what == "remove" || what == "rename" || what == "link" ||
         what == "symlink" || what == "mkdir" || what == "mknod" || what == "truncate" ||
         what == "attributes" || what == "connect" || what == "bind";
}

std::string TraceLog::line(const Json& event) {
  const std::string kind = event.value("ev", "");
  std::string verb, rest;
  if (kind == "fork") {
    verb = event.value("thread", false) ? "threads" : "forks";
    rest = std::to_string(event.value("child", 0));
  } else if (kind == "exec") {
    verb = "execs";
    rest = exec_text(event);
  } else if (kind == "exit") {
    verb = "exits";
    rest = std::to_string(event.value("status", 0));
    if (!event.value("thread", false))
      rest += fmt::format("  {:.3f} s cpu", event.value("cpu_us", 0.0) / 1e6);
  } else {
    std::tie(verb, rest) = call_text(event);
    if (const int64_t result = event.value("result", int64_t{0}); result < 0)
      rest += "  " + result_text(result);
  }
  return fmt::format("{:11.6f} {:>7} {:<9} {}", event.value("t", 0.0) / 1e6, event.value("tid", 0),
                     verb, rest);
}

}  // namespace pcache::cli
