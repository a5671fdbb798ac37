#include "cli/views/census.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/socket.h>

#include <algorithm>

namespace pcache::cli {
namespace {

constexpr size_t kNamesShown = 5;

std::string base_name(const std::string& path) { return path.substr(path.rfind('/') + 1); }

// "read", "write create truncate"
std::string flags_text(uint64_t flags) {
  std::string out = (flags & O_ACCMODE) == O_RDONLY   ? "read"
                    : (flags & O_ACCMODE) == O_WRONLY ? "write"
                                                      : "read and write";
  if ((flags & O_PATH) != 0) out = "path only";
  struct Name {
    uint64_t flag;
    const char* text;
  };
  static constexpr Name kNames[] = {{O_CREAT, "create"},        {O_EXCL, "exclusive"},
                                    {O_TRUNC, "truncate"},      {O_APPEND, "append"},
                                    {O_DIRECTORY, "directory"}, {O_NOFOLLOW, "no links"}};
  for (const Name& name : kNames)
    if ((flags & name.flag) == name.flag) out += std::string(", ") + name.text;
  return out;
}

std::string family_text(int64_t family) {
  switch (family) {
    case AF_UNIX:
      return "unix";
    case AF_INET:
      return "inet";
    case AF_INET6:
      return "inet6";
    case AF_NETLINK:
      return "netlink";
    default:
      return fmt::format("family {}", family);
  }
}

bool is_file(const std::string& path) { return !path.empty() && path[0] == '/'; }

// As it was called: people know cc, not x86_64-linux-gnu-gcc-12.
std::string program_name(const Json& exec) {
  const auto argv = exec.value("argv", std::vector<std::string>());
  return base_name(argv.empty() || argv[0].empty() ? exec.value("path", "") : argv[0]);
}

using Rows = std::vector<std::vector<std::string>>;

void list_names(const std::set<std::string>& names, Rows* rows) {
  size_t shown = 0;
  for (const std::string& name : names) {
    if (shown++ == kNamesShown) {
      rows->push_back(
          {"", fmt::format("and {} more (--json lists them)", names.size() - kNamesShown)});
      return;
    }
    rows->push_back({"", printable(name)});
  }
}

}  // namespace

Census::Process& Census::process_of(const Json& event) {
  const int64_t tid = event.value("tid", int64_t{0});
  const auto thread = process_of_thread_.find(tid);
  return processes_[thread == process_of_thread_.end() ? tid : thread->second];
}

bool Census::is_above(uint64_t ancestor, uint64_t execution) const {
  for (auto at = executions_.find(execution); at != executions_.end();
       at = executions_.find(at->second.parent))
    if (at->second.parent == ancestor) return true;
  return false;
}

void Census::add(const Json& event) {
  const std::string kind = event.value("ev", "");
  if (kind == "fork") return add_fork(event);
  if (kind == "exec") return add_exec(event);
  if (kind == "exit") return add_exit(event);
  if (kind == "call") return add_call(event);
}

void Census::add_fork(const Json& event) {
  Process& parent = process_of(event);
  const int64_t child = event.value("child", int64_t{0});
  const int64_t tid = event.value("tid", int64_t{0});
  const auto thread = process_of_thread_.find(tid);
  const int64_t pid = thread == process_of_thread_.end() ? tid : thread->second;
  if (event.value("thread", false)) {
    ++threads_;
    process_of_thread_[child] = pid;
    return;
  }
  ++process_count_;
  ++without_exec_;
  const uint64_t execution = parent.execution;
  process_of_thread_.erase(child);
  processes_[child] = {pid, execution, false, 0};
}

void Census::add_exec(const Json& event) {
  Process& process = process_of(event);
  if (executions_.empty())
    ++process_count_;  // the command itself was not forked before our eyes
  else if (!process.execs)
    --without_exec_;
  process.execs = true;
  const uint64_t id = event.value("id", uint64_t{0});
  const uint64_t parent = event.value("parent", uint64_t{0});
  const auto above = executions_.find(parent);
  Execution execution{parent, above == executions_.end() ? 1 : above->second.depth + 1,
                      program_name(event)};
  depth_ = std::max(depth_, execution.depth);
  ++programs_[execution.program].executions;
  process.execution = id;
  executions_[id] = std::move(execution);
}

void Census::add_exit(const Json& event) {
  const int64_t tid = event.value("tid", int64_t{0});
  if (event.value("thread", false)) {
    process_of_thread_.erase(tid);
    return;
  }
  if (event.value("status", 0) != 0) ++failed_exits_;
  const auto found = processes_.find(tid);
  if (found == processes_.end()) return;
  const Process process = found->second;
  processes_.erase(found);
  const uint64_t cpu = event.value("cpu_us", uint64_t{0});
  const auto execution = executions_.find(process.execution);
  if (execution != executions_.end())
    programs_[execution->second.program].cpu_us += cpu - std::min(cpu, process.children_cpu_us);
  if (const auto parent = processes_.find(process.parent); parent != processes_.end())
    parent->second.children_cpu_us += cpu;
}

void Census::read_by(uint64_t execution, const std::string& path) {
  const auto writers = writers_.find(path);
  if (writers == writers_.end()) return;
  for (const uint64_t writer : writers->second)
    if (is_above(execution, writer)) read_by_parent_.insert(path);
}

void Census::add_open(const Json& event, const std::string& path, int64_t result) {
  const uint64_t flags = event.value("flags", uint64_t{0});
  ++opens_[flags_text(flags)];
  if (result < 0) return;
  const uint64_t execution = process_of(event).execution;
  opened_.insert(path);
  if (!is_file(path)) return;
  const bool writes = (flags & O_ACCMODE) != O_RDONLY;
  if ((flags & O_ACCMODE) != O_WRONLY && (flags & (O_TRUNC | O_PATH | O_DIRECTORY)) == 0)
    read_by(execution, path);
  if (writes && !path.starts_with("/dev/")) writers_[path].insert(execution);
  if ((flags & O_CREAT) != 0 && !event.value("existed", true)) created_.insert(path);
}

void Census::add_call(const Json& event) {
  const std::string what = event.value("what", "");
  const std::string path = event.value("path", "");
  const int64_t result = event.value("result", int64_t{0});
  if (event.value("at", false)) ++at_calls_;
  if (what == "open" || what == "stat" || what == "access" || what == "readlink" ||
      what == "exec" || what == "chdir") {
    LookUps& counts = look_ups_[what];
    ++counts.calls;
    if (result < 0) {
      ++counts.failed;
      not_found_.insert(path);
    } else if (what != "open") {
      looked_at_.insert(path);
    }
  }
  if (what == "open") return add_open(event, path, result);
  if (event.value("name", "").starts_with("socket"))
    ++sockets_[family_text(event.value("family", int64_t{0}))];
  if (what == "connect") ++connects_;
  if (result < 0) return;
  const auto bytes = static_cast<uint64_t>(result);
  if (what == "list") {
    ++listings_;
    listed_.insert(path);
  } else if (what == "read") {
    ++reads_;
    bytes_read_ += bytes;
  } else if (what == "write" || what == "send") {
    ++writes_;
    bytes_written_ += bytes;
  } else if (what == "transfer") {
    ++reads_, ++writes_;
    bytes_read_ += bytes;
    bytes_written_ += bytes;
  } else if (what == "map") {
    ++mapped_;
  } else if (what == "rename" || what == "remove" || what == "link" || what == "symlink" ||
             what == "mkdir" || what == "mknod" || what == "truncate" || what == "attributes") {
    ++changes_[what];
    const std::string target = event.value("path2", "");
    if (what == "rename") {
      if (const auto moved = writers_.extract(path); !moved.empty())
        writers_[target].merge(std::set<uint64_t>(moved.mapped()));
      writers_[target].insert(process_of(event).execution);
    }
    if (what == "truncate") writers_[path].insert(process_of(event).execution);
  }
}

Json Census::json() const {
  std::vector<std::string> stat_only, shared;
  std::set_difference(looked_at_.begin(), looked_at_.end(), opened_.begin(), opened_.end(),
                      std::back_inserter(stat_only));
  for (const auto& [path, writers] : writers_)
    if (writers.size() > 1) shared.push_back(path);
  Json look_ups = Json::object(), programs = Json::array();
  uint64_t calls = 0, failed = 0;
  for (const auto& [what, counts] : look_ups_) {
    look_ups[what] = {{"calls", counts.calls}, {"failed", counts.failed}};
    calls += counts.calls;
    failed += counts.failed;
  }
  std::vector<std::pair<std::string, Program>> by_cost(programs_.begin(), programs_.end());
  std::stable_sort(by_cost.begin(), by_cost.end(),
                   [](const auto& a, const auto& b) { return a.second.cpu_us > b.second.cpu_us; });
  for (const auto& [name, program] : by_cost)
    programs.push_back({{"program", name},
                        {"executions", program.executions},
                        {"cpu_s", static_cast<double>(program.cpu_us) / 1e6}});
  return {{"executions", executions_.size()},
          {"depth", depth_},
          {"processes", process_count_},
          {"processes_without_exec", without_exec_},
          {"threads", threads_},
          {"failed_exits", failed_exits_},
          {"look_ups", {{"calls", calls}, {"failed", failed}, {"by_kind", look_ups}}},
          {"paths_not_found", not_found_.size()},
          {"opens", opens_},
          {"created", created_.size()},
          {"stat_only_paths", stat_only},
          {"listings", {{"calls", listings_}, {"directories", listed_}}},
          {"at_calls_with_dirfd", at_calls_},
          {"changes", changes_},
          {"children_outputs_read_by_parent", read_by_parent_},
          {"written_by_more_than_one", shared},
          {"sockets", sockets_},
          {"connects", connects_},
          {"reads", reads_},
          {"bytes_read", bytes_read_},
          {"writes", writes_},
          {"bytes_written", bytes_written_},
          {"files_mapped", mapped_},
          {"programs", programs}};
}

std::string Census::table(const Painter& paint) const {
  const Json all = json();
  const auto number = [&](const char* name) {
    return std::to_string(all.value(name, uint64_t{0}));
  };
  std::string out;
  const auto section = [&](const char* title, const Rows& rows) {
    if (!rows.empty()) out += paint(Colour::kBold, title) + "\n" + aligned(rows, "  ");
  };
  section("Processes",
          {{"executions", number("executions"), "depth " + number("depth")},
           {"processes", number("processes"), number("processes_without_exec") + " without exec"},
           {"threads", number("threads")},
           {"ended with an error", number("failed_exits")}});
  Rows rows = {{"", "calls", "failed"}};
  const auto add_look_up = [&](const std::string& name, uint64_t calls, uint64_t failed) {
    const double share =
        calls == 0 ? 0 : 100.0 * static_cast<double>(failed) / static_cast<double>(calls);
    rows.push_back({name, std::to_string(calls), std::to_string(failed),
                    failed == 0 ? "" : fmt::format("{:.0f} %", share)});
  };
  uint64_t calls = 0, failed = 0;
  for (const auto& [what, counts] : look_ups_) {
    add_look_up(what, counts.calls, counts.failed);
    calls += counts.calls;
    failed += counts.failed;
  }
  add_look_up("all", calls, failed);
  section("Look-ups", rows);
  rows = {{"paths that are not there", number("paths_not_found")},
          {"paths only looked at", std::to_string(all["stat_only_paths"].size())},
          {"relative to a real dirfd", number("at_calls_with_dirfd")},
          {"listings (getdents)", std::to_string(listings_),
           counted(listed_.size(), "directory", "directories")}};
  section("Names", rows);
  rows.clear();
  for (const auto& [flags, count] : opens_) rows.push_back({flags, std::to_string(count)});
  if (!created_.empty()) rows.push_back({"files created", std::to_string(created_.size())});
  section("Opens", rows);
  rows = {{"read", format_bytes(bytes_read_), counted(reads_, "call", "calls")},
          {"written", format_bytes(bytes_written_), counted(writes_, "call", "calls")},
          {"files mapped", std::to_string(mapped_)}};
  section("Contents", rows);
  rows.clear();
  for (const auto& [what, count] : changes_) rows.push_back({what, std::to_string(count)});
  section("Changes", rows);
  rows.clear();
  rows.push_back(
      {"children's outputs that a parent reads", std::to_string(read_by_parent_.size())});
  list_names(read_by_parent_, &rows);
  std::set<std::string> shared;
  for (const auto& [path, writers] : writers_)
    if (writers.size() > 1) shared.insert(path);
  rows.push_back({"files written by more than one execution", std::to_string(shared.size())});
  list_names(shared, &rows);
  section("Between executions", rows);
  rows.clear();
  for (const auto& [family, count] : sockets_) rows.push_back({family, std::to_string(count)});
  if (connects_ > 0) rows.push_back({"connects", std::to_string(connects_)});
  section("Sockets", rows);
  rows = {{"", "runs", "cpu"}};
  for (const Json& program : all["programs"])
    rows.push_back({printable(program.value("program", "")),
                    std::to_string(program.value("executions", uint64_t{0})),
                    format_seconds(program.value("cpu_s", 0.0))});
  section("Programs, without their children", rows);
  return out;
}

}  // namespace pcache::cli
