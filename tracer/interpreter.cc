#include "tracer/interpreter.h"

#include <fcntl.h>

#include <cerrno>
#include <ctime>
#include <string_view>

namespace pcache::tracer {
namespace {

int64_t to_ns(const timespec& t) { return t.tv_sec * 1'000'000'000LL + t.tv_nsec; }

// How far a file's stamp may lie before the change it tells of.
int64_t clock_tick_ns() {
  static const int64_t tick = [] {
    timespec resolution{};
    ::clock_getres(CLOCK_REALTIME_COARSE, &resolution);
    return to_ns(resolution);
  }();
  return tick;
}

}  // namespace

Interpreter::Interpreter(std::mutex& lock, Lineage& lineage, Ledger& ledger, Resolver& resolver,
                         Spool& spool)
    : lock_(lock), lineage_(lineage), ledger_(ledger), resolver_(resolver), spool_(spool) {}

void Interpreter::drain() {
  if (asynchronous_ == nullptr || asynchronous_->drain()) return;
  ledger_.refuse_all("events-lost", "it looked up more than could be followed");
}

void Interpreter::on_observed(const CallEvent& event) {
  if (event.returned) {
    const auto call = told_.find(event.tid.value);
    if (call == told_.end() || call->second.number != event.number) return;
    const CallEvent told = std::move(call->second);
    told_.erase(call);
    return returned(told, *event.result);
  }
  Thread* thread = lineage_.thread(event.tid.value);
  if (thread == nullptr) return;
  Process& process = *thread->process;
  thread->big_write = false;
  if (process.replaying || process.execution->is_session()) return;
  const Caller caller{event.tid, process, *process.execution};
  const bool writes =
      event.row->meaning == Meaning::kWrite || event.row->meaning == Meaning::kWriteV;
  if ((event.unreadable && !writes) || event.below_fd) {
    ledger_.refuse(caller.e, "unreadable-process", "", "what it asks for can't be read", true);
    return;
  }
  const bool worked = *event.result >= 0;
  switch (event.row->meaning) {
    case Meaning::kHarmless:  // close
      return forget_descriptor(process, static_cast<int>(event.args[0]));
    case Meaning::kWrite:
    case Meaning::kWriteV:
      if (worked) written_above(caller, event);
      return;
    case Meaning::kOpen:
      if (worked) forget_descriptor(process, static_cast<int>(*event.result));  // it was free
      break;
    default:
      break;
  }
  dispatch(caller, event);
}

Answer Interpreter::on_call(const CallEvent& event) {
  const std::lock_guard guard(lock_);
  drain();
  Thread* thread = lineage_.thread(event.tid.value);
  if (thread == nullptr) return {};
  Process& process = *thread->process;
  thread->big_write = false;
  if (process.replaying) return {};
  Execution& e = *process.execution;
  ++e.stops;
  const Caller caller{event.tid, process, e};
  if (event.unreadable)
    ledger_.refuse(e, "unreadable-process", "", "what it asks for can't be read", true);
  if (event.foreign) {
    ledger_.refuse(e, "foreign-architecture", "", "a 32-bit or x32 system call", true);
    return {};
  }
  if (results_later_) {
    told_[event.tid.value] = event;
    const int fd = static_cast<int>(event.args[0]);
    // The copy may be written to before its result is seen.
    if (event.row->meaning == Meaning::kDup &&
        (process.tags.contains(fd) || process.inherited.contains(fd)))
      asynchronous_->mark(process.pid, ~uint64_t{0});
  }
  return dispatch(caller, event);
}

Answer Interpreter::dispatch(const Caller& c, const CallEvent& event) {
  // The client between its filter and its exec observes nothing, but says what it execs.
  if (c.e.is_session()) {
    if (event.row->meaning == Meaning::kExec) on_exec(c, event);
    return {};
  }
  switch (event.row->meaning) {
    case Meaning::kHarmless:
      return {};
    case Meaning::kOpen: {
      const uint64_t flags = open_flags(event);
      if ((flags & (O_ACCMODE | O_CREAT | O_TRUNC)) == 0)
        on_open_read(c, event, flags);
      else
        return before_change_call(c, event);
      return {};
    }
    case Meaning::kOpen2:
      return before_change_call(c, event);
    case Meaning::kStat:
      on_stat(c, event);
      return {};
    case Meaning::kAccess:
      on_access(c, event);
      return {};
    case Meaning::kReadLink:
      on_read_link(c, event);
      return {};
    case Meaning::kExec:
      on_exec(c, event);
      return {};
    case Meaning::kChdir:
      on_chdir(c, event);
      return {};
    case Meaning::kStatfs:
      on_statfs(c, event);
      return {};
    case Meaning::kGetXattr:
      on_xattr(c, event, false);
      return {};
    case Meaning::kListXattr:
      on_xattr(c, event, true);
      return {};
    case Meaning::kGetDents:
      on_getdents(c, event);
      return {};
    case Meaning::kGetCwd:
      // A shell asks where PWD does not say; whether it tells anyone, its script says.
      if (!store::ignores_cwd(c.e.image_name) && !store::is_shell(c.e.image_name) &&
          store::TreePath::from_absolute(cwd_of(c), ledger_.observer().tree().root()).in_root())
        ledger_.bind_to_root(c.e, c.e.image_name + " asked for its working directory");
      return {};
    case Meaning::kResize:
      refuse_stream_users(c, static_cast<int>(event.args[0]), "stream-seeked",
                          "it resized the file behind a standard stream");
      refuse_inherited_users(c, static_cast<int>(event.args[0]), "writes-inherited",
                             "it resized an inherited file");
      return {};
    case Meaning::kFchdir:
      refuse_inherited_users(c, static_cast<int>(event.args[0]), "inherited-descriptor",
                             "it went to an inherited directory");
      if (results_later_) going_to_[c.tid.value] = fd_link(c.tid, static_cast<int>(event.args[0]));
      if (event.args[0] == 0) stdin_used(c.process, 0);
      return {};
    case Meaning::kMap:
      if ((event.args[3] & 0x20) != 0) return {};  // MAP_ANONYMOUS
      [[fallthrough]];
    case Meaning::kRead:
      if (event.row->name == "lseek" && event.args[0] != 0) {
        on_seek(c, event);
        return {};
      }
      // Where it stands is asked by every coreutils program as it closes stdin; that is no use of
      // it.
      if (event.row->name == "lseek" && event.args[1] == 0 && event.args[2] == SEEK_CUR) return {};
      stdin_used(c.process,
                 event.row->meaning == Meaning::kMap ? 0 : static_cast<int>(event.args[0]));
      if (event.row->meaning == Meaning::kRead)
        refuse_inherited_users(c, static_cast<int>(event.args[0]), "reads-inherited",
                               "it read descriptor " + std::to_string(event.args[0]));
      return {};
    case Meaning::kFstat:
      descriptor_examined(c, event);
      return {};
    case Meaning::kWrite:
    case Meaning::kWriteV:
      on_write(c, event);
      return {};
    case Meaning::kSend:
      on_send(c, event);
      return {};
    case Meaning::kTransfer:
      return on_transfer(c, event);
    case Meaning::kDup:
      return {};  // its result says what it did
    case Meaning::kIoctl:
      on_ioctl(c, event);
      return {};
    case Meaning::kConnect:
      on_connect(c, event);
      return {};
    case Meaning::kBind:
      before_bind(c, event);
      return {};
    case Meaning::kAccept:
      // Who called is asked of the socket, which may be gone when a result is told late.
      if (results_later_) ledger_.refuse(c.e, "socket", "", "it accepted a connection", true);
      return {};
    case Meaning::kSharedMemory:
      before_shared_memory(c, event);
      return {};
    case Meaning::kSignal:
      on_signal(c, event);
      return {};
    case Meaning::kRandom:
      on_random(c, event);
      return {};
    case Meaning::kClock:  // told where strict_clock is set
      ledger_.refuse(c.e, "clock-read", "",
                     c.e.image_name + " read the clock (" + std::string(event.row->name) + ")",
                     true);
      return {};
    case Meaning::kAffinity:
      on_affinity(c);
      return {};
    case Meaning::kClone3:
      on_clone3(c, event);
      return {};
    case Meaning::kSetId:
      // Only root can really change them; what it then creates belongs to somebody else.
      if (::geteuid() == 0 && event.args[0] != 0 && static_cast<int32_t>(event.args[0]) != -1)
        ledger_.refuse(c.e, "changes-user", "", std::string(event.row->name), true);
      return {};
    case Meaning::kPrctl:
      if (event.args[1] == 0)
        ledger_.refuse(c.e, "unreadable-process", "", "it made itself unreadable", true);
      return {};
    case Meaning::kRefused:
      ledger_.refuse(c.e, std::string(event.row->why), "", std::string(event.row->name), true);
      return {};
    case Meaning::kUnknown:
      ledger_.refuse(c.e, "unknown-syscall", "", "number " + std::to_string(event.number), true);
      return {};
    default:
      return before_change_call(c, event);
  }
}

// Kept from call to call: an event may be looked at when its process is gone already.
const std::string& Interpreter::cwd_of(const Caller& c) const {
  if (c.process.cwd.empty()) c.process.cwd = proc_link(c.tid, "cwd");
  return c.process.cwd;
}

std::optional<std::string> Interpreter::base_of(const Caller& c, const CallEvent& event,
                                                const PathArg& arg,
                                                const std::optional<std::string>& path) const {
  if (path && path->starts_with('/')) return std::string("/");
  if (arg.dirfd < 0) return cwd_of(c);
  const int dirfd = static_cast<int>(event.args[static_cast<size_t>(arg.dirfd)]);
  return dirfd == AT_FDCWD ? cwd_of(c) : fd_link(event.tid, dirfd);
}

Resolved Interpreter::resolve(Tid tid, Process& process, const std::string& base,
                              const std::string& path, bool follow) {
  Resolved at = resolver_.resolve(base, path, follow, process.own_pid);
  // Magic links lead to what the process holds: follow them as the kernel does.
  constexpr int kMaxJumps = 8;
  for (int jump = 0; at.pseudo && jump < kMaxJumps; ++jump) {
    static constexpr std::string_view kSelf = "/proc/self/";
    const std::string& text = at.path.text;
    if (!text.starts_with(kSelf)) return at;
    size_t end = text.find('/', kSelf.size());
    std::string link_name = text.substr(kSelf.size(), end - kSelf.size());
    if (link_name == "fd" && end != std::string::npos) {
      end = text.find('/', end + 1);
      link_name = text.substr(kSelf.size(), end == std::string::npos ? end : end - kSelf.size());
    }
    const bool last = end == std::string::npos;
    const bool is_fd = link_name.starts_with("fd/");
    if (!is_fd && link_name != "cwd" && link_name != "root" && link_name != "exe") return at;
    if (last && !follow) return at;  // readlink
    if (last && is_fd) {
      const int fd = std::atoi(link_name.c_str() + 3);
      if (process.tags.contains(fd) || process.inherited.contains(fd)) return at;
    }
    const std::string target = proc_link(tid, link_name);
    if (!target.starts_with('/') || target.ends_with(" (deleted)") || target.starts_with("/memfd:"))
      return at;
    Resolved next =
        resolver_.resolve("/", target + (last ? "" : text.substr(end)), follow, process.own_pid);
    next.links.insert(next.links.begin(), at.links.begin(), at.links.end());
    next.left_directories.insert(next.left_directories.end(), at.left_directories.begin(),
                                 at.left_directories.end());
    next.way = 0;
    at = std::move(next);
  }
  return at;
}

std::optional<Resolved> Interpreter::resolve_arg(const Caller& c, const CallEvent& event,
                                                 bool second, bool follow) {
  const PathArg& arg = second ? event.row->second : event.row->first;
  const std::optional<std::string>& path = second ? event.second : event.first;
  if (!path) return std::nullopt;  // EFAULT
  const std::optional<std::string> base = base_of(c, event, arg, path);
  if (arg.dirfd >= 0 && !path->starts_with('/')) {
    const int dirfd = static_cast<int>(event.args[static_cast<size_t>(arg.dirfd)]);
    refuse_inherited_users(c, dirfd, "inherited-descriptor",
                           "it looked below descriptor " + std::to_string(dirfd));
    if (dirfd == 0) stdin_used(c.process, 0);
  }
  if (!base->starts_with('/') || base->ends_with(" (deleted)")) {
    if (!base->empty() || event.result)
      ledger_.refuse(c.e, "unnamed-directory", "", "a path relative to " + *base, true);
    return std::nullopt;
  }
  Resolved at = resolve(c.tid, c.process, *base, *path, follow);
  if (at.own_view) refuse_view(c.e, at.path);
  if (event.result) check_answer(c, event, at);
  return at;
}

void Interpreter::refuse_view(Execution& e, const store::TreePath& path) {
  ledger_.refuse(e, "pseudo-file", path.text, "it is pcache's own view of what it does", true);
}

bool Interpreter::in_own_view(const store::TreePath& path) const {
  const std::string_view text = path.text;
  return path.in_root() && text.starts_with(store::kOwnView) &&
         (text.size() == store::kOwnView.size() || text[store::kOwnView.size()] == '/') &&
         ledger_.observer().tree().shows_own_view();
}

// The source reports a call some milliseconds after it. What the session's own commands change they
// change after a drain; who changed something at that very moment shows by another answer, or, if
// it is somebody else, by a younger stamp.
void Interpreter::check_answer(const Caller& c, const CallEvent& event, const Resolved& at) {
  if (at.pseudo) return;
  const auto missing = [](int64_t err) { return err == ENOENT || err == ENOTDIR; };
  const int64_t told = *event.result < 0 ? -*event.result : 0;
  // O_DIRECTORY finds a file, and is told ENOTDIR.
  bool differs = missing(told) != missing(at.err) &&
                 !(told == ENOTDIR && at.err == 0 && !S_ISDIR(at.st.st_mode));
  if (!differs && at.err == 0 && S_ISREG(at.st.st_mode) &&
      !ledger_.changed_by_command(c.e, at.path, at.st)) {
    timespec now{};
    ::clock_gettime(CLOCK_MONOTONIC, &now);
    const int64_t called_ns = store::realtime_ns() - (to_ns(now) - event.time_ns);
    differs = to_ns(at.st.st_ctim) + clock_tick_ns() > called_ns;
  }
  if (differs) ledger_.refuse_looks(c.e, at.path, at.st);
}

std::optional<Resolved> Interpreter::resolve_fd(const Caller& c, int fd) {
  const std::string link = fd_link(c.tid, fd);
  if (classify(link) != FdKind::kFile || link.ends_with(" (deleted)") ||
      link.starts_with("/memfd:"))
    return std::nullopt;
  Resolved resolved;
  resolved.path = store::TreePath::from_absolute(link, ledger_.observer().tree().root());
  if (in_own_view(resolved.path)) {
    refuse_view(c.e, resolved.path);
    resolved.own_view = resolved.pseudo = true;
    return resolved;
  }
  resolved.err = ledger_.observer().stat(resolved.path, &resolved.st);
  return resolved;
}

// A compiler asks the same thing hundreds of times: 1023 readlinks, most of them about five paths.
bool Interpreter::nothing_new(const Caller& c, const CallEvent& event, uint64_t salt) {
  if (!event.first) return true;
  if (event.first->starts_with("/dev/")) return false;  // opened twice is another thing than once
  if (c.e.imports) return false;                        // the order of its calls counts
  const std::optional<std::string> base = base_of(c, event, event.row->first, event.first);
  store::Hasher question;
  question.add(*base).add(*event.first).add(resolver_.generation());
  question.add(salt).add(static_cast<uint64_t>(event.row->meaning));
  return !c.e.memo.insert(question.finish()).second;
}

void Interpreter::observe_way(Execution& e, const Resolved& resolved) {
  // A shell looks whether PWD is its cwd; that alone says nothing that another root would not.
  if (resolved.names_root && !store::ignores_cwd(e.image_name) && !e.is_session() &&
      !(store::is_shell(e.image_name) &&
        resolved.path == store::TreePath::from_absolute(e.cwd, ledger_.observer().tree().root())))
    ledger_.bind_to_root(e, e.image_name + " named " +
                                resolved.path.absolute(ledger_.observer().tree().root()) +
                                " absolutely");
  if (resolved.way != 0 && !e.ways.insert(resolved.way).second) return;
  using store::FactKey;
  using store::FactKind;
  using store::FactValue;
  for (const CrossedLink& link : resolved.links) {
    FactValue value;
    value.text = link.target;
    ledger_.observe(e, FactKey{FactKind::kLink, link.path, 0, {}}, std::move(value));
  }
  for (const store::TreePath& directory : resolved.left_directories) {
    struct stat st {};
    FactValue value;
    value.err = ledger_.observer().stat(directory, &st);
    if (value.err == 0) value = store::Observer::kind_value(st);
    ledger_.observe(e, FactKey{FactKind::kKind, directory, 0, {}}, std::move(value));
  }
}

}  // namespace pcache::tracer
