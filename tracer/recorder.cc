#include "tracer/recorder.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/statfs.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <ctime>
#include <limits>

#include "store/path_ops.h"

namespace pcache::tracer {
namespace {

using store::Effect;
using store::EffectKind;
using store::Fact;
using store::FactKind;

constexpr int64_t kClockTick = 10'000'000;  // of the coarse clock that files are stamped with
constexpr uint64_t kInlineStreams = 16 * 1024;
constexpr size_t kMaxArgvBytes = 64 * 1024;

int64_t to_ns(const timespec& t) { return t.tv_sec * 1'000'000'000LL + t.tv_nsec; }

int64_t monotonic_ns() {
  timespec now;
  ::clock_gettime(CLOCK_MONOTONIC, &now);
  return to_ns(now);
}

}  // namespace

uint64_t Recorder::count_changes(const Execution& e) {
  uint64_t count = 0;
  for (const auto& [path, entry] : e.paths)
    if (entry.changed != 0) ++count;
  return count;
}

void Recorder::bind(Execution& e, const std::string& reason) {
  if (e.root_reason.empty()) e.root_reason = reason;
}

bool Recorder::names_root(const store::Digest& digest, int fd, uint64_t size) {
  const std::string& root = ledger_.observer().tree().root();
  if (size < root.size()) return false;
  const auto known = names_root_.find(digest);
  if (known != names_root_.end()) return known->second;
  bool found = true;  // unreadable: better too narrow than wrong
  void* map = ::mmap(nullptr, size, PROT_READ, MAP_PRIVATE, fd, 0);
  if (map != MAP_FAILED) {
    found = ::memmem(map, size, root.data(), root.size()) != nullptr;
    ::munmap(map, size);
  }
  names_root_[digest] = found;
  return found;
}

std::optional<store::Digest> Recorder::capture(Execution& e, const TreePath& path,
                                               const PathEntry& entry, const struct stat& st) {
  const store::Observer& observer = ledger_.observer();
  store::BlobStore& blobs = observer.store().blobs();
  const uint64_t size = static_cast<uint64_t>(st.st_size);
  const store::Stamp stamp = store::Stamp::of(st);
  std::optional<store::Digest> digest =
      observer.tree().served_digest(path.in_root() ? path.text : "\1");
  // Captured for an execution inside this one, and not changed since.
  if (const auto known = captured_.find(path);
      !digest && known != captured_.end() && known->second.sequence == entry.sequence) {
    if (known->second.stamp == stamp) {
      digest = known->second.digest;
    } else if (!path.in_root()) {
      // In the tree the mount would have told of a stranger; there it was an own descriptor that
      // had been open before: captured anew.
      ledger_.refuse(e, "raced", path.text, "somebody else changed it after it was made", false);
      return std::nullopt;
    }
  }
  UniqueFd fd;
  if (!digest || !blobs.has(*digest, size)) {
    if (const int err = observer.open_read(path, &fd); err != 0) {
      ledger_.refuse(e, "output-unreadable", path.text, std::strerror(err), false);
      return std::nullopt;
    }
    Result<store::Digest> put = blobs.put_file(fd.get(), size);
    if (!put) {
      ledger_.refuse(e, "not-stored", path.text, put.error().to_string(), false);
      return std::nullopt;
    }
    struct stat after {};
    if (observer.stat(path, &after) != 0 || store::Stamp::of(after) != stamp) {
      ledger_.refuse(e, "raced", path.text, "it changed while it was captured", false);
      return std::nullopt;
    }
    digest = *put;
  }
  captured_[path] = {stamp, entry.sequence, *digest};
  observer.store().remember(stamp, *digest, store::realtime_ns());
  if (e.root_reason.empty() && size >= observer.tree().root().size()) {
    if (!names_root_.contains(*digest) && !fd) observer.open_read(path, &fd);
    if (names_root(*digest, fd.get(), size)) bind(e, path.text + " names the root");
  }
  return digest;
}

// Of the names of one inode one is written (the first made of its own, unless a name that was there
// before keeps it), the others are linked to it.
std::optional<TreePath> Recorder::link_target(const Execution& e, const TreePath& path,
                                              const PathEntry& entry, const struct stat& st) const {
  const auto same = [&](const TreePath& other) {
    struct stat there {};
    return ledger_.observer().stat(other, &there) == 0 && there.st_ino == st.st_ino &&
           there.st_dev == st.st_dev;
  };
  if (const TreePath source{entry.link_source}; !entry.link_source.empty()) {
    const auto known = e.paths.find(source);
    const bool own = known != e.paths.end() && (known->second.changed & kExistence) != 0;
    if (!own && same(source)) return source;
  }
  const TreePath* first = &path;
  uint64_t sequence = entry.made_sequence;
  for (const auto& [other, known] : e.paths) {
    if ((known.changed & kExistence) == 0 || known.made_sequence >= sequence || !same(other))
      continue;
    first = &other;
    sequence = known.made_sequence;
  }
  if (first == &path) return std::nullopt;
  return *first;
}

bool Recorder::inside_removed_directory(const Execution& e, const TreePath& path) {
  for (TreePath at = path; !at.text.empty() && at.text != "/";) {
    at = at.parent();
    const auto entry = e.paths.find(at);
    if (entry != e.paths.end() && entry->second.removed_ns != 0) return true;
  }
  return false;
}

void Recorder::describe_attributes(const Execution& e, const TreePath& path, const PathEntry& entry,
                                   const struct stat& st, Effect* effect) {
  const bool made =
      (entry.changed & kExistence) != 0;  // and not by creating it: renamed, or by tar
  if (entry.owner_set || (made && (st.st_uid != ::geteuid() || st.st_gid != ::getegid()))) {
    effect->uid = st.st_uid;
    effect->gid = st.st_gid;
  }
  // `cp -p` of what was made a moment ago: that time is no more than "now", and comes again as
  // such.
  const int64_t began = store::realtime_ns() - (monotonic_ns() - e.started_ns) - kClockTick;
  const bool of_now =
      entry.mtime_ns && *entry.mtime_ns >= began && *entry.mtime_ns <= store::realtime_ns();
  if (entry.mtime_ns && !of_now && to_ns(st.st_mtim) == *entry.mtime_ns) {
    effect->mtime_ns = entry.mtime_ns;
    effect->atime_ns = entry.atime_ns;
  }
  for (const std::string& name : entry.xattrs) {
    const store::Tree& tree = ledger_.observer().tree();
    std::string value;
    const int err = path.in_root() ? tree.get_xattr(path.text, name, &value)
                                   : store::path_ops::get_xattr({AT_FDCWD, false},
                                                                path.text.c_str(), name, &value);
    if (err == 0)
      effect->xattrs.emplace_back(name, value);
    else
      effect->removed_xattrs.push_back(name);
  }
}

// A file comes when its contents were written last, whatever was done to it later, so that what was
// newer than it is so again; yet not before the directory it lies in, nor what had to go first.
void Recorder::order_by_time(const Execution& e, const TreePath& path, const PathEntry& entry,
                             const struct stat& st, Output* output) {
  output->order_ns = std::max(to_ns(st.st_mtim), entry.removed_ns);
  output->sequence = entry.timed_sequence;
  for (TreePath at = path; !at.text.empty() && at.text != "/";) {
    at = at.parent();
    const auto directory = e.paths.find(at);
    if (directory == e.paths.end()) continue;
    output->order_ns = std::max(output->order_ns, directory->second.made_ns);
    output->sequence = std::max(output->sequence, directory->second.made_sequence + 1);
  }
}

bool Recorder::describe_link(const Execution& e, const TreePath& path, const PathEntry& entry,
                             const struct stat& st, Output* output) const {
  if ((entry.changed & kExistence) == 0 || st.st_nlink < 2) return false;
  const std::optional<TreePath> target = link_target(e, path, entry, st);
  if (!target) return false;
  Effect link;
  link.kind = EffectKind::kHardLink;
  link.path = path;
  link.mode = st.st_mode & 07777;
  link.text = target->text;
  // After the name it leads to, whenever that was last written.
  if (const auto known = e.paths.find(*target); known != e.paths.end()) {
    Output other{0, 0, {}};
    order_by_time(e, *target, known->second, st, &other);
    output->order_ns = std::max({output->order_ns, other.order_ns, known->second.order_ns});
    output->sequence = std::max(output->sequence, known->second.sequence + 1);
  }
  output->effects.push_back(std::move(link));
  return true;
}

bool Recorder::describe_file(Execution& e, const TreePath& path, const PathEntry& entry,
                             const struct stat& st, Output* output) {
  Effect effect;
  effect.path = path;
  effect.mode = st.st_mode & 07777;
  describe_attributes(e, path, entry, st, &effect);
  const bool contents = (entry.changed & (kExistence | kContents)) != 0;
  if (describe_link(e, path, entry, st, output)) return true;
  if (contents) {
    const std::optional<store::Digest> digest = capture(e, path, entry, st);
    if (!digest) return false;
    effect.blob = *digest;
    effect.size = static_cast<uint64_t>(st.st_size);
    effect.kind = EffectKind::kFile;
    effect.in_place = !entry.unlinked;
    // Opened for writing and left as it was: at most its time changed.
    if ((entry.changed & kExistence) == 0 && !entry.replaced_fact) {
      for (const uint32_t index : entry.facts) {
        const ObservedFact& fact = e.facts[index];
        if (fact.key.kind == FactKind::kContent && fact.value.err == 0 &&
            fact.value.hash == effect.blob)
          effect.kind = EffectKind::kTouch;
      }
      if (effect.kind == EffectKind::kTouch) {
        const bool touched = to_ns(st.st_mtim) != to_ns(entry.before.st.st_mtim);
        effect.blob = {};
        effect.size = 0;
        const bool attributes = entry.mode_set || entry.owner_set || !entry.xattrs.empty();
        // A time that was set is an effect also where it was the same before.
        if (!touched && !attributes && !effect.mtime_ns) return true;
        if (effect.mtime_ns || attributes) {
          if (touched && !effect.mtime_ns) {
            Effect touch;
            touch.kind = EffectKind::kTouch;
            touch.path = path;
            output->effects.push_back(touch);
          }
          effect.kind = EffectKind::kMeta;
          effect.set_mode = entry.mode_set;
        }
        output->effects.push_back(std::move(effect));
        return true;
      }
    }
    if (!effect.mtime_ns) order_by_time(e, path, entry, st, output);
    output->effects.push_back(std::move(effect));
    return true;
  }
  effect.set_mode = entry.mode_set;
  effect.kind = EffectKind::kMeta;
  if ((entry.touched || entry.mtime_ns) && !effect.mtime_ns) {
    Effect touch;
    touch.kind = EffectKind::kTouch;
    touch.path = path;
    output->effects.push_back(std::move(touch));
  }
  if (effect.set_mode || effect.uid || effect.mtime_ns || !entry.xattrs.empty())
    output->effects.push_back(std::move(effect));
  return true;
}

bool Recorder::describe(Execution& e, const TreePath& path, const PathEntry& entry, Output* output,
                        std::vector<Output>* others) {
  const store::Observer& observer = ledger_.observer();
  struct stat st {};
  const int err = observer.stat(path, &st);
  const bool existed = entry.before.err == 0;
  const bool replaced = (entry.changed & kExistence) != 0;
  output->order_ns = entry.order_ns;
  output->sequence = entry.sequence;
  // Its other names have changed as well, and this one no longer says so.
  if (entry.shared_inode && (err != 0 || replaced)) {
    ledger_.refuse(e, "changes-other-names", path.text,
                   "it had other names when it was changed, and is gone now", false);
    return false;
  }
  if (err != 0) {
    if (!replaced) {
      ledger_.refuse(e, "input-changed", path.text, "it vanished while the command ran", false);
      return false;
    }
    if (!existed) return true;  // made and removed again
    Effect effect;
    effect.kind = S_ISDIR(entry.before.st.st_mode) ? EffectKind::kRemoveDir : EffectKind::kRemove;
    effect.path = path;
    output->effects.push_back(std::move(effect));
    output->order_ns = entry.removed_ns;
    output->sequence = entry.removed_sequence;
    return true;
  }
  // Something of another kind was there: it goes first.
  if (replaced && existed && entry.removed_ns != 0 &&
      (!S_ISREG(st.st_mode) || S_ISDIR(entry.before.st.st_mode) ||
       inside_removed_directory(e, path))) {
    Output removal{entry.removed_ns, entry.removed_sequence, {}};
    Effect effect;
    effect.kind = S_ISDIR(entry.before.st.st_mode) ? EffectKind::kRemoveDir : EffectKind::kRemove;
    effect.path = path;
    removal.effects.push_back(std::move(effect));
    others->push_back(std::move(removal));
  }
  if (S_ISREG(st.st_mode)) return describe_file(e, path, entry, st, output);

  Effect effect;
  effect.path = path;
  effect.mode = st.st_mode & 07777;
  describe_attributes(e, path, entry, st, &effect);
  if (!replaced) {
    effect.kind = (entry.touched || entry.mtime_ns) && !effect.mtime_ns ? EffectKind::kTouch
                                                                        : EffectKind::kMeta;
    effect.set_mode = entry.mode_set;
    output->effects.push_back(std::move(effect));
    return true;
  }
  output->order_ns = entry.made_ns;
  output->sequence = entry.made_sequence;
  switch (st.st_mode & S_IFMT) {
    case S_IFDIR: {
      effect.kind = EffectKind::kMakeDir;
      // What is put into it needs it writable; its own mode and times come last.
      const uint32_t mode = effect.mode;
      const bool finish = effect.mtime_ns.has_value() || (mode & 0700) != 0700;
      effect.mode = mode | 0700;
      output->effects.push_back(effect);
      if (finish) {
        effect.kind = EffectKind::kMeta;
        effect.mode = mode;
        effect.set_mode = true;
        Output last{std::numeric_limits<int64_t>::max(), ~entry.made_sequence, {}};
        last.effects.push_back(effect);
        others->push_back(std::move(last));
      }
      return true;
    }
    case S_IFLNK:
      if (describe_link(e, path, entry, st, output)) return true;
      effect.kind = EffectKind::kSymlink;
      if (observer.read_link(path, &effect.text) != 0) return false;
      if (effect.text.find(observer.tree().root()) != std::string::npos)
        bind(e, path.text + " points into the root");
      output->effects.push_back(std::move(effect));
      return true;
    case S_IFIFO:
      effect.kind = EffectKind::kFifo;
      output->effects.push_back(std::move(effect));
      return true;
    case S_IFSOCK:
      ledger_.refuse(e, "socket", path.text, "it was made, and stays", false);
      return false;
    default:
      ledger_.refuse(e, "device", path.text, "it was made", false);
      return false;
  }
}

bool Recorder::capture_streams(Execution& e, store::Record* record) {
  uint64_t total = 0;
  for (const SpoolSegment& segment : e.streams) {
    if (!record->streams.empty() && record->streams.back().fd == segment.fd)
      record->streams.back().size += segment.size;
    else
      record->streams.push_back({segment.fd, segment.size});
    total += segment.size;
  }
  if (total == 0) return true;
  const std::string& root = ledger_.observer().tree().root();
  if (total <= kInlineStreams) {
    for (const SpoolSegment& segment : e.streams) {
      std::string bytes;
      if (!spool_.read(segment.offset, segment.size, &bytes)) return false;
      record->stream_bytes += bytes;
    }
    if (record->stream_bytes.find(root) != std::string::npos) bind(e, "its output names the root");
    return true;
  }
  const UniqueFd file(::memfd_create("pcache-streams", MFD_CLOEXEC));
  if (!file) return false;
  uint64_t written = 0;
  for (const SpoolSegment& segment : e.streams)
    for (uint64_t done = 0; done < segment.size;) {
      std::string bytes;
      const uint64_t now = std::min<uint64_t>(segment.size - done, 1 << 20);
      if (!spool_.read(segment.offset + done, now, &bytes) ||
          ::pwrite(file.get(), bytes.data(), now, static_cast<off_t>(written)) !=
              static_cast<ssize_t>(now))
        return false;
      done += now;
      written += now;
    }
  Result<store::Digest> digest = ledger_.observer().store().blobs().put_file(file.get(), total);
  if (!digest) return false;
  record->stream_blob = *digest;
  if (names_root(*digest, file.get(), total)) bind(e, "its output names the root");
  return true;
}

// What explain shows of an input that changes: small files of the project are kept as they were.
// No record names these blobs, so they are the first to go.
void Recorder::keep_small_inputs(const store::Record& record) {
  constexpr off_t kLargest = 32 * 1024;
  const store::Observer& observer = ledger_.observer();
  store::BlobStore& blobs = observer.store().blobs();
  for (const Fact& fact : record.facts) {
    if (fact.key.kind != FactKind::kContent || fact.value.hash.empty() ||
        !fact.key.path.in_root() || !kept_inputs_.insert(fact.value.hash).second)
      continue;
    struct stat st {};
    if (observer.stat(fact.key.path, &st) != 0 || !S_ISREG(st.st_mode) || st.st_size > kLargest ||
        blobs.has(fact.value.hash, static_cast<uint64_t>(st.st_size)))
      continue;
    UniqueFd file;
    if (observer.open_read(fact.key.path, &file) == 0)
      (void)blobs.put_file(file.get(), static_cast<uint64_t>(st.st_size));
  }
}

void Recorder::record(Execution& e) {
  const store::Observer& observer = ledger_.observer();
  if (e.hit || !e.refusals.empty()) return;
  // A write that failed on a full disk is not seen; its program may have carried on.
  struct statfs space {};
  constexpr uint64_t kNearlyFull = 256 * 1024;
  if (observer.tree().statfs("", &space) == 0 &&
      static_cast<uint64_t>(space.f_bavail) * static_cast<uint64_t>(space.f_bsize) < kNearlyFull) {
    ledger_.refuse(e, "disk-full", "", "the project's file system is full", false);
    return;
  }
  ledger_.settle(e);
  if (!e.refusals.empty()) return;

  store::Record record;
  record.weak = e.weak.digest;
  if (e.weak.root_bound) bind(e, e.weak.root_reason);

  std::vector<Output> outputs;
  std::vector<const TreePath*> temporary;
  for (const auto& [path, entry] : e.paths) {
    if (entry.changed == 0) continue;
    Output output;
    if (!describe(e, path, entry, &output, &outputs)) {
      if (e.refusals.empty())
        ledger_.refuse(e, "output-unreadable", path.text, "it can't be described", false);
      return;
    }
    if (output.effects.empty() && entry.exclusive) temporary.push_back(&path);
    // Made and gone again, or there and gone: now it matters which.
    struct stat st {};
    if (observer.stat(path, &st) != 0)
      for (const uint32_t index : entry.facts) {
        ObservedFact& fact = e.facts[index];
        if (fact.removed || fact.key.kind != FactKind::kReplaced) continue;
        fact.key.param &= ~(store::kReplacedBlind | store::kReplacedUnlinked);
        fact.value = observer.replaced_value(fact.key, entry.before.err, entry.before.st, {});
      }
    if (!output.effects.empty()) outputs.push_back(std::move(output));
  }
  std::sort(outputs.begin(), outputs.end(), [](const Output& a, const Output& b) {
    return a.order_ns != b.order_ns ? a.order_ns < b.order_ns : a.sequence < b.sequence;
  });
  for (Output& output : outputs)
    for (Effect& effect : output.effects) record.effects.push_back(std::move(effect));
  if (e.stdin_use.file) {
    Effect effect;
    effect.kind = EffectKind::kOffset;
    effect.mode = 0;
    effect.size = static_cast<uint64_t>(::lseek(e.stdin_use.file->get(), 0, SEEK_CUR));
    record.effects.push_back(effect);
  }

  // What was created exclusively and is gone: its absence is checked, but names no key (rule 10).
  for (const TreePath* path : temporary)
    for (const uint32_t index : e.paths[*path].facts) {
      ObservedFact& fact = e.facts[index];
      if (fact.removed) continue;
      record.side_facts.push_back({fact.key, fact.value});
      fact.removed = true;
    }
  for (const ObservedFact& fact : e.facts)
    if (!fact.removed) record.facts.push_back({fact.key, fact.value});
  for (const Fact& fact : e.side_facts) record.side_facts.push_back(fact);
  // The order of parallel children must not make another path set.
  std::sort(record.facts.begin(), record.facts.end(),
            [](const Fact& a, const Fact& b) { return a.key < b.key; });
  store::name_inodes(&record.facts);

  if (!capture_streams(e, &record)) {
    ledger_.refuse(e, "not-stored", "", "its output streams could not be kept", false);
    return;
  }
  if (!e.root_reason.empty()) {
    record.root = observer.tree().root();
    record.root_reason = e.root_reason;
  }
  size_t bytes = 0;
  for (const std::string& argument : e.image.argv) {
    bytes += argument.size() + 1;
    if (bytes > kMaxArgvBytes) break;
    record.argv.push_back(argument);
  }
  record.executable = e.image.executable;
  record.cwd = TreePath::from_absolute(e.cwd, observer.tree().root());
  record.exit_status = WIFEXITED(e.status) ? WEXITSTATUS(e.status) : 128 + WTERMSIG(e.status);
  record.cpu_ns = e.cpu_ns;
  record.wall_ns = static_cast<uint64_t>(monotonic_ns() - e.started_ns);
  record.created_ns = store::realtime_ns();
  record.executions = 1 + e.nested;
  e.effect_count = record.effects.size();

  std::vector<TreePath> left, made;
  for (const Effect& effect : record.effects) {
    if (effect.kind == EffectKind::kFile) left.push_back(effect.path);
    if (effect.kind == EffectKind::kFile || effect.kind == EffectKind::kSymlink ||
        effect.kind == EffectKind::kHardLink)
      made.push_back(effect.path);
  }
  keep_small_inputs(record);
  const int64_t began_ns = record.created_ns - static_cast<int64_t>(record.wall_ns);
  const Result<store::Digest> put = observer.store().put(std::move(record));
  if (!put) {
    ledger_.refuse(e, "not-stored", "", put.error().to_string(), false);
    return;
  }
  e.recorded = true;
  e.record = *put;
  for (const TreePath& path : made)
    observer.store().note_output(observer.tree().root(), path.text, *put, false, began_ns);
  // What names the root here may be hidden in what an ancestor makes of it (gzip), or gone by then.
  if (!e.root_reason.empty()) ledger_.bind_to_root(*e.parent, e.root_reason);
  observer.store().remember_parts(e.weak.command, e.weak.parts);
  for (const TreePath& path : left) {
    struct stat st {};
    if (observer.stat(path, &st) == 0)
      observer.store().remember_own({}, observer.tree().root(), path.text, store::Stamp::of(st));
  }
}

}  // namespace pcache::tracer
