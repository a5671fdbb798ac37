// What processes of one execution share with each other: local sockets with a name, and System V
// shared memory. Within the execution it is its own affair; what crosses its border is refused.
//
//   sh -c 'server & client'
// The shell made server and client, and with them the socket: it can be recorded. Neither of the
// two can, as each hears what the other says.
//
// A name in the file system is a file like others: made and removed again it leaves nothing, left
// behind it cannot be replayed (recorder.cc). Who came to a socket of ours from outside of the
// session is told by the kernel when the call is accepted.
#include <sys/ipc.h>
#include <sys/shm.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <algorithm>
#include <cstddef>

#include "tracer/interpreter.h"

namespace pcache::tracer {
namespace {

bool made_by(const Execution& e, const store::TreePath& path) {
  const auto entry = e.paths.find(path);
  return entry != e.paths.end() && (entry->second.changed & kExistence) != 0;
}

// An option of a socket of the process; -1 where there is none.
int socket_option(pid_t pid, int fd, int option) {
  const UniqueFd socket = duplicate_fd(pid, fd);
  int value = -1;
  socklen_t size = sizeof value;
  if (!socket || ::getsockopt(socket.get(), SOL_SOCKET, option, &value, &size) != 0) return -1;
  return value;
}

}  // namespace

// The path of a local socket; nothing where the call was refused, or needs no more.
std::optional<std::string> Interpreter::socket_path(const Caller& c, const CallEvent& event) {
  const bool binds = event.row->meaning == Meaning::kBind;
  sockaddr_un address{};
  const size_t size = std::min<uint64_t>(event.args[2], sizeof address);
  if (size < sizeof(sa_family_t) || !read_memory(c.tid, RemotePtr{event.args[1]}, &address, size))
    return std::nullopt;
  if (address.sun_family == AF_UNSPEC && !binds) return std::nullopt;
  if (address.sun_family != AF_UNIX) {
    ledger_.refuse(c.e, "network", "", std::string(event.row->name), true);
    return std::nullopt;
  }
  if (size <= offsetof(sockaddr_un, sun_path) || address.sun_path[0] == '\0') {
    if (!binds) ledger_.refuse(c.e, "network", "", "an abstract socket", true);
    return std::nullopt;
  }
  address.sun_path[sizeof address.sun_path - 1] = '\0';
  return std::string(address.sun_path);
}

void Interpreter::on_connect(const Caller& c, const CallEvent& event) {
  const std::optional<std::string> path = socket_path(c, event);
  if (!path) return;
  const Resolved at = resolve(c.tid, c.process, (*path)[0] == '/' ? "/" : cwd_of(c), *path, true);
  observe_way(c.e, at);
  if (at.err != 0) return observe_kind(c, at);
  // Those below whoever made it talk to somebody outside of them.
  Execution* maker = &c.e;
  while (!maker->is_session() && !made_by(*maker, at.path)) {
    ledger_.refuse(*maker, "network", at.path.text, "it connected to a socket", false);
    maker = maker->parent;
  }
  if (maker->is_session()) return;
  for (Execution* other : ledger_.open_executions_to_change())
    if (!c.e.within(*other) && made_by(*other, at.path))
      ledger_.refuse(*other, "socket", at.path.text, "another command connected to it", false);
  connected_.insert(c.process.pid);
}

void Interpreter::before_bind(const Caller& c, const CallEvent& event) {
  pending_.erase(c.tid.value);
  const std::optional<std::string> path = socket_path(c, event);
  if (!path) return;
  // Of a datagram nobody can say who sent it.
  const int type = socket_option(c.process.pid, static_cast<int>(event.args[0]), SO_TYPE);
  if (type != SOCK_STREAM && type != SOCK_SEQPACKET)
    ledger_.refuse(c.e, "socket", *path, "it made a socket for datagrams", true);
  Pending pending;
  pending.first = resolve(c.tid, c.process, (*path)[0] == '/' ? "/" : cwd_of(c), *path, false);
  observe_way(c.e, pending.first);
  if (pending.first.own_view) refuse_view(c.e, pending.first.path);
  observe_room_for(c, pending.first);
  if (!pending.first.pseudo) pending.before_first = ledger_.before_change(c.e, pending.first.path);
  pending_[c.tid.value] = std::move(pending);
}

// Who calls must be one of ours, so that what it says was seen.
void Interpreter::after_accept(const Caller& c, int fd) {
  if (socket_option(c.process.pid, fd, SO_DOMAIN) != AF_UNIX) {
    ledger_.refuse(c.e, "network", "", "it accepted a connection", true);
    return;
  }
  const UniqueFd socket = duplicate_fd(c.process.pid, fd);
  ucred peer{};
  socklen_t size = sizeof peer;
  if (!socket || ::getsockopt(socket.get(), SOL_SOCKET, SO_PEERCRED, &peer, &size) != 0 ||
      !connected_.contains(peer.pid))
    ledger_.refuse(c.e, "socket", "", "somebody outside connected to its socket", true);
}

void Interpreter::before_shared_memory(const Caller& c, const CallEvent& event) {
  if (event.row->name == "shmget") {
    if (static_cast<key_t>(event.args[0]) != IPC_PRIVATE)
      ledger_.refuse(c.e, "shared-memory", "", "it has a name that others know", true);
    return;
  }
  const auto found = shared_memory_.find(static_cast<int>(event.args[0]));
  const int command = event.row->name == "shmctl" ? static_cast<int>(event.args[1]) : IPC_STAT;
  const bool usual =
      command == IPC_STAT || command == IPC_RMID || command == SHM_LOCK || command == SHM_UNLOCK;
  if (found == shared_memory_.end() || !usual) {
    ledger_.refuse(c.e, "shared-memory", "", std::string(event.row->name), true);
    return;
  }
  Execution* e = &c.e;
  for (; !e->is_session() && e->id != found->second.owner; e = e->parent)
    ledger_.refuse(*e, "shared-memory", "", "it shares memory with who started it", false);
  if (!e->is_session()) {
    found->second.removed |= command == IPC_RMID;  // it stays as long as it is attached
    return;
  }
  for (Execution* other : ledger_.open_executions_to_change())
    if (other->id == found->second.owner)
      ledger_.refuse(*other, "shared-memory", "", "another command uses its memory", true);
}

void Interpreter::after_shared_memory(const Caller& c, int64_t result) {
  if (result >= 0)
    shared_memory_[static_cast<int>(result)] = {c.e.id, false};
  else
    ledger_.refuse(c.e, "shared-memory", "", "the system gave it none", true);
}

void Interpreter::end_shared_memory(Execution& e) {
  for (auto memory = shared_memory_.begin(); memory != shared_memory_.end();) {
    if (memory->second.owner != e.id) {
      ++memory;
      continue;
    }
    if (!memory->second.removed)
      ledger_.refuse(e, "shared-memory", "", "shared memory that it made is left", true);
    memory = shared_memory_.erase(memory);
  }
}

}  // namespace pcache::tracer
