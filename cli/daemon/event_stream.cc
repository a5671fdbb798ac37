#include "cli/daemon/event_stream.h"

#include <fcntl.h>
#include <linux/openat2.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>

#include "store/environment.h"
#include "store/secrets.h"

namespace pcache::cli {
namespace {

using tracer::CallEvent;
using tracer::Meaning;

const char* word_of(Meaning meaning) {
  switch (meaning) {
    case Meaning::kOpen:
    case Meaning::kOpen2:
    case Meaning::kCreat:
      return "open";
    case Meaning::kStat:
      return "stat";
    case Meaning::kAccess:
      return "access";
    case Meaning::kReadLink:
      return "readlink";
    case Meaning::kExec:
      return "exec";
    case Meaning::kChdir:
    case Meaning::kFchdir:
      return "chdir";
    case Meaning::kGetDents:
      return "list";
    case Meaning::kRead:
      return "read";
    case Meaning::kMap:
      return "map";
    case Meaning::kWrite:
    case Meaning::kWriteV:
      return "write";
    case Meaning::kSend:
      return "send";
    case Meaning::kTransfer:
      return "transfer";
    case Meaning::kDup:
      return "dup";
    case Meaning::kConnect:
      return "connect";
    case Meaning::kBind:
      return "bind";
    case Meaning::kUnlink:
    case Meaning::kRmdir:
      return "remove";
    case Meaning::kRename:
      return "rename";
    case Meaning::kLink:
      return "link";
    case Meaning::kSymlink:
      return "symlink";
    case Meaning::kMkdir:
      return "mkdir";
    case Meaning::kMknod:
      return "mknod";
    case Meaning::kTruncate:
    case Meaning::kResize:
      return "truncate";
    case Meaning::kChmod:
    case Meaning::kChown:
    case Meaning::kUtime:
    case Meaning::kSetXattr:
      return "attributes";
    case Meaning::kFstat:
      return "fstat";
    default:
      return "other";
  }
}

bool is_descriptor_call(const CallEvent& event) {
  switch (event.row->meaning) {
    case Meaning::kRead:
    case Meaning::kWrite:
    case Meaning::kWriteV:
    case Meaning::kSend:
    case Meaning::kGetDents:
    case Meaning::kFstat:
    case Meaning::kResize:
    case Meaning::kFchdir:
    case Meaning::kConnect:
    case Meaning::kBind:
      return true;
    default:
      return event.row->on_fd && !event.first;
  }
}

uint64_t open_flags(const CallEvent& event) {
  if (event.row->meaning == Meaning::kCreat) return O_CREAT | O_WRONLY | O_TRUNC;
  if (event.row->meaning == Meaning::kOpen)
    return event.args[static_cast<size_t>(event.row->flags)];
  struct open_how how {};
  tracer::read_memory(event.tid, tracer::RemotePtr{event.args[2]}, &how, sizeof how.flags);
  return how.flags;
}

int64_t now_us() {
  const auto now = std::chrono::steady_clock::now().time_since_epoch();
  return std::chrono::duration_cast<std::chrono::microseconds>(now).count();
}

uint64_t inode_of(tracer::Tid tid, int fd) {
  const std::string text = tracer::read_proc(tid, "fdinfo/" + std::to_string(fd));
  const size_t at = text.find("ino:");
  return at == std::string::npos ? 0 : std::strtoull(text.c_str() + at + 4, nullptr, 10);
}

std::map<std::string, std::string> environment_of(const store::ImageInfo& image) {
  std::map<std::string, std::string> out;
  for (const std::string& variable : image.env)
    out.emplace(store::name_of(variable), store::value_of(variable));
  return out;
}

}  // namespace

EventStream::EventStream(UniqueFd out, store::Tree& tree, store::Store& store)
    : out_(std::move(out)), observer_(tree, store), resolver_(observer_), started_us_(now_us()) {}

EventStream::Json EventStream::begin(tracer::Tid tid, const char* kind) const {
  return {{"t", now_us() - started_us_}, {"tid", tid.value}, {"ev", kind}};
}

void EventStream::write(const Json& event) {
  if (!out_) return;
  const std::string line = event.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n";
  for (size_t done = 0; done < line.size();) {
    const ssize_t n = ::write(out_.get(), line.data() + done, line.size() - done);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return out_.reset();
    done += static_cast<size_t>(n);
  }
}

EventStream::Named EventStream::name(const CallEvent& event, bool second) {
  const tracer::PathArg& arg = second ? event.row->second : event.row->first;
  const std::optional<std::string>& text = second ? event.second : event.first;
  if (!text) return {};
  const int dirfd =
      arg.dirfd < 0 ? AT_FDCWD : static_cast<int>(event.args[static_cast<size_t>(arg.dirfd)]);
  const std::string base = text->starts_with('/') ? std::string("/")
                           : dirfd == AT_FDCWD    ? tracer::proc_link(event.tid, "cwd")
                                                  : tracer::fd_link(event.tid, dirfd);
  const bool follow = !event.row->no_follow && !second;
  const tracer::Resolved at = resolver_.resolve(base, *text, follow, event.tid.value);
  return {at.path.absolute(observer_.tree().root()), at.err, at.err == 0 ? at.st.st_ino : 0};
}

void EventStream::describe_descriptor(const CallEvent& event, int fd, Json* out) const {
  (*out)["fd"] = fd;
  (*out)["path"] = tracer::fd_link(event.tid, fd);
  if (const uint64_t ino = inode_of(event.tid, fd); ino != 0) (*out)["ino"] = ino;
}

tracer::Answer EventStream::on_call(const CallEvent& event) {
  if (event.row->meaning == Meaning::kExec && event.first)
    named_[event.tid.value] = name(event, false).path;
  if (!watched(event.tid) || !out_) return {};
  Json out = begin(event.tid, "call");
  out["name"] = event.foreign             ? "foreign"
                : event.row->name.empty() ? "number " + std::to_string(event.number)
                                          : std::string(event.row->name);
  out["what"] = word_of(event.row->meaning);
  if (event.first) {
    const Named at = name(event, false);
    out["path"] = at.path;
    if (at.ino != 0) out["ino"] = at.ino;
    out["existed"] = at.err == 0;
    const int8_t dirfd = event.row->first.dirfd;
    if (dirfd >= 0 && static_cast<int>(event.args[static_cast<size_t>(dirfd)]) != AT_FDCWD &&
        !event.first->starts_with('/'))
      out["at"] = true;
  }
  if (event.second) out["path2"] = name(event, true).path;
  if (is_descriptor_call(event)) describe_descriptor(event, static_cast<int>(event.args[0]), &out);
  if (event.row->meaning == Meaning::kMap)
    describe_descriptor(event, static_cast<int>(event.args[4]), &out);
  if (event.row->meaning == Meaning::kTransfer && event.row->name != "vmsplice") {
    const bool out_first = event.row->name == "sendfile";
    const size_t to = event.row->name == "splice" || event.row->name == "copy_file_range" ? 2 : 1;
    describe_descriptor(event, static_cast<int>(event.args[out_first ? 1 : 0]), &out);
    out["path2"] = tracer::fd_link(event.tid, static_cast<int>(event.args[out_first ? 0 : to]));
  }
  if (word_of(event.row->meaning) == std::string_view("open")) out["flags"] = open_flags(event);
  if (event.row->name.starts_with("socket")) out["family"] = event.args[0];
  if (event.row->meaning == Meaning::kConnect || event.row->meaning == Meaning::kBind) {
    sa_family_t family = 0;
    if (tracer::read_memory(event.tid, tracer::RemotePtr{event.args[1]}, &family, sizeof family))
      out["family"] = family;
  }
  if (event.foreign)  // it has no second stop
    write(out);
  else
    pending_[event.tid.value] = std::move(out);
  return {};
}

void EventStream::on_result(const CallEvent& event, int64_t result) {
  const auto found = pending_.find(event.tid.value);
  if (found == pending_.end()) return;
  Json out = std::move(found->second);
  pending_.erase(found);
  out["result"] = result;
  const std::string_view what = word_of(event.row->meaning);
  if (what == "open" && result >= 0) describe_descriptor(event, static_cast<int>(result), &out);
  if (result >= 0 && (what == "rename" || what == "remove" || what == "symlink" || what == "mkdir"))
    resolver_.forget_all();
  write(out);
}

void EventStream::on_fork(tracer::Tid parent, tracer::Tid child, bool thread) {
  if (!watched(parent)) return;
  known_.insert(child.value);
  if (!thread) environments_[child.value] = environments_[parent.value];
  Json out = begin(parent, "fork");
  out["child"] = child.value;
  out["thread"] = thread;
  write(out);
}

void EventStream::on_exec(const Exec& exec) {
  known_.insert(exec.pid);
  pending_.erase(exec.pid);
  Json out = begin(tracer::Tid{exec.pid}, "exec");
  out["id"] = exec.id;
  out["parent"] = exec.parent;
  const std::string named = std::exchange(named_[exec.pid], "");
  out["path"] = named.empty() ? exec.image.executable : named;
  out["argv"] = exec.image.argv;
  out["cwd"] = exec.image.cwd;
  std::map<std::string, std::string> now = environment_of(exec.image);
  Json changed = Json::object();
  if (exec.parent != 0) {
    std::map<std::string, std::string>& before = environments_[exec.pid];
    for (const auto& [name, value] : now)
      if (const auto known = before.find(name); known == before.end() || known->second != value)
        changed[name] = store::looks_secret(name) ? "(not shown)" : value;
    for (const auto& [name, value] : before)
      if (!now.contains(name)) changed[name] = nullptr;
  }
  out["env"] = std::move(changed);
  environments_[exec.pid] = std::move(now);
  write(out);
}

void EventStream::on_exit(tracer::Tid tid, int status, uint64_t cpu_ns, bool thread) {
  if (!watched(tid)) return;
  known_.erase(tid.value);
  pending_.erase(tid.value);
  environments_.erase(tid.value);
  Json out = begin(tid, "exit");
  out["status"] = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  out["cpu_us"] = cpu_ns / 1000;
  out["thread"] = thread;
  write(out);
}

}  // namespace pcache::cli
