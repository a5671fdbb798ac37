// Calls that change something: seen before they run (what was there) and after (whether they did).
#include <fcntl.h>
#include <linux/fs.h>
#include <sys/stat.h>

#include <cerrno>
#include <ctime>

#include "tracer/interpreter.h"

namespace pcache::tracer {

using store::FactKey;
using store::FactKind;
using store::FactValue;
using store::Observer;

namespace {

int64_t to_ns(const timespec& t) { return t.tv_sec * 1'000'000'000LL + t.tv_nsec; }

constexpr int kWriteBits = O_WRONLY | O_RDWR | O_TRUNC;
// ERESTARTSYS to ERESTART_RESTARTBLOCK: the kernel's own, which no program sees.
constexpr int64_t kFirstRestart = 512, kLastRestart = 516;

}  // namespace

uint64_t Interpreter::open_flags(const CallEvent& event) const {
  if (event.row->meaning == Meaning::kCreat) return O_CREAT | O_TRUNC | O_WRONLY;
  if (event.row->meaning == Meaning::kOpen2) {
    uint64_t flags = 0;  // struct open_how {flags, mode, resolve}
    read_memory(event.tid, RemotePtr{event.args[2]}, &flags, sizeof flags);
    return flags;
  }
  return event.args[static_cast<size_t>(event.row->flags)];
}

uint32_t Interpreter::open_mode(const CallEvent& event) const {
  if (event.row->meaning == Meaning::kCreat) return static_cast<uint32_t>(event.args[1]);
  if (event.row->meaning == Meaning::kOpen2) {
    uint64_t how[2] = {};
    read_memory(event.tid, RemotePtr{event.args[2]}, how, sizeof how);
    return static_cast<uint32_t>(how[1]);
  }
  return static_cast<uint32_t>(event.args[static_cast<size_t>(event.row->flags) + 1]);
}

Answer Interpreter::before_change_call(const Caller& c, const CallEvent& event) {
  Pending pending;
  import_other(c);
  c.e.seeds.due = PythonSeeds::Due::kNone;
  const Meaning meaning = event.row->meaning;
  const bool opens =
      meaning == Meaning::kOpen || meaning == Meaning::kOpen2 || meaning == Meaning::kCreat;
  const uint64_t flags = opens                  ? open_flags(event)
                         : event.row->flags < 0 ? 0
                                                : event.args[static_cast<size_t>(event.row->flags)];
  if (meaning == Meaning::kOpen2) {
    constexpr uint64_t kResolveInRoot = 0x10;
    uint64_t how[3] = {};
    if (!read_memory(event.tid, RemotePtr{event.args[2]}, how, sizeof how) ||
        (how[2] & kResolveInRoot) != 0)
      ledger_.refuse(c.e, "unsupported-resolve", "", "openat2 with RESOLVE_IN_ROOT", true);
  }
  if (meaning == Meaning::kOpen2 && (flags & (O_ACCMODE | O_CREAT | O_TRUNC)) == 0)
    on_open_read(c, event, flags);

  // --- which object ---
  std::optional<Resolved> first;
  if (event.row->on_fd ||
      (event.row->first.path >= 0 && event.args[static_cast<size_t>(event.row->first.path)] == 0) ||
      (event.first && event.first->empty() && (flags & AT_EMPTY_PATH) != 0)) {
    pending.first_is_fd = true;
    first = resolve_fd(c, static_cast<int>(event.args[0]));
  } else {
    bool follow = !event.row->no_follow && (flags & AT_SYMLINK_NOFOLLOW) == 0;
    if (opens)
      follow = (flags & O_NOFOLLOW) == 0 && (flags & (O_CREAT | O_EXCL)) != (O_CREAT | O_EXCL);
    if (meaning == Meaning::kLink) follow = (flags & AT_SYMLINK_FOLLOW) != 0;
    first = resolve_arg(c, event, false, follow);
  }
  if (!first) {
    pending_.erase(c.tid.value);
    const bool publishes = meaning == Meaning::kLink;  // an unnamed file gets its name
    if (!publishes) {
      if (!pending.first_is_fd && (!event.first || !event.first->empty()) && event.first)
        ledger_.refuse(c.e, "unnamed-file", "",
                       std::string(event.row->name) + " of something without a name", true);
      return {};
    }
    first.emplace();
    first->pseudo = true;
  }
  pending.first = std::move(*first);
  observe_way(c.e, pending.first);
  const bool has_second = event.row->second.path >= 0;
  if (has_second) {
    std::optional<Resolved> second = resolve_arg(c, event, true, false);
    if (!second) return {};
    pending.second = std::move(*second);
    observe_way(c.e, pending.second);
  }
  if (opens) {
    const Special kind = special(c, pending.first, true, (flags & kWriteBits) != 0,
                                 (flags & (O_ACCMODE | O_NONBLOCK)) == (O_RDWR | O_NONBLOCK));
    const bool directory = pending.first.err == 0 && S_ISDIR(pending.first.st.st_mode);
    if (kind == Special::kOrdinary && (directory || (flags & O_TMPFILE) == O_TMPFILE))
      observe_kind(c, pending.first);
    if (kind != Special::kOrdinary || (flags & O_TMPFILE) == O_TMPFILE || directory ||
        python_cache(c, pending.first)) {
      pending_.erase(c.tid.value);
      return {};
    }
    // What a write open does not truncate is read, as far as anyone can tell.
    if ((flags & O_TRUNC) == 0 && (flags & (O_CREAT | O_EXCL)) != (O_CREAT | O_EXCL))
      observe_opened(c, pending.first);
  }

  // --- what its outcome depends on, besides the names ---
  const Resolved& at = pending.first;
  if (!opens && (python_cache(c, at) || (has_second && python_cache(c, pending.second)))) {
    pending_.erase(c.tid.value);
    return {};
  }
  if (meaning == Meaning::kChown && at.err == 0 && !at.pseudo)
    ledger_.observe(c.e, FactKey{FactKind::kIdentity, at.path, 0, {}},
                    Observer::identity_value(at.st, 0));
  if (meaning == Meaning::kSetXattr && at.err == 0 && !at.pseudo &&
      (event.row->name.find("remove") != std::string_view::npos || event.args[4] != 0)) {
    FactKey key{FactKind::kXattr,
                at.path,
                0,
                {read_string(c.tid, RemotePtr{event.args[1]}, 256).value_or("?")}};
    FactValue value = ledger_.observer().observe(key, {});
    ledger_.observe(c.e, std::move(key), std::move(value));
  }
  if (meaning == Meaning::kTruncate) observe_opened(c, at);
  if ((meaning == Meaning::kRename || meaning == Meaning::kLink) && !at.pseudo) {
    if (at.err == 0 && S_ISREG(at.st.st_mode)) {
      ledger_.observe_content(c.e, at.path, 0, at.st);
      FactKey key{FactKind::kIdentity, at.path, store::kWithMtime, {}};
      ledger_.observe(c.e, key, Observer::identity_value(at.st, store::kWithMtime));
    } else if (at.err == 0 && S_ISLNK(at.st.st_mode)) {
      FactValue value;
      value.err = ledger_.observer().read_link(at.path, &value.text);
      ledger_.observe(c.e, FactKey{FactKind::kLink, at.path, 0, {}}, std::move(value));
    }
    if (meaning == Meaning::kRename && event.row->flags >= 0 && (flags & RENAME_EXCHANGE) != 0)
      ledger_.refuse(c.e, "exchanges-names", at.path.text, "renameat2(RENAME_EXCHANGE)", true);
  }
  const bool removes_directory =
      meaning == Meaning::kRmdir || (meaning == Meaning::kUnlink && (flags & AT_REMOVEDIR) != 0);
  if (removes_directory && at.err == 0 && S_ISDIR(at.st.st_mode)) {
    std::vector<store::DirEntry> entries;
    const int err = ledger_.observer().list(at.path, &entries);
    ledger_.list(c.e, at.path, err, entries);
  }
  observe_room_for(c, has_second ? pending.second : at);
  if (!at.pseudo) pending.before_first = ledger_.before_change(c.e, at.path);
  if (has_second) pending.before_second = ledger_.before_change(c.e, pending.second.path);
  read_arguments(c, event, &pending);
  pending_[c.tid.value] = std::move(pending);
  return {};
}

// A name is about to be made in a directory that has to be there, also where the name will be gone
// again and no effect asks for its directory.
void Interpreter::observe_room_for(const Caller& c, const Resolved& name) {
  if (name.pseudo || name.err != ENOENT || name.missing != name.path) return;
  Resolved parent;
  parent.path = name.path.parent();
  parent.err = ledger_.observer().stat(parent.path, &parent.st);
  observe_kind(c, parent);
}

void Interpreter::read_arguments(const Caller& c, const CallEvent& event, Pending* pending) const {
  switch (event.row->meaning) {
    case Meaning::kOpen:
    case Meaning::kOpen2:
    case Meaning::kCreat: {
      pending->flags = open_flags(event);
      if ((pending->flags & O_CREAT) == 0) return;
      pending->mode = open_mode(event);
      pending->umask = c.e.image.umask;
      if (pending->before_first.err != 0) return;  // the new file shows its mode itself
      if (const std::optional<Credentials> now = read_credentials(c.tid))
        pending->umask = now->umask;
      return;
    }
    case Meaning::kSetXattr:
      pending->xattr = read_string(c.tid, RemotePtr{event.args[1]}, 256).value_or("?");
      return;
    case Meaning::kUtime: {
      const uint64_t times =
          event.args[event.row->name == "utimensat" || event.row->name == "futimesat" ? 2 : 1];
      pending->times[0] = pending->times[1] = {0, UTIME_NOW};
      if (times != 0 && event.row->name == "utimensat")
        read_memory(c.tid, RemotePtr{times}, pending->times, sizeof pending->times);
      else if (times != 0)
        pending->times[0].tv_nsec = pending->times[1].tv_nsec = 0;  // explicit
      return;
    }
    default:
      return;
  }
}

void Interpreter::on_result(const CallEvent& event, int64_t result) {
  const std::lock_guard guard(lock_);
  returned(event, result);
}

// Possibly a while after the call has: nothing may be read of the process here that it can have
// changed since without being seen.
void Interpreter::returned(const CallEvent& event, int64_t result) {
  Process* process = lineage_.process_of(event.tid.value);
  if (process == nullptr || process->replaying) return;
  if (result <= -kFirstRestart && result >= -kLastRestart) {  // it will be made again
    pending_.erase(event.tid.value);
    return;
  }
  const bool moves =
      event.row->meaning == Meaning::kChdir || event.row->meaning == Meaning::kFchdir;
  if (moves && result >= 0) {
    // It may be gone already.
    const auto goal = going_to_.find(event.tid.value);
    process->cwd = goal != going_to_.end() ? goal->second : proc_link(event.tid, "cwd");
  }
  if (moves) going_to_.erase(event.tid.value);
  if (moves || process->execution->is_session()) return;
  const Caller c{event.tid, *process, *process->execution};
  if (event.row->meaning == Meaning::kDup) return after_dup(c, event, result);
  if (event.row->meaning == Meaning::kSharedMemory) return after_shared_memory(c, result);
  if (event.row->meaning == Meaning::kAccept) {
    if (result >= 0 && !results_later_) after_accept(c, static_cast<int>(result));
    return;
  }
  const auto found = pending_.find(event.tid.value);
  if (found == pending_.end()) return;
  const Pending pending = std::move(found->second);
  pending_.erase(found);
  if (result < 0 && result > -4096)
    return after_failure(c, event, pending, static_cast<int>(-result));
  switch (event.row->meaning) {
    case Meaning::kOpen:
    case Meaning::kOpen2:
    case Meaning::kCreat:
      return after_open(c, pending, result);
    case Meaning::kRename:
      return after_rename(c, pending);
    default:
      return after_change(c, event, pending);
  }
}

Change Interpreter::make_change(const Caller& c, ChangeKind kind, const Resolved& at,
                                const Before& before) {
  Change change;
  change.kind = kind;
  change.path = at.path;
  change.before = before;
  change.blind = c.e.blind_image;
  change.looks_first = c.e.replacing_image;
  // BFD unlinks an ordinary output before it creates it; where there is none, nothing is seen of
  // that.
  change.unlinks = c.e.blind_image && (c.e.image_name == "as" || c.e.image_name.starts_with("ld") ||
                                       c.e.image_name == "gold" || c.e.image_name == "mold");
  return change;
}

void Interpreter::apply(const Caller& c, ChangeKind kind, const Resolved& at, const Before& before,
                        uint32_t create_mode) {
  Change change = make_change(c, kind, at, before);
  change.create_mode = create_mode;
  ledger_.change(c.e, change);
  if ((kind == ChangeKind::kMoveAway || kind == ChangeKind::kRemove) && before.err == 0 &&
      S_ISDIR(before.st.st_mode))
    lineage_.ask_directories();
  if ((aspects_of(change) & kExistence) != 0)
    resolver_.changed(at.path, kind == ChangeKind::kMoveAway || kind == ChangeKind::kMoveOnto);
}

void Interpreter::after_open(const Caller& c, const Pending& p, int64_t result) {
  c.process.tags.erase(static_cast<int>(result));  // it was closed before
  c.process.inherited.erase(static_cast<int>(result));
  const uint64_t flags = p.flags;
  const bool existed = p.before_first.err == 0;
  if ((flags & kWriteBits) == 0 && existed) return;  // O_RDONLY|O_CREAT of what was there
  uint32_t mode = 0;
  if ((flags & O_CREAT) != 0) {
    struct stat st {};
    if (!existed && ledger_.observer().stat(p.first.path, &st) == 0) {
      mode = st.st_mode & 07777;
    } else {
      mode = p.mode & 07777 & ~p.umask;
    }
  } else if (existed) {
    mode = p.before_first.st.st_mode & 07777;
  }
  ChangeKind kind = ChangeKind::kWriteInPlace;
  if ((flags & (O_CREAT | O_EXCL)) == (O_CREAT | O_EXCL))
    kind = ChangeKind::kCreateExclusive;
  else if ((flags & (O_CREAT | O_TRUNC)) == (O_CREAT | O_TRUNC))
    kind = ChangeKind::kCreateOrTruncate;
  else if ((flags & O_TRUNC) != 0)
    kind = ChangeKind::kTruncate;
  if (existed) refuse_where_held(c, p.first.path);
  apply(c, kind, p.first, p.before_first, mode);
}

// An ancestor that had made `path` and still holds it may write to it at any moment, and nobody
// sees it: what the file then holds is no work of those in between. `f = open("log", "a");
// subprocess.run("cmd >> log", shell=True)`
void Interpreter::refuse_where_held(const Caller& c, const store::TreePath& path) {
  bool made = false;
  for (const Execution* a = c.e.parent; !made && !a->is_session(); a = a->parent) {
    const auto entry = a->paths.find(path);
    made = entry != a->paths.end() && (entry->second.changed & kContents) != 0;
  }
  if (!made) return;
  const std::string link = path.absolute(ledger_.observer().tree().root());
  for (const pid_t pid : lineage_.pids()) {
    const Process* holder = lineage_.process(pid);
    if (holder->execution->within(c.e)) continue;
    for (const OpenFd& open : open_fds(Tid{pid})) {
      if (open.link != link) continue;
      const std::optional<FdInfo> info = fd_info(Tid{pid}, open.fd);
      if (info && (info->flags & O_ACCMODE) == O_RDONLY) continue;
      for (Execution* a = &c.e; !a->is_session() && !holder->execution->within(*a); a = a->parent)
        ledger_.refuse(*a, "raced", path.text, "another command holds it open for writing", false);
      break;
    }
  }
}

void Interpreter::after_rename(const Caller& c, const Pending& p) {
  if (p.first.pseudo) return;
  const store::TreePath& from = p.first.path;
  const store::TreePath& to = p.second.path;
  const bool directory = p.before_first.err == 0 && S_ISDIR(p.before_first.st.st_mode);
  if (p.before_first.err == 0 && p.before_second.err == 0 &&
      p.before_first.st.st_ino == p.before_second.st.st_ino &&
      p.before_first.st.st_dev == p.before_second.st.st_dev)
    return;  // two names of one inode: rename does nothing
  // Attributes that were set explicitly, or come from elsewhere, move along.
  std::vector<std::pair<Execution*, PathEntry>> carried;
  for (Execution* a = &c.e; !a->is_session(); a = a->parent) {
    const auto entry = a->paths.find(from);
    const bool own = entry != a->paths.end() && (entry->second.changed & kExistence) != 0;
    if (directory && !own)
      ledger_.refuse(*a, "renames-directory", from.text, "it was there before", false);
    if (!directory && !own && p.before_first.err == 0 && p.before_first.st.st_nlink > 1)
      ledger_.refuse(*a, "changes-other-names", from.text, "it has other names, and is moved",
                     false);
    PathEntry moved;
    if (own || (entry != a->paths.end() && (entry->second.changed & kContents) != 0)) {
      moved.mtime_ns = entry->second.mtime_ns;
      moved.atime_ns = entry->second.atime_ns;
      moved.xattrs = entry->second.xattrs;
      moved.link_source = entry->second.link_source;  // `ln -f` makes a name aside
    } else if (!directory) {                          // of a link too
      moved.mtime_ns = to_ns(p.before_first.st.st_mtim);
    }
    carried.emplace_back(a, std::move(moved));
  }
  apply(c, ChangeKind::kMoveAway, p.first, p.before_first);
  apply(c, ChangeKind::kMoveOnto, p.second, p.before_second);
  for (auto& [execution, moved] : carried) {
    PathEntry& entry = execution->paths[to];
    entry.mtime_ns = moved.mtime_ns;
    entry.atime_ns = moved.atime_ns;
    entry.xattrs = moved.xattrs;
    entry.link_source = moved.link_source;
  }
  if (!directory) return;
  for (Execution* a = &c.e; !a->is_session(); a = a->parent) a->own_directories.insert(to);
  // Everything below has new names; nothing was there before, since `to` was absent or empty.
  std::vector<store::TreePath> pending = {to};
  while (!pending.empty()) {
    const store::TreePath dir = std::move(pending.back());
    pending.pop_back();
    std::vector<store::DirEntry> entries;
    if (ledger_.observer().list(dir, &entries) != 0) continue;
    for (const store::DirEntry& entry : entries) {
      Change change;
      change.kind = ChangeKind::kReplayed;
      change.path = dir.child(entry.name);
      change.before.err = ENOENT;
      change.replayed_aspects = kExistence | kContents | kAttributes | kTimes;
      change.directory = entry.type == 'd';
      ledger_.change(c.e, change);
      if (entry.type == 'd') pending.push_back(change.path);
    }
  }
}

void Interpreter::after_change(const Caller& c, const CallEvent& event, const Pending& p) {
  const Resolved& at = p.first;
  switch (event.row->meaning) {
    case Meaning::kUnlink:
    case Meaning::kRmdir:
      return apply(c, ChangeKind::kRemove, at, p.before_first);
    case Meaning::kBind:
    case Meaning::kMkdir:
    case Meaning::kMknod:
      if (event.row->meaning == Meaning::kMknod) {
        struct stat st {};
        if (ledger_.observer().stat(at.path, &st) == 0 && !S_ISREG(st.st_mode) &&
            !S_ISFIFO(st.st_mode))
          ledger_.refuse(c.e, "device", at.path.text, "it was made", true);
      }
      {
        Change change = make_change(c, ChangeKind::kCreateExclusive, at, p.before_first);
        change.directory = event.row->meaning == Meaning::kMkdir;
        ledger_.change(c.e, change);
        resolver_.changed(at.path);
      }
      return;
    case Meaning::kSymlink:
      return apply(c, ChangeKind::kMoveOnto, at, p.before_first);
    case Meaning::kLink: {
      Change change = make_change(c, ChangeKind::kMoveOnto, p.second, p.before_second);
      if (!at.pseudo) change.link_source = at.path.text;
      ledger_.change(c.e, change);
      if (!at.pseudo && p.before_first.err == 0) {
        // If the new name is all that stays, it has the old one's time.
        for (Execution* a = &c.e; !a->is_session(); a = a->parent) {
          const auto old = a->paths.find(at.path);
          const bool own =
              old != a->paths.end() && (old->second.changed & (kExistence | kContents)) != 0;
          PathEntry& entry = a->paths[p.second.path];
          if (own)
            entry.mtime_ns = old->second.mtime_ns;
          else
            entry.mtime_ns = to_ns(p.before_first.st.st_mtim);
        }
      }
      resolver_.changed(p.second.path, true);
      return;
    }
    case Meaning::kTruncate:
      return apply(c, event.args[1] == 0 ? ChangeKind::kTruncate : ChangeKind::kWriteInPlace, at,
                   p.before_first, p.before_first.st.st_mode & 07777);
    case Meaning::kChmod:
    case Meaning::kChown:
    case Meaning::kSetXattr: {
      Change change = make_change(c, ChangeKind::kAttributes, at, p.before_first);
      change.mode_set = event.row->meaning == Meaning::kChmod;
      change.owner_set = event.row->meaning == Meaning::kChown;
      if (event.row->meaning == Meaning::kSetXattr) change.xattr = p.xattr;
      ledger_.change(c.e, change);
      return;
    }
    case Meaning::kUtime: {
      Change change = make_change(c, ChangeKind::kTimes, at, p.before_first);
      struct stat st {};
      if (ledger_.observer().stat(at.path, &st) != 0) return;
      const auto& both = p.times;
      if (both[0].tv_nsec != UTIME_NOW && both[0].tv_nsec != UTIME_OMIT)
        change.atime_ns = to_ns(st.st_atim);
      if (both[1].tv_nsec == UTIME_OMIT && !change.atime_ns) return;  // atime only: no effect
      if (both[1].tv_nsec != UTIME_NOW) change.mtime_ns = to_ns(st.st_mtim);
      ledger_.change(c.e, change);
      return;
    }
    default:
      return;
  }
}

void Interpreter::after_failure(const Caller& c, const CallEvent& event, const Pending& p,
                                int error) {
  switch (error) {
    case EINTR:
    case EFAULT:
    case EBADF:
    case EAGAIN:
      return;
    case ENOENT:
    case EEXIST:
    case ENOTDIR:
    case EISDIR:
    case ELOOP:
    case ENOTEMPTY:
    case EACCES:
    case EPERM:
    case EXDEV:
    case EINVAL:
    case ENOTSUP:
    case ENODATA:
    case ENAMETOOLONG:
    case ETXTBSY:
    case EADDRINUSE:  // bind: there is something of that name
      break;
    default:
      ledger_.refuse(c.e, "failed-call", p.first.path.text,
                     std::string(event.row->name) + ": " + std::strerror(error), true);
      return;
  }
  for (const Resolved* at : {&p.first, &p.second}) {
    if (at->path.text.empty() || at->pseudo) continue;
    if (at == &p.second && event.row->second.path < 0) continue;
    observe_kind(c, *at);
    if ((error == ENOENT || error == ENOTDIR) && at->err != 0 && at->missing != at->path) {
      Resolved missing;  // a directory on the way
      missing.path = at->missing;
      missing.err = ledger_.observer().stat(missing.path, &missing.st);
      observe_kind(c, missing);
    }
    if (error == EACCES || error == EPERM) {
      Resolved parent;
      parent.path = at->path.parent();
      parent.err = ledger_.observer().stat(parent.path, &parent.st);
      observe_kind(c, parent);
    }
    if (error == ENOTEMPTY && at->err == 0 && S_ISDIR(at->st.st_mode)) {
      std::vector<store::DirEntry> entries;
      const int err = ledger_.observer().list(at->path, &entries);
      ledger_.list(c.e, at->path, err, entries);
    }
  }
}

}  // namespace pcache::tracer
