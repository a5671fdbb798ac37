// The daemon's answers to requests; see server.h.
#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>

#include "cli/daemon/log.h"
#include "cli/daemon/queries.h"
#include "cli/daemon/run_handler.h"
#include "cli/daemon/server.h"
#include "cli/mountinfo.h"
#include "cli/text.h"

namespace pcache::cli {
namespace {

constexpr std::chrono::milliseconds kProgressPause{100};
constexpr std::chrono::milliseconds kSessionEnd{500};

Json refusal(const std::string& error) { return {{"ok", false}, {"error", error}}; }

// --log-level and --log-file of any command: they stay until another one says otherwise.
void take_log_options(const Message& request) {
  if (const std::string level = request.text("log_level"); !level.empty()) set_log_level(level);
  const std::string file = request.text("log_file");
  if (!file.empty() && !set_log_file(file))
    log_at(LogLevel::kWarning, "cannot log to " + printable(file));
}

// A client of another mount namespace would not see what is mounted for it.
bool same_mounts(pid_t peer) {
  char theirs[64] = {}, ours[64] = {};
  const std::string link = fmt::format("/proc/{}/ns/mnt", peer);
  return ::readlink(link.c_str(), theirs, sizeof theirs - 1) < 0 ||
         ::readlink("/proc/self/ns/mnt", ours, sizeof ours - 1) < 0 || std::string(theirs) == ours;
}

// Of other daemons; ours are alive, and a thread that looked at them would wait for itself.
std::vector<std::string> dead_mounts(const std::vector<MountTable::Listed>& own) {
  std::vector<std::string> dead;
  for (const MountEntry& mount : read_mounts()) {
    const bool ours = std::any_of(own.begin(), own.end(), [&](const MountTable::Listed& listed) {
      return listed.status.dir == mount.dir;
    });
    if (mount.is_pcache() && !ours && is_dead(mount.dir)) dead.push_back(mount.dir);
  }
  return dead;
}

}  // namespace

void Server::serve(const std::shared_ptr<Channel>& channel, pid_t peer) {
  while (true) {
    auto request = channel->receive();
    if (!request) return;
    const std::string op = request->text("op");
    take_log_options(*request);
    if (op != "ping") log_at(LogLevel::kDebug, fmt::format("request {} of pid {}", op, peer));
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
      handle_run({mounts_, sessions_, store_, probes_, guardian_}, *channel, std::move(*request),
                 peer);
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
  if (op == "live") return live();
  if (op == "stats") return stats(request);
  if (op == "last_run") return last_run();
  if (op == "clear") return clear();
  if (op == "gc") return gc(request, channel);
  if (op == "verify") return verify(request, channel);
  if (op == "stop") return may_stop();
  if (is_query(op)) {
    const auto store = store_.get();
    return store ? answer_query(*store, request)
                 : refusal("the cache is unusable: " + store_.problem());
  }
  log_at(LogLevel::kWarning, fmt::format("unknown request \"{}\" from pid {}", op, peer));
  return refusal("unknown request " + op);
}

Json Server::mount(const Message& request) {
  const auto passthrough = mounts_.add(request.text("dir"), !request.flag("no_passthrough"));
  if (!passthrough) return refusal(passthrough.error().to_string());
  const std::string problem = request.flag("seize") ? seize(request) : "not wanted";
  return {{"ok", true},
          {"passthrough", *passthrough},
          {"seizes", problem.empty()},
          {"seize_problem", problem},
          {"note", mounts_.take_note(request.text("dir"))}};
}

std::string Server::seize(const Message& request) {
  const std::string dir = request.text("dir");
  {
    const std::lock_guard lock(mount_requests_lock_);
    mount_requests_.erase(dir);
    mount_requests_.emplace(dir, Message{request.body, {}});
  }
  const std::string probes = probes_.description();
  if (probes != "ebpf") return "look-ups are seen by " + probes;
  if (auto begun = guardian_.begin(); !begun) return begun.error().to_string();
  wake();  // for the first sign of life
  const auto lists = lists_of(request.body.value("settings", Json::object()));
  store_.get();  // opened now, so that no command is held while it is
  const auto watched = seizer_.watch(dir, lists->seize.words(), request.text("path"));
  return watched ? "" : watched.error().to_string();
}

void Server::run_seized(const Seizer::Command& command) {
  Message request;
  {
    const std::lock_guard lock(mount_requests_lock_);
    const auto found = mount_requests_.find(command.mount);
    if (found != mount_requests_.end()) request.body = found->second.body;
  }
  const auto variables = request.body.value("environment", std::map<std::string, std::string>());
  const Settings settings =
      Settings::read(locations_.dir, command.mount, [&](const std::string& name) {
        const auto found = variables.find(name);
        return found == variables.end() ? nullptr : found->second.c_str();
      });
  request.body["root"] = command.mount;
  request.body["settings"] = settings.to_request();
  request.body["read_only"] = request.flag("read_only") || settings.flag("read_only");
  request.body["quiet"] = true;
  request.body["argv"] = Json::array();
  handle_seized({mounts_, sessions_, store_, probes_, guardian_}, std::move(request), command.pid);
  store_.keep_limits();
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
  if (done) {
    seizer_.forget(request.text("dir"));
    return {{"ok", true}};
  }
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
                      {"seizes", seizer_.watches(mount.status.dir)},
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
  Json settings = Json::object();
  for (const SettingRow& row : setting_rows())
    if (row.daemon) settings[row.name] = settings_.json(row);
  store_.get();
  const std::chrono::duration<double> uptime = Clock::now() - start_;
  return {{"ok", true},
          {"pid", ::getpid()},
          {"version", PCACHE_VERSION},
          {"uptime_s", uptime.count()},
          {"probe_source", probes_.description()},
          {"settings", settings},
          {"store", locations_.store()},
          {"store_problem", store_.problem()},
          {"seized_too_late", seizer_.late()},
          {"mounts", mounts},
          {"sessions", sessions}};
}

// What `top` shows: asked once a second, so it touches neither the store nor a file.
Json Server::live() {
  Json sessions = Json::array();
  for (const SessionTable::Live& live : sessions_.live()) {
    Json running = Json::array();
    for (const tracer::LiveExecution& execution : live.report.running) {
      running.push_back({{"id", execution.id},
                         {"parent", execution.parent},
                         {"pid", execution.pid},
                         {"argv", execution.argv},
                         {"cwd", execution.cwd},
                         {"running_s", execution.running_s},
                         {"served", execution.served},
                         {"working", execution.working}});
    }
    sessions.push_back({{"pid", live.session.pid},
                        {"root", live.session.root},
                        {"command", live.session.command},
                        {"wall_s", live.session.wall_s},
                        {"processes", live.report.processes},
                        {"executions", live.report.executions},
                        {"hits", live.report.hits},
                        {"misses", live.report.misses},
                        {"uncacheable", live.report.uncacheable},
                        {"saved_s", live.report.saved_s},
                        {"bytes_served", live.report.bytes_served},
                        {"open", live.report.open},
                        {"running", std::move(running)}});
  }
  Json mounts = Json::array();
  for (const MountTable::Listed& mount : mounts_.list()) {
    mounts.push_back({{"dir", mount.status.dir},
                      {"served_pending", mount.status.served_pending},
                      {"served_bytes_pending", mount.status.served_bytes_pending}});
  }
  return {{"ok", true}, {"sessions", std::move(sessions)}, {"mounts", std::move(mounts)}};
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

Json Server::gc(const Message& request, Channel& channel) {
  const auto store = store_.get();
  if (!store) return refusal("the cache is unusable: " + store_.problem());
  store::EvictOptions options;
  options.dry_run = request.flag("dry_run");
  options.max_bytes = request.body.value("max_bytes", settings_.size("max_size"));
  // Room for nothing is not the same as no limit.
  if (request.body.contains("max_bytes"))
    options.max_bytes = std::max<uint64_t>(1, options.max_bytes);
  if (const double age_s = request.body.value("older_than_s", -1.0); age_s >= 0)
    options.used_before_ns = store::realtime_ns() - static_cast<int64_t>(age_s * 1e9);
  auto next = Clock::now();
  options.progress = [&](uint64_t done, uint64_t total) {
    if (Clock::now() < next) return;
    next = Clock::now() + kProgressPause;
    (void)channel.send({{"progress", {{"done", done}, {"total", total}}}});
  };
  const auto evicted = store->evict(options);
  if (!evicted) return refusal(evicted.error().to_string());
  if (!options.dry_run)
    log_line(fmt::format("gc: {} records and {} of contents are forgotten", evicted->records,
                         format_bytes(evicted->bytes)));
  return {{"ok", true},
          {"records", evicted->records},
          {"blobs", evicted->blobs},
          {"bytes", evicted->bytes},
          {"disk_bytes", store->disk_bytes()}};
}

Json Server::verify(const Message& request, Channel& channel) {
  const auto store = store_.get();
  if (!store)
    return refusal("the cache is unusable: " + store_.problem() +
                   " (`pcache clear` makes a new one)");
  auto next = Clock::now();
  const auto progress = [&](uint64_t done, uint64_t total) {
    if (channel.peer_vanished()) return false;
    if (Clock::now() < next) return true;
    next = Clock::now() + kProgressPause;
    return channel.send({{"progress", {{"done", done}, {"total", total}}}}).has_value();
  };
  const auto found = store->verify(request.body.value("sample", 1.0), progress);
  if (!found)
    return refusal("the store cannot be verified: " + found.error().to_string() +
                   " (`pcache clear` makes a new one)");
  Json damaged = Json::array();
  for (const store::Damage& damage : found->damaged) {
    damaged.push_back({{"what", damage.what}, {"name", damage.name}, {"why", damage.why}});
    log_at(LogLevel::kWarning,
           fmt::format("verify: {} {}: {}; removed", damage.what, damage.name, damage.why));
  }
  return {{"ok", true},
          {"blobs", found->blobs},
          {"bytes", found->bytes},
          {"records", found->records},
          {"damaged", damaged}};
}

// What `.pcache/` of each mount holds: the same as the commands with --json.
std::vector<fusefs::ViewFile> Server::view_files() {
  const auto text = [](Json json) {
    json.erase("ok");
    return json.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
  };
  const auto status_file = [this, text] {
    Json state = status();
    state["running"] = true;
    state["dead_mounts"] = dead_mounts(mounts_.list());
    return text(std::move(state));
  };
  const auto stats_file = [this, text] { return text(stats(Message{})); };
  const auto last_run_file = [this, text] {
    const auto store = store_.get();
    if (!store) return text(refusal("the cache is unusable: " + store_.problem()));
    const std::vector<uint64_t> kept = store->runs();
    const auto run = kept.empty() ? std::nullopt : store->run(kept.back());
    if (!run) return text(Json::object());
    Json report = Json::parse(*run, nullptr, /*allow_exceptions=*/false);
    if (report.is_object()) report["run"] = kept.back();
    return text(std::move(report));
  };
  return {
      {"status.json", status_file}, {"stats.json", stats_file}, {"last-run.json", last_run_file}};
}

Json Server::may_stop() {
  if (!sessions_.becomes_empty(kSessionEnd)) {
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
