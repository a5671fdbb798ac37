// Calls that look: open for reading, stat, access, readlink, exec, chdir, listings, attributes.
#include <elf.h>
#include <fcntl.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <string_view>

#include "tracer/interpreter.h"

namespace pcache::tracer {

using store::FactKey;
using store::FactKind;
using store::FactValue;
using store::Observer;

namespace {

// design.md section 4, rule 11: files that are not like others.
constexpr std::array<std::string_view, 3> kFactlessDevices = {"/dev/null", "/dev/zero",
                                                              "/dev/full"};
// Below /proc: what changes only with the machine, as content; what speaks of the process itself,
// not at all.
constexpr std::array<std::string_view, 8> kProcByContent = {
    "/proc/cpuinfo", "/proc/meminfo", "/proc/filesystems", "/proc/version",
    "/proc/sys/",    "/proc/devices", "/proc/cmdline",     "/proc/modules"};

// What a process reads of itself that another run would find as well, or that tells nothing.
constexpr std::array<std::string_view, 14> kOwnProcFiles = {
    "/proc/self",         "/proc/self/maps",         "/proc/self/smaps",   "/proc/self/stat",
    "/proc/self/statm",   "/proc/self/status",       "/proc/self/cmdline", "/proc/self/auxv",
    "/proc/self/comm",    "/proc/self/cgroup",       "/proc/self/fd",      "/proc/self/task",
    "/proc/self/environ", "/proc/self/oom_score_adj"};

// "file/": ENOTDIR, because of what kind `file` is.
bool is_no_directory(const Resolved& resolved) {
  return resolved.err == ENOTDIR && resolved.trailing_slash && resolved.st.st_mode != 0;
}

// "d/__pycache__/m.cpython-311.pyc" → "d/m.py"; nothing for other paths (rule 13).
std::optional<store::TreePath> cached_module(const store::TreePath& path) {
  static constexpr std::string_view kCache = "/__pycache__/";
  const std::string text = "/" + path.text;
  const size_t at = text.rfind(kCache);
  if (at == std::string::npos) return std::nullopt;
  const std::string name = text.substr(at + kCache.size());
  const size_t dot = name.find('.');
  if (dot == std::string::npos) return std::nullopt;
  const std::string module = text.substr(0, at) + "/" + name.substr(0, dot) + ".py";
  return store::TreePath{path.in_root() ? module.substr(1)
                                        : module.substr(module.starts_with("//") ? 1 : 0)};
}

bool chooses_hash_seed(const Execution& e) {
  return std::any_of(e.image.env.begin(), e.image.env.end(), [](const std::string& variable) {
    return variable.starts_with("PERL_HASH_SEED=");
  });
}

bool starts_with_any(std::string_view path, std::span<const std::string_view> prefixes) {
  return std::any_of(prefixes.begin(), prefixes.end(),
                     [&](std::string_view p) { return path.starts_with(p); });
}

}  // namespace

Interpreter::Special Interpreter::special(const Caller& c, const Resolved& resolved, bool opens,
                                          bool writes, bool startup_tty_open) {
  const std::string& path = resolved.path.text;
  if (resolved.own_view) return Special::kHandled;
  // Links that lead in a circle: each of them is a fact already, and there is nothing behind them.
  if (resolved.err == ELOOP && !resolved.links.empty()) return Special::kNoFact;
  if (path.starts_with("/proc/")) {
    if (path.starts_with("/proc/self/fd/") && opens) {
      const int fd = std::atoi(path.c_str() + 14);
      const std::string link = fd_link(c.tid, fd);
      const FdKind kind = classify(link);
      if (kind == FdKind::kNull || kind == FdKind::kClosed) return Special::kNoFact;
      if (kind == FdKind::kFile && !c.process.tags.contains(fd)) return Special::kOrdinary;
      if (c.process.tags.contains(fd) && c.process.tags[fd]->link == link) {
        if (fd == 0 && !writes)
          stdin_used(c.process, 0);
        else
          ledger_.refuse(c.e, "stream-reopened", "", path + " was opened by name", true);
      } else if (c.process.inherited.contains(fd)) {
        ledger_.refuse(c.e, "reads-pipe", "", path + " was handed to it", false);
      }
      return Special::kHandled;
    }
    if (writes) {
      ledger_.refuse(c.e, "pseudo-file", path, "it was written", true);
      return Special::kHandled;
    }
    if (path.starts_with("/proc/self/fd/") && path.size() > 14) {
      // [ -p /dev/stdin ], stat -L /dev/stdout
      const int fd = std::atoi(path.c_str() + 14);
      if (fd == 0)
        stdin_used(c.process, 0);
      else if (c.process.tags.contains(fd))
        refuse_stream_users(c, fd, "stream-examined", path + " was looked at by name");
      return Special::kHandled;
    }
    // Whether a process is alive is known of oneself only.
    if (path.size() > 6 && path[6] >= '0' && path[6] <= '9') {
      ledger_.refuse(c.e, "pseudo-file", path, "it tells of another process", true);
      return Special::kHandled;
    }
    // What keys leave out of the environment stands there too.
    if (path == "/proc/self/environ" && opens)
      environment_read(c.e, {.whole = true, .jobs = true, .names = {}});
    if (std::find(kOwnProcFiles.begin(), kOwnProcFiles.end(), path) != kOwnProcFiles.end() ||
        !opens)
      return Special::kNoFact;
    if (starts_with_any(path, kProcByContent)) return Special::kPseudo;
    ledger_.refuse(c.e, "pseudo-file", path, "its content changes by itself", true);
    return Special::kHandled;
  }
  if (path.starts_with("/sys/")) {
    if (!writes) return Special::kPseudo;
    ledger_.refuse(c.e, "pseudo-file", path, "it was written", true);
    return Special::kHandled;
  }
  if (!path.starts_with("/dev/") || path.starts_with("/dev/shm/") || !opens)
    return Special::kOrdinary;
  if (std::find(kFactlessDevices.begin(), kFactlessDevices.end(), path) != kFactlessDevices.end())
    return Special::kNoFact;
  if (path == "/dev/urandom" || path == "/dev/random") {
    // Compilers read eight bytes to name local symbols, and name none.
    // perl seeds its hashes and its own generator from it at start-up, the first only where nobody
    // chose the seed; when it is asked for random numbers it comes again.
    if (c.e.image_name == "perl" && c.e.random_opens++ < (chooses_hash_seed(c.e) ? 1 : 2))
      return Special::kHandled;
    if (!store::ignores_cwd(c.e.image_name))
      ledger_.refuse(c.e, "random", path, "it may have read random bytes",
                     c.e.image_name != "mktemp");
    return Special::kHandled;
  }
  if (resolved.err == 0 && S_ISDIR(resolved.st.st_mode)) return Special::kOrdinary;
  // bash looks at it once at start-up and closes it.
  if (path == "/dev/tty" && c.e.image_name == "bash" && startup_tty_open) return Special::kNoFact;
  if (resolved.err != 0) return Special::kOrdinary;
  ledger_.refuse(c.e, path == "/dev/tty" ? "reads-terminal" : "device", path, "it was opened",
                 true);
  return Special::kHandled;
}

void Interpreter::observe_kind(const Caller& c, const Resolved& resolved) {
  FactValue value;
  value.err = resolved.err;
  if (value.err == 0 || is_no_directory(resolved)) value = Observer::kind_value(resolved.st);
  ledger_.observe(c.e, FactKey{FactKind::kKind, resolved.path, 0, {}}, std::move(value),
                  asker_of(c.e));
}

void Interpreter::observe_identity(const Caller& c, const Resolved& resolved) {
  if (c.e.mtime_ignored || is_no_directory(resolved)) return observe_kind(c, resolved);
  const uint32_t param =
      c.e.directory_times ? store::kWithMtime | store::kWithDirMtime : store::kWithMtime;
  if (resolved.err == 0) {
    ledger_.observe_identity(c.e, resolved.path, param, resolved.st, asker_of(c.e));
    return;
  }
  FactValue value;
  value.err = resolved.err;
  ledger_.observe(c.e, FactKey{FactKind::kIdentity, resolved.path, param, {}}, std::move(value),
                  asker_of(c.e));
}

bool Interpreter::python_cache(const Caller& c, const Resolved& resolved) {
  if (c.e.image_name != "python") return false;
  const std::string& text = resolved.path.text;
  if (!c.e.compiles_python && (text == "__pycache__" || text.ends_with("/__pycache__")))
    return true;
  const std::optional<store::TreePath> module = cached_module(resolved.path);
  if (!module || c.e.compiles_python) return false;
  if (module->name() == "compileall.py" || module->name() == "py_compile.py")
    c.e.compiles_python = true;
  // The source may be a link: /usr/lib/python3/sitecustomize.py leads into /etc on Debian.
  Resolved source =
      resolve(c.tid, c.process, "/", module->absolute(ledger_.observer().tree().root()), true);
  source.names_root = false;                           // that was us
  if (source.err != 0 || source.pseudo) return false;  // imported without a source
  // The module's content is the fact; python's look at its mtime was about the cache.
  observe_way(c.e, source);
  python_source(c, source);
  ledger_.observe_content(c.e, source.path, 0, source.st);
  ledger_.forget_identity(c.e, source.path, Asker::kPython);
  return true;
}

void Interpreter::observe_opened(const Caller& c, const Resolved& resolved) {
  const mode_t mode = resolved.st.st_mode;
  if (is_no_directory(resolved)) return observe_kind(c, resolved);
  if (resolved.err == 0 && S_ISDIR(mode)) observe_kind(c, resolved);  // fstat shows its mode
  if (resolved.err == 0 && !S_ISREG(mode) && !S_ISDIR(mode)) {
    if (S_ISFIFO(mode)) {
      ledger_.refuse(c.e, "fifo", resolved.path.text, "it was opened", true);
    } else if (S_ISLNK(mode)) {
      observe_kind(c, resolved);  // O_NOFOLLOW: ELOOP
    } else {
      ledger_.refuse(c.e, "device", resolved.path.text, "it was opened", true);
    }
    return;
  }
  // Readable by everyone is readable; else ask, with the caller's credentials.
  if (resolved.err == 0 && ::geteuid() != 0 && (mode & 0444) != 0444) {
    FactValue value =
        ledger_.observer().observe(FactKey{FactKind::kContent, resolved.path, 0, {}}, {});
    if (value.err != 0) {
      ledger_.observe(c.e, FactKey{FactKind::kContent, resolved.path, 0, {}}, std::move(value));
      return;
    }
  }
  ledger_.observe_content(c.e, resolved.path, resolved.err, resolved.st, asker_of(c.e));
  // Programs that keep mtimes take them from an fstat as well.
  if (resolved.err == 0 && c.e.mtime_matters) observe_identity(c, resolved);
}

// "/dev/fd/5", told after the fact, when it may be closed: what it was can only be known of a
// stream.
bool Interpreter::opened_too_long_ago(const Caller& c, const Resolved& at) {
  const int fd = std::atoi(at.path.text.c_str() + std::strlen("/proc/self/fd/"));
  if (!fd_link(c.tid, fd).empty()) return false;
  if (c.process.inherited.contains(fd)) {
    ledger_.refuse(c.e, "reads-pipe", "", at.path.text + " was handed to it", false);
    return true;
  }
  if (const auto tag = c.process.tags.find(fd);
      tag == c.process.tags.end() || classify(tag->second->link) != FdKind::kNull)
    ledger_.refuse(c.e, "stream-reopened", "", at.path.text + " was opened by name", true);
  return true;
}

void Interpreter::on_open_read(const Caller& c, const CallEvent& event, uint64_t flags) {
  if (nothing_new(c, event, ((flags & O_NOFOLLOW) != 0 ? 2 : 0) + ((flags & O_PATH) != 0 ? 1 : 0)))
    return;
  const std::optional<Resolved> at = resolve_arg(c, event, false, (flags & O_NOFOLLOW) == 0);
  if (!at) return;
  if (event.result && at->path.text.starts_with("/proc/self/fd/") && opened_too_long_ago(c, *at))
    return;
  import_open(c, *at);
  if (c.e.image_name == "python") python_opens(c, *at);
  observe_way(c.e, *at);
  switch (special(c, *at, true, false)) {
    case Special::kNoFact:
    case Special::kHandled:
      return;
    case Special::kPseudo: {
      FactKey key{FactKind::kContent, at->path, 0, {}};
      FactValue value = ledger_.observer().observe(key, {});
      ledger_.observe(c.e, std::move(key), std::move(value));
      return;
    }
    case Special::kOrdinary:
      break;
  }
  if (python_cache(c, *at)) return;
  script_read(c, *at);
  source_read(c, *at);
  if ((flags & O_PATH) != 0)
    observe_identity(c, *at);  // it can be fstat'ed
  else
    observe_opened(c, *at);
}

void Interpreter::on_stat(const Caller& c, const CallEvent& event) {
  const uint64_t flags =
      event.row->flags < 0 ? 0 : event.args[static_cast<size_t>(event.row->flags)];
  if (event.first && event.first->empty() && event.row->first.dirfd == 0)
    descriptor_examined(c, event);  // AT_EMPTY_PATH: fstat
  if (!event.first || event.first->empty()) return;
  const bool follow = !event.row->no_follow && (flags & AT_SYMLINK_NOFOLLOW) == 0;
  if (nothing_new(c, event, follow ? 1 : 2)) return;
  const std::optional<Resolved> at = resolve_arg(c, event, false, follow);
  if (!at) return;
  import_stat(c, *at);
  observe_way(c.e, *at);
  if (special(c, *at, false, false) == Special::kOrdinary && !python_cache(c, *at))
    observe_identity(c, *at);
}

void Interpreter::on_access(const Caller& c, const CallEvent& event) {
  const uint64_t flags =
      event.row->flags < 0 ? 0 : event.args[static_cast<size_t>(event.row->flags)];
  const uint32_t bits =
      static_cast<uint32_t>(event.args[static_cast<size_t>(event.row->first.path) + 1] & 7);
  if (!event.first || event.first->empty()) return;
  import_other(c);
  const bool follow = (flags & AT_SYMLINK_NOFOLLOW) == 0;
  if (nothing_new(c, event, bits * 2 + (follow ? 1 : 0))) return;
  const std::optional<Resolved> at = resolve_arg(c, event, false, follow);
  if (!at) return;
  observe_way(c.e, *at);
  if (special(c, *at, false, false) != Special::kOrdinary) return;
  if (python_cache(c, *at)) return;
  if (is_no_directory(*at)) return observe_kind(c, *at);
  FactKey key{FactKind::kAccess, at->path, bits, {}};
  FactValue value;
  if (at->err != 0)
    value.err = at->err;
  else
    value = ledger_.observer().observe(key, {});
  ledger_.observe(c.e, std::move(key), std::move(value), asker_of(c.e));
}

void Interpreter::on_read_link(const Caller& c, const CallEvent& event) {
  if (!event.first || event.first->empty()) return;
  import_other(c);
  if (nothing_new(c, event, 1)) return;
  const std::optional<Resolved> at = resolve_arg(c, event, false, false);
  if (!at) return;
  observe_way(c.e, *at);
  if (at->path.text == "/proc/self/exe" || at->path.text == "/proc/self/cwd") {
    if (!store::ignores_cwd(c.e.image_name))
      ledger_.bind_to_root(c.e, c.e.image_name + " read " + at->path.text);
    return;
  }
  // ttyname(), which make calls of its stdout and stderr.
  if (const std::string& path = at->path.text;
      path == "/proc/self/fd/1" || path == "/proc/self/fd/2") {
    const int fd = path.back() - '0';
    const auto tag = c.process.tags.find(fd);
    if (tag != c.process.tags.end() && tag->second->number == fd &&
        classify(tag->second->link) == FdKind::kTerminal)
      return observe_stream(c.e, FactKind::kStream, tag->second.get());
  }
  if (special(c, *at, false, false) != Special::kOrdinary) return;
  FactValue value;
  value.err = at->err;
  if (value.err == 0) {
    if (S_ISLNK(at->st.st_mode))
      value.err = ledger_.observer().read_link(at->path, &value.text);
    else
      value.err = EINVAL;
  }
  ledger_.observe(c.e, FactKey{FactKind::kLink, at->path, 0, {}}, std::move(value), asker_of(c.e));
}

// The kernel leaves the name that was given to execve in the new image.
void Interpreter::executed(Tid tid, Process& process) {
  const std::string vector = read_proc(tid, "auxv");
  std::optional<std::string> name;
  for (size_t at = 0; at + sizeof(Elf64_auxv_t) <= vector.size(); at += sizeof(Elf64_auxv_t)) {
    Elf64_auxv_t entry;
    std::memcpy(&entry, vector.data() + at, sizeof entry);
    if (entry.a_type == AT_EXECFN) name = read_string(tid, RemotePtr{entry.a_un.a_val});
  }
  if (name && name->starts_with("/dev/fd/") && !process.pending_exec.empty()) return;  // execveat
  CallEvent event;
  event.tid = tid;
  event.number = SYS_execve;
  event.row = &syscall_row(SYS_execve);
  event.first = std::move(name);
  on_exec({tid, process, *process.execution}, event);
}

void Interpreter::on_exec(const Caller& c, const CallEvent& event) {
  if (!event.result) c.process.pending_exec.clear();  // of a failed one nothing follows
  import_other(c);
  if (!event.first) return;
  if (event.first->empty()) {  // execveat(fd, "", AT_EMPTY_PATH)
    const std::string link = fd_link(c.tid, static_cast<int>(event.args[0]));
    if (link.starts_with("/memfd:")) ledger_.refuse(c.e, "executes-memory", "", link, true);
    c.process.pending_exec = link;
    return;
  }
  const std::optional<Resolved> at = resolve_arg(c, event, false, true);
  if (!at) return;
  if (at->err == 0 && !event.result)
    c.process.pending_exec = at->path.absolute(ledger_.observer().tree().root());
  if (c.e.is_session()) return;
  observe_way(c.e, *at);
  if (at->pseudo) return;
  if (at->err != 0 || S_ISREG(at->st.st_mode))
    ledger_.observe_content(c.e, at->path, at->err, at->st);
  else
    observe_kind(c, *at);
}

void Interpreter::on_chdir(const Caller& c, const CallEvent& event) {
  import_other(c);
  const std::optional<Resolved> at = resolve_arg(c, event, false, true);
  if (!at) return;
  observe_way(c.e, *at);
  if (results_later_ && at->err == 0 && !at->pseudo)
    going_to_[c.tid.value] = at->path.absolute(ledger_.observer().tree().root());
  if (!at->pseudo) observe_kind(c, *at);
}

void Interpreter::on_statfs(const Caller& c, const CallEvent& event) {
  const std::optional<Resolved> at = resolve_arg(c, event, false, true);
  if (!at) return;
  observe_way(c.e, *at);
  if (at->pseudo) return;
  // Those who ask for the type of a file system; others may ask how much is free.
  static constexpr std::array<std::string_view, 12> kTypeOnly = {
      "cp", "mv", "ln", "rm", "ls", "install", "mkdir", "git", "tar", "sed", "tail", "bash"};
  if (at->err == 0 && !c.e.mtime_ignored &&
      std::find(kTypeOnly.begin(), kTypeOnly.end(), c.e.image_name) == kTypeOnly.end()) {
    ledger_.refuse(c.e, "free-space", at->path.text, "it asked about the file system", true);
    return;
  }
  FactKey key{FactKind::kStatfs, at->path, 0, {}};
  FactValue value = ledger_.observer().observe(key, {});
  ledger_.observe(c.e, std::move(key), std::move(value));
}

void Interpreter::on_xattr(const Caller& c, const CallEvent& event, bool list) {
  const std::optional<Resolved> at = event.row->on_fd
                                         ? resolve_fd(c, static_cast<int>(event.args[0]))
                                         : resolve_arg(c, event, false, !event.row->no_follow);
  if (!at) return;
  observe_way(c.e, *at);
  if (at->pseudo) return;
  std::string name;
  if (!list) {
    const std::optional<std::string> asked = read_string(c.tid, RemotePtr{event.args[1]}, 256);
    if (!asked) return;
    name = *asked;
  }
  FactKey key{FactKind::kXattr, at->path, 0, {name}};
  FactValue value;
  value.err = at->err;
  if (value.err == 0) value = ledger_.observer().observe(key, {});
  ledger_.observe(c.e, std::move(key), std::move(value));
}

void Interpreter::on_getdents(const Caller& c, const CallEvent& event) {
  const std::string link = fd_link(c.tid, static_cast<int>(event.args[0]));
  if (!link.starts_with('/') || link.ends_with(" (deleted)")) return;
  if (link == "/proc" || link.starts_with("/proc/")) {
    const std::string own = "/proc/" + std::to_string(c.process.own_pid) + "/";
    // These close what their children are not to have; others tell what they were given.
    static constexpr std::array<std::string_view, 5> kClosers = {"python", "xargs", "ruby", "java",
                                                                 "node"};
    const bool closes =
        std::find(kClosers.begin(), kClosers.end(), c.e.image_name) != kClosers.end();
    if (!(link + "/").starts_with(own) || (link == own + "fd" && !closes))
      ledger_.refuse(c.e, "pseudo-file", link, "it was listed", true);
    return;
  }
  const store::TreePath dir =
      store::TreePath::from_absolute(link, ledger_.observer().tree().root());
  if (in_own_view(dir)) return refuse_view(c.e, dir);
  if (c.e.imports) return import_listing(c, dir);
  if (!c.e.memo.insert(store::hash_bytes(link)).second) return;
  std::vector<store::DirEntry> entries;
  const int err = ledger_.observer().list(dir, &entries);
  ledger_.list(c.e, dir, err, entries);
}

}  // namespace pcache::tracer
