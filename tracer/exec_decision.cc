// At each exec, before the new image's first instruction: what it is, whether it must run, and what
// its hit means for its ancestors.
#include <fcntl.h>
#include <signal.h>
#include <sys/ptrace.h>
#include <unistd.h>

#include <algorithm>

#include "store/replay.h"
#include "tracer/command_line.h"
#include "tracer/traced_session.h"
#include "tracer/vdso.h"
#include "tracer/watcher.h"

namespace pcache::tracer {

using store::Effect;
using store::EffectKind;
using store::Fact;
using store::FactKey;
using store::FactKind;

namespace {

uint64_t number_in(const std::string& text, size_t at) {
  return std::strtoull(text.c_str() + at, nullptr, 10);
}

// The descriptors of make's jobserver, which its children may read and write freely.
std::set<int> jobserver_fds(const std::vector<std::string>& env) {
  std::set<int> fds;
  for (const std::string& variable : env) {
    if (!variable.starts_with("MAKEFLAGS=")) continue;
    for (const char* option : {"--jobserver-auth=", "--jobserver-fds="}) {
      const size_t at = variable.find(option);
      if (at == std::string::npos) continue;
      const size_t first = at + std::strlen(option);
      const size_t comma = variable.find(',', first);
      if (comma == std::string::npos) continue;
      fds.insert(static_cast<int>(number_in(variable, first)));
      fds.insert(static_cast<int>(number_in(variable, comma + 1)));
    }
  }
  return fds;
}

// A compiler whose output is compressed hides the working directory from whoever looks for it
// there.
bool hides_root(const Execution& e) {
  if (!store::ignores_cwd(e.image_name)) return false;
  bool debug = false, compressed = false;
  for (const std::string& word : e.image.argv) {
    debug = debug || (word.starts_with("-g") && word != "-g0");
    compressed = compressed || word.starts_with("-gz") || word.starts_with("-flto") ||
                 word.find("compress-debug") != std::string::npos;
  }
  return debug && compressed;
}

bool asks_for_random_numbers(const Execution& e) {
  if (!store::is_shell(e.image_name) || e.image_name == "dash") return false;
  return store::text_is_random(e.image.script_text) ||
         std::any_of(e.image.argv.begin(), e.image.argv.end(),
                     [](const std::string& word) { return store::text_is_random(word); });
}

bool traces_others(const Execution& e) {
  static const std::set<std::string> kImages = {"gdb",    "gdbserver", "lldb", "lldb-server",
                                                "strace", "ltrace",    "rr"};
  return kImages.contains(e.image_name);
}

bool has_another_root(Tid tid) { return proc_link(tid, "root") != "/"; }

uint8_t aspects_of_effect(const Effect& effect, bool existed) {
  switch (effect.kind) {
    case EffectKind::kFile:
      return effect.in_place && existed ? kContents | kTimes
                                        : kExistence | kContents | kAttributes | kTimes;
    case EffectKind::kMeta:
      return effect.mtime_ns ? kAttributes | kTimes : kAttributes;
    case EffectKind::kTouch:
      return kTimes;
    case EffectKind::kOffset:
      return 0;
    default:
      return kExistence | kContents | kAttributes | kTimes;
  }
}

}  // namespace

void TracedSession::describe_descriptors(Execution& e, Process& process) {
  const std::set<int> jobserver = jobserver_fds(e.image.env);
  std::map<int, std::shared_ptr<StreamTag>> tags;
  const std::map<int, std::string> given = std::move(process.inherited);
  process.inherited.clear();
  const Tid tid{process.pid};
  for (const OpenFd& open : open_fds(tid)) {
    const auto old = process.tags.find(open.fd);
    std::shared_ptr<StreamTag> parent =
        old != process.tags.end() &&
                (open.link == old->second->link || open.link == old->second->link + " (deleted)")
            ? old->second
            : nullptr;
    const FdKind kind = classify(open.link);
    if (open.fd <= 2) {
      tags[open.fd] = std::make_shared<StreamTag>(
          StreamTag{e.id, open.fd, open.link, false, false, false, std::move(parent), 0, 0});
      const auto above = given.find(open.fd);
      tags[open.fd]->handed_on = above != given.end() && above->second == open.link;
      e.image.shape[open.fd] =
          kind == FdKind::kNull ? store::StreamShape::kNull : store::StreamShape::kOther;
      struct stat output {};
      if (open.fd > 0 && kind == FdKind::kFile &&
          observer_.stat(TreePath::from_absolute(open.link, observer_.tree().root()), &output) ==
              0) {
        e.output_inodes.insert({output.st_dev, output.st_ino});
        tags[open.fd]->mode = output.st_mode;
        tags[open.fd]->size = static_cast<uint64_t>(output.st_size);
      }
      if (open.fd == 0 && kind == FdKind::kFile)
        if (const std::optional<FdInfo> info = fd_info(tid, 0))
          e.stdin_use.offset_at_exec = info->offset;
      continue;
    }
    if (parent) {  // a copy of an ancestor's stream
      const bool unseen = parent->number == 0 && (open.fd < 5 || open.fd > 9);
      tags[open.fd] = std::move(parent);
      if (unseen && kind != FdKind::kNull) {
        interpreter_.stdin_used(process, open.fd);
        ledger_.refuse(e, "inherited-descriptor", "",
                       "it can read descriptor " + std::to_string(open.fd) + ", " + open.link,
                       false);
      }
      continue;
    }
    if (jobserver.contains(open.fd) || kind == FdKind::kNull) continue;
    process.inherited[open.fd] = open.link;
    e.inherited.insert(open.link);
    if (leaked_.contains(open.link)) continue;  // counts when it is written to
    const bool handed_on =
        kind == FdKind::kPipe || kind == FdKind::kSocket || kind == FdKind::kFile;
    if (!handed_on) continue;
    const std::optional<FdInfo> info = fd_info(tid, open.fd);
    struct stat st {};
    const bool directory =
        kind == FdKind::kFile &&
        observer_.stat(TreePath::from_absolute(open.link, observer_.tree().root()), &st) == 0 &&
        S_ISDIR(st.st_mode);
    if (!directory && info && (info->flags & O_ACCMODE) != O_WRONLY)
      ledger_.refuse(e, "inherited-descriptor", "",
                     "it can read descriptor " + std::to_string(open.fd) + ", " + open.link, false);
  }
  for (int fd = 0; fd <= 2; ++fd)
    if (!tags.contains(fd)) e.image.shape[fd] = store::StreamShape::kClosed;
  process.tags = std::move(tags);
  process.examined.clear();
  interpreter_.mark_descriptors(process);
}

void TracedSession::describe_image(Execution& e, Process& process, const ReadImage& image) {
  e.image = image.info;
  e.image.lists = options_.lists.get();
  e.image.pid_namespace = options_.pid_namespace;
  const store::Lists& lists = *options_.lists;
  e.image_name = store::image_name(image.info.executable);
  e.blind_image = store::is_listed(lists.overwrites_blindly, e.image);
  const bool unpacks = only_unpacks(e.image_name, image.info.argv, image.info.env);
  e.mtime_ignored = unpacks || store::is_listed(lists.mtime_ignored, e.image);
  e.mtime_matters = !unpacks && store::is_listed(lists.mtime_matters, e.image);
  for (const store::PrivateDir& dir : lists.private_dirs)
    if (store::is_listed(store::NameList({dir.owner}), e.image) &&
        dir.dir != observer_.tree().root())
      e.private_dirs.push_back(TreePath::from_absolute(dir.dir, observer_.tree().root()));
  e.replacing_image = looks_before_replacing(e.image_name, image.info.argv);
  e.directory_times = shows_directory_times(e.image_name, image.info.argv);
  e.cwd = image.info.cwd;
  if (e.image_name == "python") interpreter_.watch_imports(e, process);
  // The program's files are inputs of whoever ran it; its own weak key holds them already.
  Execution& parent = *e.parent;
  if (!parent.is_session())
    for (const ReadImage::File& file : image.files)
      ledger_.observe_content(parent, file.path, 0, file.st);
  for (const std::string& named : image.named) {
    const Resolved at =
        interpreter_.resolve(Tid{process.pid}, process, image.info.cwd, named, true);
    interpreter_.observe_way(e, at);
    if (at.err != 0 || at.own_view) continue;  // it will look there itself
    ledger_.observe_content(e, at.path, 0, at.st);
    if (e.image.interpreter.text != "/") continue;
    store::Digest hash;
    if (observer_.content_hash(at.path, at.st, &hash) == 0) {
      e.image.interpreter = at.path;
      e.image.interpreter_hash = hash;
    }
  }
}

std::optional<store::Reason> TracedSession::refuse_at_start(const Execution& e,
                                                            const ReadImage& image) const {
  // Where its root is no mount, in a chroot, the kernel tells us other names than it goes by.
  if (options_.pid_namespace && has_another_root(Tid{e.main_pid}))
    return store::Reason{"namespace", "", "--pid-namespace in a chroot: its names can't be told"};
  if (image.refusal) return image.refusal;
  if (image.credentials.euid != ::geteuid() || image.credentials.fsuid != ::geteuid())
    return store::Reason{"other-user", "",
                         "it runs as user " + std::to_string(image.credentials.euid)};
  if (image.credentials.uid != image.credentials.euid)
    return store::Reason{"setuid", e.image.executable, "it runs with other privileges"};
  for (const std::string& argument : e.image.argv) {
    // "/tmp/ccX.s", "@/tmp/ccX", "-plugin-opt=-fresolution=/tmp/ccX.res"
    for (const size_t at : {size_t{0}, argument.find('@'), argument.rfind('=')}) {
      if (at == std::string::npos) continue;
      const std::string name = argument.substr(at == 0 && argument[0] != '@' ? 0 : at + 1);
      if (name.empty() || name.size() > 4096) continue;
      const TreePath path = TreePath::from_absolute(name[0] == '/' ? name : e.cwd + "/" + name,
                                                    observer_.tree().root());
      if (ledger_.is_temporary_of_ancestor(e, path))
        return store::Reason{"temporary-name", path.text, "an argument names a temporary file"};
    }
  }
  return std::nullopt;
}

void TracedSession::on_exec(Tid tid) {
  const std::lock_guard guard(lock_);
  unsigned long former = 0;
  ::ptrace(PTRACE_GETEVENTMSG, tid.value, nullptr, &former);
  Process* process = lineage_.process(tid.value);
  if (process == nullptr) return;
  interpreter_.drain();
  take_tree_ops();
  if (with_hub_ || process->pending_exec.empty()) interpreter_.executed(tid, *process);
  for (const pid_t thread : process->threads)
    if (thread != tid.value) source_->forget(Tid{thread});
  lineage_.keep_leader_only(*process);
  traced_calls_.erase(tid.value);
  process->stub.reset();
  process->replaying = false;

  Execution& parent = *process->execution;
  Execution& e = ledger_.open(parent, process->pid);
  e.live = 1;  // the parent loses a process and gains a child
  e.started_ns = monotonic_now_ns();
  e.own_pid = process->own_pid;
  process->execution = &e;
  ++e.stops;

  const ReadImage image = images_.read(tid, process->pending_exec);
  process->pending_exec.clear();
  process->cwd = image.info.cwd;
  describe_image(e, *process, image);
  watch(tid, e);
  describe_descriptors(e, *process);
  e.weak = store::make_weak_key(e.image, observer_.tree().root());
  interpreter_.environment_read(e, store::environment_reads(e.image));
  if (hides_root(e))
    ledger_.bind_to_root(e, "its debug information is compressed, and may name the root");

  if (options_.watcher != nullptr) {
    options_.watcher->on_exec({process->pid, e.id, parent.is_session() ? 0 : parent.id, e.image});
    return;
  }
  if (seized_ && (traces_others(e) || images_.has_leak_sanitizer(image)))
    return leave_alone(*process);
  if (options_.lists->strict_clock && !hide_vdso(tid))
    ledger_.refuse(e, "clock-read", "", "its vDSO can't be hidden, which tells the time", true);
  if (const std::optional<store::Reason> reason = refuse_at_start(e, image)) {
    // Temporary names and users concern this execution; an unknown program concerns all above it.
    const bool ancestors = reason->code != "temporary-name";
    ledger_.refuse(e, reason->code, reason->path, reason->detail, ancestors);
    return;
  }
  if (asks_for_random_numbers(e)) {
    ledger_.refuse(e, "random", "", "its script asks for random numbers", true);
    return;
  }
  if (store::never_recorded(e.image)) {
    // What sleeps or invents a name leaves nothing that a caller's record would freeze.
    const bool harmless = e.image_name == "sleep" || e.image_name == "mktemp";
    ledger_.refuse(e, "never", "",
                   e.image_name + " is on the list of programs that are never recorded (never)",
                   !harmless);
    return;
  }
  if (store::is_listed(options_.lists->records_mtimes, e.image)) {
    ledger_.refuse(e, "records-mtimes", "",
                   e.image_name + " keeps its outputs' times in a log (records_mtimes)", false);
    return;
  }
  if (!e.refusals.empty() || options_.recache) {
    if (options_.recache) e.misses.push_back({"recache", "", "--recache looks nothing up"});
    return;
  }
  try_hit(e, *process);
}

bool TracedSession::try_hit(Execution& e, Process& process) {
  LookupResult found = look_up(e, process, observer_, options_.cache_failures);
  if (!found.record) {
    e.misses = std::move(found.reasons);
    e.nearest = found.nearest;
    return false;
  }
  if (options_.check) {
    e.would_hit = std::move(found.record);
    e.misses.push_back({"check", "", "--check runs what would hit"});
    return false;
  }
  return replay(e, process, *found.record);
}

bool TracedSession::replay(Execution& e, Process& process, const store::Record& record) {
  const auto miss = [&](const std::string& why) {
    e.misses.push_back({"replay-failed", "", why});
    return false;
  };
  const int64_t began_ns = store::realtime_ns();
  UniqueFd streams;
  uint64_t stream_bytes = 0;
  for (const store::StreamSegment& segment : record.streams) stream_bytes += segment.size;
  if (!record.stream_blob.empty()) {
    Result<UniqueFd> blob = store_.blobs().open(record.stream_blob, stream_bytes);
    if (!blob) return miss(blob.error().to_string());
    streams = std::move(*blob);
  }
  // `cat a b >> b`: what it would write to is what it reads, under whatever name.
  if (!e.output_inodes.empty()) {
    struct stat st {};
    for (const Fact& fact : record.facts)
      if ((fact.key.kind == FactKind::kContent || fact.key.kind == FactKind::kIdentity) &&
          fact.value.err == 0 && observer_.stat(fact.key.path, &st) == 0 &&
          e.output_inodes.contains({st.st_dev, st.st_ino}))
        return miss("its output goes to " + fact.key.path.text + ", which it reads");
    for (const Effect& effect : record.effects)
      if (effect.kind != EffectKind::kOffset && observer_.stat(effect.path, &st) == 0 &&
          e.output_inodes.contains({st.st_dev, st.st_ino}))
        return miss("its output goes to " + effect.path.text + ", which it changes");
  }
  // Descriptor 0 on the same file as 1: cat refuses that.
  if (const auto input = process.tags.find(0);
      input != process.tags.end() && !e.output_inodes.empty()) {
    struct stat st {};
    if (classify(input->second->link) == FdKind::kFile &&
        observer_.stat(TreePath::from_absolute(input->second->link, observer_.tree().root()),
                       &st) == 0 &&
        e.output_inodes.contains({st.st_dev, st.st_ino}))
      return miss("its output goes to its input");
  }

  // What was there, for its ancestors; contents they have observed are hashed now.
  std::unordered_map<TreePath, Before, store::TreePathHash> before;
  std::unordered_map<TreePath, std::vector<store::DirEntry>, store::TreePathHash> listings;
  for (const Effect& effect : record.effects)
    if (effect.kind != EffectKind::kOffset && !before.contains(effect.path))
      before[effect.path] = ledger_.before_change(*e.parent, effect.path);
  for (const Fact& fact : record.facts) {
    if (fact.key.kind == FactKind::kListing && fact.value.err == 0)
      observer_.list(fact.key.path, &listings[fact.key.path]);
    const bool which_inode = fact.key.kind == FactKind::kIdentity && !fact.value.text.empty();
    if ((fact.key.kind == FactKind::kReplaced || which_inode) && !before.contains(fact.key.path)) {
      Before& there = before[fact.key.path];
      there.err = observer_.stat(fact.key.path, &there.st);
    }
  }
  UniqueFd input;
  int64_t input_offset = -1;
  for (const Effect& effect : record.effects) {
    if (effect.kind != EffectKind::kOffset) continue;
    input = duplicate_fd(process.pid, static_cast<int>(effect.mode));
    if (!input) return miss("its standard input can't be moved");
    input_offset = static_cast<int64_t>(effect.size);
  }

  // The stub first: once effects are applied nothing may fail any more.
  StubRun stub(record.streams, std::move(streams), record.stream_bytes, record.exit_status);
  if (!stub.install(Tid{process.pid})) return miss("the process can't be skipped");
  const Result<store::ReplayResult> applied = store::apply_effects(record, observer_);
  if (!applied) {
    stub.uninstall(Tid{process.pid});
    return miss(applied.error().to_string());
  }
  if (options_.replayed)
    for (const store::Applied& output : applied->applied)
      if (output.path.in_root()) options_.replayed(output.path.text);
  if (input) ::lseek(input.get(), input_offset, SEEK_SET);
  e.hit = true;
  e.record = record.strong;
  e.hit_executions = record.executions;
  e.effect_count = record.effects.size();
  e.bytes_served = applied->bytes_served;
  const uint64_t spent = static_cast<uint64_t>(monotonic_now_ns() - e.started_ns);
  e.saved_ns = record.wall_ns > spent ? record.wall_ns - spent : 0;
  process.stub = std::move(stub);
  process.replaying = true;
  process.expected_status = record.exit_status;

  apply_to_ancestors(e, process, record, before, listings);
  store_.touch(record.weak, record.strong);
  for (const store::Applied& output : applied->applied) {
    if (!output.present || S_ISDIR(output.st.st_mode)) continue;
    if (S_ISREG(output.st.st_mode))
      store_.remember_own({}, observer_.tree().root(), output.path.text,
                          store::Stamp::of(output.st));
    store_.note_output(observer_.tree().root(), output.path.text, record.strong, true, began_ns);
  }
  return true;
}

void TracedSession::apply_to_ancestors(
    Execution& e, Process& process, const store::Record& record,
    const std::unordered_map<TreePath, Before, store::TreePathHash>& before,
    const std::unordered_map<TreePath, std::vector<store::DirEntry>, store::TreePathHash>&
        listings) {
  Execution& parent = *e.parent;
  for (const Fact& fact : record.facts) {
    switch (fact.key.kind) {
      case FactKind::kListing: {
        const auto now = listings.find(fact.key.path);
        ledger_.list(parent, fact.key.path, fact.value.err,
                     now == listings.end() ? std::vector<store::DirEntry>() : now->second,
                     fact.key.names, fact.key.param);
        break;
      }
      case FactKind::kReplaced: {
        const Before& there = before.at(fact.key.path);
        ledger_.observe_replaced(parent, fact.key, there.err, there.st);
        break;
      }
      case FactKind::kIdentity: {
        store::FactValue value = fact.value;
        if (!value.text.empty())
          value.text = store::Observer::identity_value(before.at(fact.key.path).st, 0).text;
        ledger_.observe(parent, fact.key, std::move(value));
        break;
      }
      case FactKind::kEnvironment:
        interpreter_.environment_read(
            e, {fact.key.names.empty(), (fact.key.param & store::kWithJobs) != 0, fact.key.names});
        break;
      case FactKind::kTerminal:
      case FactKind::kStream:
      case FactKind::kStdin:
        break;  // below: by the ancestors' own descriptors
      case FactKind::kAffinity:
        for (Execution* a = &parent; !a->is_session(); a = a->parent)
          ledger_.observe_alone(*a, fact.key, fact.value);
        break;
      default:
        ledger_.observe(parent, fact.key, fact.value);
    }
    if (fact.key.kind == FactKind::kStdin) interpreter_.stdin_used(process, 0);
    if (fact.key.kind == FactKind::kTerminal || fact.key.kind == FactKind::kStream)
      if (const auto tag = process.tags.find(static_cast<int>(fact.key.param));
          tag != process.tags.end())
        interpreter_.observe_stream(parent, fact.key.kind, tag->second->parent.get());
  }
  for (const Fact& fact : record.side_facts) ledger_.side_fact(parent, fact);
  for (const Effect& effect : record.effects) {
    if (effect.kind == EffectKind::kOffset) continue;
    Change change;
    change.kind = ChangeKind::kReplayed;
    change.path = effect.path;
    change.before = before.at(effect.path);
    change.replayed_aspects = aspects_of_effect(effect, change.before.err == 0);
    change.mtime_ns = effect.mtime_ns;
    change.atime_ns = effect.atime_ns;
    change.mode_set = effect.set_mode;
    change.owner_set = effect.uid.has_value();
    change.replayed_removal =
        effect.kind == EffectKind::kRemove || effect.kind == EffectKind::kRemoveDir;
    change.directory = effect.kind == EffectKind::kMakeDir;
    change.unlinks = effect.kind == EffectKind::kFile && !effect.in_place;
    if (effect.kind == EffectKind::kHardLink) change.link_source = effect.text;
    ledger_.change(parent, change);
    for (Execution* a = &parent; !a->is_session(); a = a->parent) {
      PathEntry& entry = a->paths[effect.path];
      for (const auto& [name, value] : effect.xattrs) entry.xattrs.insert(name);
    }
    if ((change.replayed_aspects & kExistence) != 0)
      resolver_.changed(
          effect.path, effect.kind == EffectKind::kSymlink || effect.kind == EffectKind::kHardLink);
  }
  source_->changed();
  if (!record.root.empty()) ledger_.bind_to_root(parent, record.root_reason);

  uint64_t offset = 0;
  for (const store::StreamSegment& segment : record.streams) {
    const auto tag = process.tags.find(static_cast<int>(segment.fd));
    const uint64_t end = offset + segment.size;
    if (tag == process.tags.end() || !tag->second->parent ||
        !interpreter_.wants_stream(process, tag->second)) {
      offset = end;
      continue;
    }
    UniqueFd blob;
    if (!record.stream_blob.empty()) {
      uint64_t total = 0;
      for (const store::StreamSegment& s : record.streams) total += s.size;
      if (Result<UniqueFd> opened = store_.blobs().open(record.stream_blob, total))
        blob = std::move(*opened);
    }
    while (offset < end) {
      const uint64_t size = std::min<uint64_t>(end - offset, 1 << 20);
      std::string bytes(size, '\0');
      if (blob) {
        if (::pread(blob.get(), bytes.data(), size, static_cast<off_t>(offset)) !=
            static_cast<ssize_t>(size))
          break;
      } else {
        bytes = record.stream_bytes.substr(offset, size);
      }
      const int64_t at = spool_.append(bytes);
      if (at < 0 || bytes.size() != size) {
        ledger_.refuse(parent, "stream-lost", "", "its output could not be kept", true);
        return;
      }
      interpreter_.stream_written(process, tag->second, static_cast<uint64_t>(at), size);
      offset += size;
    }
  }
}

}  // namespace pcache::tracer
