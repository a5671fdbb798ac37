// Calls on descriptors: standard streams, sockets, signals.
#include <fcntl.h>
#include <linux/sched.h>
#include <poll.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/uio.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstddef>
#include <string_view>

#include "tracer/interpreter.h"

namespace pcache::tracer {

using store::FactKey;
using store::FactKind;
using store::FactValue;

namespace {

constexpr uint64_t kPipeAtOnce = 4096;  // PIPE_BUF: a write up to this is whole or not at all
constexpr uint64_t kCopyBytes = 1 << 20;

// How often an image asks by fstat what `fd` is before that is a question of its own.
int asked_by_stdio(const std::string& image, int fd) {
  // They print by stdio in each subshell, compare outputs with inputs, or flush earlier into pipes.
  static constexpr std::array<std::string_view, 3> kTellNobody = {"cmp", "git", "grep"};
  // They have buffers of their own making.
  static constexpr std::array<std::string_view, 6> kNoStdio = {"node", "nodejs", "perl",
                                                               "php",  "ruby",   "tclsh"};
  constexpr int kAlways = 1 << 30;
  const auto among = [&](const auto& list) {
    return std::find(list.begin(), list.end(), image) != list.end();
  };
  if (store::is_shell(image) || among(kTellNobody)) return kAlways;
  if (among(kNoStdio)) return 0;
  // stderr has no buffer, but python's has.
  return fd == 2 && image != "python" ? 0 : 1;
}

}  // namespace

void Interpreter::refuse_stream_users(const Caller& c, int fd, const std::string& code,
                                      const std::string& detail) {
  if (const std::shared_ptr<StreamTag> tag = stream_of(c, fd))
    refuse_tag_users(c, *tag, code, detail);
}

void Interpreter::refuse_tag_users(const Caller& c, const StreamTag& tag, const std::string& code,
                                   const std::string& detail) {
  if (classify(tag.link) == FdKind::kNull) return;
  Execution* a = &c.e;
  for (const StreamTag* t = &tag; t != nullptr; t = t->parent.get()) {
    while (!a->is_session() && a->id != t->execution) a = a->parent;
    if (a->is_session()) return;
    ledger_.refuse(*a, code, "", detail, false);
  }
}

void Interpreter::refuse_inherited_users(const Caller& c, int fd, const std::string& code,
                                         const std::string& detail) {
  const auto found = c.process.inherited.find(fd);
  if (found == c.process.inherited.end() || found->second != fd_link(c.tid, fd)) return;
  for (Execution* a = &c.e; !a->is_session() && a->inherited.contains(found->second); a = a->parent)
    ledger_.refuse(*a, code, "", detail + ", " + found->second, false);
}

// A recorded stream is written where the descriptor stands.
void Interpreter::on_seek(const Caller& c, const CallEvent& event) {
  if (event.args[1] == 0 && event.args[2] == SEEK_CUR) return;
  const int fd = static_cast<int>(event.args[0]);
  const std::shared_ptr<StreamTag> tag = stream_of(c, fd);
  if (tag && classify(tag->link) == FdKind::kFile)
    refuse_stream_users(c, fd, "stream-seeked", "it moved in the file behind a standard stream");
}

std::shared_ptr<StreamTag> Interpreter::stream_of(const Caller& c, int fd) const {
  const auto found = c.process.tags.find(fd);
  if (found == c.process.tags.end()) return nullptr;
  // Closed and opened as something else meanwhile (tar does); but a file that was removed is the
  // same.
  const std::string link = fd_link(c.tid, fd);
  if (link != found->second->link && link != found->second->link + " (deleted)") return nullptr;
  return found->second;
}

bool Interpreter::wants_stream(const Process& process,
                               const std::shared_ptr<StreamTag>& tag) const {
  const Execution* a = process.execution;
  for (const StreamTag* t = tag.get(); t != nullptr; t = t->parent.get())
    for (; !a->is_session(); a = a->parent)
      if (a->id == t->execution) {
        if (a->refusals.empty()) return true;
        break;
      }
  return false;
}

// `a | b` in a shell: a's descriptor 1 is a's stream 1 and no stream of the shell. `sh -c 'x >&2'`:
// x's stream 1 is the shell's stream 2.
void Interpreter::stream_written(Process& process, const std::shared_ptr<StreamTag>& tag,
                                 uint64_t offset, uint64_t size) {
  Execution* a = process.execution;
  for (const StreamTag* t = tag.get(); t != nullptr && !a->is_session(); t = t->parent.get()) {
    while (!a->is_session() && a->id != t->execution) {
      // It holds an ancestor's stream under another number: a record could not write there.
      ledger_.refuse(*a, "writes-inherited", "", "it wrote to a descriptor above 2", false);
      a = a->parent;
    }
    if (a->is_session()) return;
    if (t->handed_on)
      for (Execution* giver = a->parent;
           giver != nullptr && !giver->is_session() && giver->inherited.contains(t->link);
           giver = giver->parent)
        ledger_.refuse(*giver, "writes-inherited", "", "a child wrote to " + t->link, false);
    if (t->number == 0) {
      ledger_.refuse(*a, "writes-inherited", "", "it wrote to its standard input", false);
    } else {
      const uint32_t fd = static_cast<uint32_t>(t->number);
      if (!a->streams.empty() && a->streams.back().fd == fd &&
          a->streams.back().offset + a->streams.back().size == offset)
        a->streams.back().size += size;
      else
        a->streams.push_back({fd, offset, size});
    }
    a = a->parent;
  }
}

void Interpreter::written(const Caller& c, int fd,
                          const std::vector<std::pair<uint64_t, uint64_t>>& pieces) {
  const std::shared_ptr<StreamTag> tag = stream_of(c, fd);
  if (!tag) {
    // Renamed, or closed and opened as another file: nobody can tell.
    if (const auto known = c.process.tags.find(fd);
        known != c.process.tags.end() && classify(known->second->link) == FdKind::kFile)
      ledger_.refuse(c.e, "stream-uncertain", known->second->link,
                     "it has another name now, or was opened anew", true);
    const auto inherited = c.process.inherited.find(fd);
    if (inherited == c.process.inherited.end()) return;
    const std::string link = fd_link(c.tid, fd);
    if (link != inherited->second) return;
    for (Execution* a = &c.e; !a->is_session() && a->inherited.contains(link); a = a->parent)
      ledger_.refuse(*a, "writes-inherited", "",
                     "it wrote to descriptor " + std::to_string(fd) + ", " + link, false);
    return;
  }
  if (!wants_stream(c.process, tag)) return;
  const FdKind written_kind = classify(tag->link);
  if (written_kind == FdKind::kOther) {
    refuse_stream_users(c, fd, "stream-device", "it wrote to " + tag->link);
    return;
  }
  if (written_kind == FdKind::kPipe || written_kind == FdKind::kSocket) {
    // Nobody reads it any more: the write will fail, and the program may carry on.
    const UniqueFd end = duplicate_fd(c.process.pid, fd);
    pollfd poll{end.get(), POLLOUT, 0};
    if (end && ::poll(&poll, 1, 0) > 0 && (poll.revents & (POLLERR | POLLHUP)) != 0) {
      refuse_stream_users(c, fd, "stream-closed", "nobody read what it wrote");
      return;
    }
  }
  if (!tag->checked) {
    const std::optional<FdInfo> info = fd_info(c.tid, fd);
    tag->nonblocking = !info || (info->flags & O_NONBLOCK) != 0;
    tag->checked = true;
  }
  const FdKind kind = classify(tag->link);
  if (tag->nonblocking && kind != FdKind::kFile && kind != FdKind::kNull) {
    refuse_stream_users(c, fd, "stream-nonblocking", "how much was written is unknown");
    return;
  }
  uint64_t total = 0;
  std::string bytes;
  for (const auto& [address, size] : pieces) {
    for (uint64_t done = 0; done < size;) {
      const uint64_t now = std::min(size - done, kCopyBytes);
      bytes.resize(now);
      const bool read = read_memory(c.tid, RemotePtr{address + done}, bytes.data(), now);
      const int64_t offset = read ? spool_.append(bytes) : -1;
      if (offset < 0) {
        ledger_.refuse(c.e, "stream-lost", "", "its output could not be kept", true);
        return;
      }
      stream_written(c.process, tag, static_cast<uint64_t>(offset), now);
      done += now;
    }
    total += size;
  }
  if (total > kPipeAtOnce && kind != FdKind::kFile)
    if (Thread* thread = lineage_.thread(c.tid.value)) thread->big_write = true;
}

void Interpreter::writing_failed(const Thread& thread, const std::string& code,
                                 const std::string& detail) {
  Process& process = *thread.process;
  const Caller c{Tid{process.pid}, process, *process.execution};
  ledger_.refuse(c.e, code, "", detail, false);
  refuse_stream_users(c, thread.written_fd, code, detail);
}

void Interpreter::on_write(const Caller& c, const CallEvent& event) {
  const int fd = static_cast<int>(event.args[0]);
  if (Thread* thread = lineage_.thread(c.tid.value)) thread->written_fd = fd;
  if (!c.process.tags.contains(fd) && !c.process.inherited.contains(fd)) return;
  std::vector<std::pair<uint64_t, uint64_t>> pieces;
  if (event.row->name.starts_with("pwrite"))
    refuse_stream_users(c, fd, "stream-seeked", "it wrote at a position of its own");
  if (event.row->meaning == Meaning::kWrite) {
    pieces.emplace_back(event.args[1], event.args[2]);
  } else {
    const size_t count = std::min<uint64_t>(event.args[2], 1024);
    std::vector<iovec> vectors(count);
    if (count == 0 ||
        !read_memory(c.tid, RemotePtr{event.args[1]}, vectors.data(), count * sizeof(iovec)))
      return;
    for (const iovec& v : vectors)
      pieces.emplace_back(reinterpret_cast<uint64_t>(v.iov_base), v.iov_len);
  }
  written(c, fd, pieces);
}

bool Interpreter::keep_written(Process& process, const std::shared_ptr<StreamTag>& tag,
                               const CallEvent& event) {
  const FdKind kind = classify(tag->link);
  if (kind == FdKind::kOther || !event.first ||
      event.first->size() != static_cast<uint64_t>(*event.result))
    return false;
  const int64_t offset = spool_.append(*event.first);
  if (offset < 0) return false;
  stream_written(process, tag, static_cast<uint64_t>(offset), event.first->size());
  return true;
}

// Whether it still is what it was can't be asked any more; the source knows when it is closed.
void Interpreter::written_above(const Caller& c, const CallEvent& event) {
  const int fd = static_cast<int>(event.args[0]);
  const std::string detail = "it wrote to descriptor " + std::to_string(fd);
  if (const auto tag = c.process.tags.find(fd); tag != c.process.tags.end() &&
                                                wants_stream(c.process, tag->second) &&
                                                !keep_written(c.process, tag->second, event))
    refuse_tag_users(c, *tag->second, "stream-uncertain", detail + ", a copy of a standard one");
  const auto given = c.process.inherited.find(fd);
  if (given == c.process.inherited.end()) return;
  const std::string link = given->second;
  for (Execution* a = &c.e; !a->is_session() && a->inherited.contains(link); a = a->parent)
    ledger_.refuse(*a, "writes-inherited", "", detail + ", " + link, false);
}

void Interpreter::forget_descriptor(Process& process, int fd) {
  process.tags.erase(fd);
  process.inherited.erase(fd);
}

void Interpreter::mark_descriptors(const Process& process) {
  if (asynchronous_ == nullptr) return;
  constexpr int kLastMark = 63;  // stands for all from there on
  uint64_t marks = 0;
  const auto mark = [&](int fd) {
    if (fd > 2) marks |= uint64_t{1} << std::min(fd, kLastMark);
  };
  for (const auto& [fd, tag] : process.tags) mark(fd);
  for (const auto& [fd, link] : process.inherited) mark(fd);
  asynchronous_->mark(process.pid, marks);
}

void Interpreter::on_send(const Caller& c, const CallEvent& event) {
  const int fd = static_cast<int>(event.args[0]);
  uint64_t address = 0;
  if (event.row->name == "sendto")
    address = event.args[4];
  else
    read_memory(c.tid, RemotePtr{event.args[1]}, &address, sizeof address);  // msg_name
  if (address != 0) {
    ledger_.refuse(c.e, "network", "", "it sent to a socket address", true);
    return;
  }
  if (stream_of(c, fd) || c.process.inherited.contains(fd))
    ledger_.refuse(c.e, "writes-inherited", "", "it sent to an inherited socket", true);
}

// Bytes that go to a stream inside the kernel can't be seen. Programs that fall back to write(), as
// they must on other kernels and file systems, are made to; for others the stream is lost.
Answer Interpreter::on_transfer(const Caller& c, const CallEvent& event) {
  int in = static_cast<int>(event.args[0]), out = static_cast<int>(event.args[1]);
  if (event.row->name == "splice" || event.row->name == "copy_file_range")
    out = static_cast<int>(event.args[2]);
  if (event.row->name == "sendfile") std::swap(in, out);
  if (event.row->name == "vmsplice") out = in;
  stdin_used(c.process, in);
  refuse_inherited_users(c, in, "reads-inherited", "it read descriptor " + std::to_string(in));
  refuse_inherited_users(c, out, "writes-inherited",
                         "it wrote to descriptor " + std::to_string(out));
  if (!stream_of(c, out)) return {};
  static constexpr std::array<std::string_view, 12> kFallBack = {
      "cat", "cp", "dd", "head", "install", "mv", "pv", "rsync", "split", "tail", "tar", "tee"};
  if (std::find(kFallBack.begin(), kFallBack.end(), c.e.image_name) != kFallBack.end())
    return {EINVAL};
  refuse_stream_users(c, out, "stream-uncertain", std::string(event.row->name) + " wrote to it");
  return {};
}

void Interpreter::after_dup(const Caller& c, const CallEvent& event, int64_t result) {
  if (result < 0) return;
  const int from = static_cast<int>(event.args[0]), to = static_cast<int>(result);
  if (from == to) return;
  const auto tag = c.process.tags.find(from);
  const auto inherited = c.process.inherited.find(from);
  std::shared_ptr<StreamTag> moved = tag == c.process.tags.end() ? nullptr : tag->second;
  std::string link = inherited == c.process.inherited.end() ? std::string() : inherited->second;
  c.process.tags.erase(to);
  c.process.inherited.erase(to);
  // Shells keep a copy aside and put it back; others may read or seek by the new number.
  // (from 10 on; reads of 5 to 9 are reported).
  constexpr int kShellsOwn = 10;
  const bool seen =
      (to >= 5 && to < kShellsOwn) || (to >= kShellsOwn && store::is_shell(c.e.image_name));
  if (moved && moved->number == 0 && to > 2 && !seen) stdin_used(c.process, from);
  if (moved) c.process.tags[to] = std::move(moved);
  if (!link.empty()) c.process.inherited[to] = std::move(link);
  if (to > 2) mark_descriptors(c.process);
}

void Interpreter::stdin_used(Process& process, int fd) {
  const auto found = process.tags.find(fd);
  if (found == process.tags.end() || found->second->number != 0) return;
  const Tid tid{process.pid};
  const std::shared_ptr<StreamTag> tag = found->second;
  bool all_used = true;
  Execution* a = process.execution;
  for (const StreamTag* t = tag.get(); t != nullptr; t = t->parent.get()) {
    while (!a->is_session() && a->id != t->execution) a = a->parent;
    if (a->is_session()) break;
    all_used = all_used && a->stdin_use.used;
  }
  {
    struct stat st {};
    const TreePath path = TreePath::from_absolute(tag->link, ledger_.observer().tree().root());
    if (in_own_view(path)) return refuse_view(*process.execution, path);
    if (classify(tag->link) == FdKind::kFile && !all_used) {
      const Caller c{tid, process, *process.execution};
      if (const std::optional<Resolved> script = resolve_fd(c, fd)) script_read(c, *script);
    }
    if (classify(tag->link) == FdKind::kFile && ledger_.observer().stat(path, &st) == 0 &&
        process.execution->output_inodes.contains({st.st_dev, st.st_ino}))
      ledger_.refuse(*process.execution, "reads-own-output", path.text,
                     "its output goes to its input", false);
  }
  if (all_used || fd_link(tid, fd) != tag->link) return;
  const FdKind kind = classify(tag->link);
  if (kind == FdKind::kClosed) return;
  if (kind == FdKind::kFile && process.execution->mtime_matters) {
    // gzip < f keeps f's mtime: it has it from an fstat.
    const Caller c{tid, process, *process.execution};
    if (const std::optional<Resolved> at = resolve_fd(c, fd)) observe_identity(c, *at);
  }

  std::shared_ptr<UniqueFd> file;
  FactValue value;
  if (kind == FdKind::kNull) value.text = "null";
  if (kind == FdKind::kFile) {
    file = std::make_shared<UniqueFd>(duplicate_fd(process.pid, fd));
    struct stat st {};
    if (*file && ::fstat(file->get(), &st) == 0 && S_ISREG(st.st_mode)) {
      const Result<store::Digest> hash = ledger_.observer().store().hash_file(file->get(), st);
      if (hash)
        value.hash = *hash;
      else
        file.reset();
    } else {
      file.reset();
    }
  }
  a = process.execution;
  for (const StreamTag* t = tag.get(); t != nullptr; t = t->parent.get()) {
    while (!a->is_session() && a->id != t->execution) a = a->parent;
    if (a->is_session()) return;
    StdinUse& use = a->stdin_use;
    if (t->handed_on)
      for (Execution* giver = a->parent;
           giver != nullptr && !giver->is_session() && giver->inherited.contains(t->link);
           giver = giver->parent)
        ledger_.refuse(*giver, "reads-inherited", "", "a child read " + t->link, false);
    if (!use.used) {
      use.used = true;
      if (kind == FdKind::kNull) {
        ledger_.observe_alone(*a, FactKey{FactKind::kStdin, {}, 0, {}}, value);
      } else if (file && use.offset_at_exec >= 0) {
        use.file = file;
        value.size = static_cast<uint64_t>(use.offset_at_exec);
        ledger_.observe_alone(*a, FactKey{FactKind::kStdin, {}, 0, {}}, value);
      } else {
        const char* code = kind == FdKind::kTerminal ? "reads-terminal"
                           : kind == FdKind::kPipe   ? "reads-pipe"
                           : kind == FdKind::kSocket ? "reads-socket"
                                                     : "reads-device";
        ledger_.refuse(*a, code, "", "its standard input is " + tag->link, false);
      }
    }
  }
}

void Interpreter::observe_stream(Execution& e, FactKind kind, const StreamTag* tag) {
  Execution* a = &e;
  for (const StreamTag* t = tag; t != nullptr; t = t->parent.get()) {
    while (!a->is_session() && a->id != t->execution) a = a->parent;
    if (a->is_session()) return;
    ledger_.observe_alone(*a, FactKey{kind, {}, static_cast<uint32_t>(t->number), {}},
                          stream_value(kind, *t));
  }
}

// `wc -c < file` asks for a size. perl's `-p STDOUT` asks whether it is a pipe; so does stdio, to
// choose its buffers, once for each descriptor, and tells nobody. What is asked beyond that is a
// question.
void Interpreter::descriptor_examined(const Caller& c, const CallEvent& event) {
  const int fd = static_cast<int>(event.args[0]);
  if (fd == 0) {
    const auto tag = c.process.tags.find(0);
    if (tag != c.process.tags.end() && classify(tag->second->link) == FdKind::kFile)
      stdin_used(c.process, 0);
    return;
  }
  const std::shared_ptr<StreamTag> tag = stream_of(c, fd);
  if (!tag || tag->number == 0) return;
  if (c.process.examined[fd]++ < asked_by_stdio(c.e.image_name, fd) && event.row->name != "statx")
    return;
  observe_stream(c.e, FactKind::kStream, tag.get());
}

void Interpreter::on_ioctl(const Caller& c, const CallEvent& event) {
  const int fd = static_cast<int>(event.args[0]);
  const auto found = c.process.tags.find(fd);
  const std::string link =
      event.result && found != c.process.tags.end() ? found->second->link : fd_link(c.tid, fd);
  const bool terminal = event.result ? *event.result == 0 : classify(link) == FdKind::kTerminal;
  if ((event.args[1] & 0xffffffff) == FIONREAD) {
    stdin_used(c.process, fd);
    return;
  }
  if ((event.args[1] & 0xffffffff) != TCGETS) {
    if (terminal) ledger_.refuse(c.e, "terminal-ioctl", "", "it changed the terminal", true);
    return;
  }
  if (found == c.process.tags.end() || found->second->link != link) return;
  observe_stream(c.e, FactKind::kTerminal, found->second.get());
}

void Interpreter::on_signal(const Caller& c, const CallEvent& event) {
  const pid_t target = static_cast<pid_t>(event.args[0]);
  if (event.row->name == "pidfd_send_signal") {
    ledger_.refuse(c.e, "signals", "", "pidfd_send_signal", true);
    return;
  }
  if (target == c.process.own_pid) return;
  const Process* other = nullptr;
  if (target > 0) {
    // In a namespace numbers are others than ours; those of threads are not known then.
    const bool renamed = c.process.own_pid != c.process.pid;
    other = renamed ? lineage_.by_own_pid(target) : lineage_.process_of(target);
  }
  for (Execution* a = &c.e; !a->is_session(); a = a->parent) {
    if (other != nullptr && other->execution->within(*a)) return;
    if (other == nullptr && target > 0 && lineage_.was_of(*a, target)) return;
    ledger_.refuse(*a, "signals", "", "it signalled a process outside", false);
  }
}

void Interpreter::on_clone3(const Caller& c, const CallEvent& event) {
  uint64_t flags = 0;
  if (!read_memory(c.tid, RemotePtr{event.args[0]}, &flags, sizeof flags)) return;
  constexpr uint64_t kNamespaces = CLONE_NEWNS | CLONE_NEWCGROUP | CLONE_NEWUTS | CLONE_NEWIPC |
                                   CLONE_NEWUSER | CLONE_NEWPID | CLONE_NEWNET | CLONE_UNTRACED;
  if ((flags & kNamespaces) != 0) ledger_.refuse(c.e, "namespace", "", "clone3", true);
}

void Interpreter::on_affinity(const Caller& c) {
  cpu_set_t set;
  CPU_ZERO(&set);
  FactValue value;
  if (::sched_getaffinity(c.tid.value, sizeof set, &set) != 0)
    value.err = errno;
  else
    value.size = static_cast<uint64_t>(CPU_COUNT(&set));
  for (Execution* a = &c.e; !a->is_session(); a = a->parent)
    ledger_.observe_alone(*a, FactKey{FactKind::kAffinity, {}, 0, {}}, value);
}

}  // namespace pcache::tracer
