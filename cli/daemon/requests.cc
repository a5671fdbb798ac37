// The daemon's answers to requests; see server.h.
#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include "cli/daemon/log.h"
#include "cli/daemon/queries.h"
#include "cli/daemon/run_handler.h"
#include "cli/daemon/server.h"
#include "cli/text.h"

namespace pcache::cli {
namespace {

constexpr std::chrono::milliseconds kProgressPause{100};

Json refusal(const std::string& error) { return {{"ok", false}, {"error", error}}; }

// A client of another mount namespace would not see what is mounted for it.
bool same_mounts(pid_t peer) {
  char theirs[64] = {}, ours[64] = {};
  const std::string link = fmt::format("/proc/{}/ns/mnt", peer);
  return ::readlink(link.c_str(), theirs, sizeof theirs - 1) < 0 ||
         ::readlink("/proc/self/ns/mnt", ours, sizeof ours - 1) < 0 || std::string(theirs) == ours;
}

}  // namespace

void Server::serve(const std::shared_ptr<Channel>& channel, pid_t peer) {
  while (true) {
    auto request = channel->receive();
    if (!request) return;
    const std::string op = request->text("op");
    // `status` and `umount` of another version still work: a daemon can always be stopped.
    const bool basic = op == "ping" || op == "status" || op == "umount" || op == "stop";
    const bool same = request->text("version") == PCACHE_VERSION &&
                      request->body.value("protocol", 0) == kProtocol;
    if (!basic && !same) {
      (void)channel->send(refusal(fmt::format(
          "the running daemon (pid {}) is version {}, this is pcache {}: stop it with `pcache "
          "umount --all`, then try again",
          ::getpid(), PCACHE_VERSION, request->text("version"))));
      continue;
    }
    if ((op == "run" || op == "mount") && !same_mounts(peer)) {
      (void)channel->send(refusal(fmt::format(
          "the running daemon (pid {}) lives in another mount namespace: set PCACHE_DIR to another "
          "directory here, or stop it there with `pcache umount --all`",
          ::getpid())));
      continue;
    }
    if (op == "run") {
      handle_run({mounts_, sessions_, store_, probes_}, *channel, std::move(*request), peer);
      store_.keep_limits();
      return;
    }
    const Json reply = answer(*request, *channel, peer);
    if (!channel->send(reply)) return;
    if (op == "stop" && reply["ok"] == true) {
      stop(*channel);
      return;
    }
  }
}

Json Server::answer(const Message& request, Channel& channel, pid_t peer) {
  const std::string op = request.text("op");
  if (op == "ping") return {{"ok", true}};
  if (op == "mount") return mount(request);
  if (op == "umount") return umount(request, channel);
  if (op == "clear_dead") return clear_dead(request);
  if (op == "status") return status();
  if (op == "stats") return stats(request);
  if (op == "last_run") return last_run();
  if (op == "clear") return clear();
  if (op == "stop") return may_stop();
  if (is_query(op)) {
    const auto store = store_.get();
    return store ? answer_query(*store, request)
                 : refusal("the cache is unusable: " + store_.problem());
  }
  log_line(fmt::format("unknown request \"{}\" from pid {}", op, peer));
  return refusal("unknown request " + op);
}

Json Server::mount(const Message& request) {
  const auto passthrough = mounts_.add(request.text("dir"), !request.flag("no_passthrough"));
  if (!passthrough) return refusal(passthrough.error().to_string());
  return {{"ok", true},
          {"passthrough", *passthrough},
          {"note", mounts_.take_note(request.text("dir"))}};
}

Json Server::umount(const Message& request, Channel& channel) {
  auto next = Clock::now();
  const auto progress = [&](const fusefs::MountStatus& status) {
    if (channel.peer_vanished()) return false;
    if (Clock::now() < next) return true;
    next = Clock::now() + kProgressPause;
    const Json now = {{"files", status.served_pending}, {"bytes", status.served_bytes_pending}};
    return channel.send({{"progress", now}}).has_value();
  };
  const auto done = mounts_.remove(request.text("dir"), request.flag("lazy"), progress);
  if (done) return {{"ok", true}};
  Json answer = refusal(done.error().to_string());
  answer["busy"] = done.error().kind == ErrorKind::kBusy;
  return answer;
}

Json Server::clear_dead(const Message& request) {
  std::string notes;
  for (const std::string& dir : request.body.value("dirs", std::vector<std::string>())) {
    if (auto cleared = mounts_.clear_dead(dir); !cleared) {
      return refusal(cleared.error().to_string());
    }
    if (const std::string note = mounts_.take_note(dir); !note.empty()) {
      notes += (notes.empty() ? "" : "; ") + note;
    }
  }
  return {{"ok", true}, {"note", notes}};
}

Json Server::status() {
  Json mounts = Json::array();
  for (const MountTable::Listed& mount : mounts_.list()) {
    mounts.push_back({{"dir", mount.status.dir},
                      {"passthrough", mount.status.passthrough},
                      {"requests", mount.status.requests},
                      {"nodes", mount.status.nodes},
                      {"served_pending", mount.status.served_pending},
                      {"served_bytes_pending", mount.status.served_bytes_pending},
                      {"temporary", mount.temporary},
                      {"sessions", mount.sessions}});
  }
  Json sessions = Json::array();
  for (const SessionTable::Listed& session : sessions_.list()) {
    sessions.push_back({{"pid", session.pid},
                        {"root", session.root},
                        {"command", session.command},
                        {"wall_s", session.wall_s},
                        {"status", session.status}});
  }
  store_.get();
  const std::chrono::duration<double> uptime = Clock::now() - start_;
  return {{"ok", true},
          {"pid", ::getpid()},
          {"version", PCACHE_VERSION},
          {"uptime_s", uptime.count()},
          {"probe_source", probes_.description()},
          {"store", locations_.store()},
          {"store_problem", store_.problem()},
          {"mounts", mounts},
          {"sessions", sessions}};
}

Json Server::stats(const Message& request) {
  const auto store = store_.get();
  if (!store) return refusal("the cache is unusable: " + store_.problem());
  const store::StoreStats stats = store->stats();
  Json answer = {{"ok", true},
                 {"store", locations_.store()},
                 {"records", stats.records},
                 {"blobs", stats.blobs},
                 {"blob_bytes", stats.blob_bytes},
                 {"runs", stats.runs},
                 {"hits", stats.hits},
                 {"misses", stats.misses},
                 {"uncacheable", stats.uncacheable},
                 {"bytes_served", stats.bytes_served},
                 {"saved_s", static_cast<double>(stats.saved_ns) / 1e9}};
  if (const auto run = store->last_run()) {
    Json last = Json::parse(*run, nullptr, /*allow_exceptions=*/false);
    if (last.is_object()) {
      last.erase("executions");
      answer["last_run"] = std::move(last);
    }
  }
  if (request.flag("zero")) store->zero_stats();
  return answer;
}

Json Server::last_run() {
  const auto store = store_.get();
  if (!store) return refusal("the cache is unusable: " + store_.problem());
  return {{"ok", true}, {"run", store->last_run().value_or("")}};
}

Json Server::clear() {
  const auto freed = store_.clear();
  if (!freed) return refusal(freed.error().to_string());
  return {{"ok", true}, {"freed_bytes", *freed}};
}

Json Server::may_stop() {
  if (!sessions_.empty()) {
    return refusal(counted(sessions_.list().size(), "command still runs", "commands still run") +
                   " under the daemon: let them end first (see `pcache status`)");
  }
  if (const size_t left = mounts_.list().size(); left > 0) {
    return refusal(counted(left, "mount is", "mounts are") + " left: the daemon goes on");
  }
  return {{"ok", true}};
}

void Server::stop(const Channel& channel) {
  log_line("stopped by request");
  // The client waits for the end of the connection: that of this process, which closes the copy.
  (void)::fcntl(channel.fd(), F_DUPFD_CLOEXEC, 0);
  const std::lock_guard lock(mutex_);
  stopping_ = true;
  wake();
}

}  // namespace pcache::cli
