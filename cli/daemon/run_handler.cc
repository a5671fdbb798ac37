#include "cli/daemon/run_handler.h"

#include <fmt/format.h>
#include <poll.h>
#include <signal.h>

#include <functional>

#include "cli/daemon/event_stream.h"
#include "cli/daemon/log.h"
#include "cli/daemon/report.h"
#include "cli/daemon/tree_dispatcher.h"
#include "cli/settings.h"
#include "cli/text.h"
#include "tracer/is_command.h"

namespace pcache::cli {
namespace {

constexpr int kFilterTimeoutMs = 5000;
constexpr int kSignalPauseMs = 20;

bool flag_of(const Json& settings, const char* name) {
  const auto found = settings.find(name);
  return found != settings.end() && found->is_boolean() && found->get<bool>();
}

class Run {
 public:
  // `channel`: to the client, if there is one.
  Run(const RunServices& services, Channel* channel, Message request, pid_t client);
  void perform();
  void perform_seized();

 private:
  void refuse(const std::string& error, bool uncached);
  bool with_session(const MountTable::Lease& lease,
                    const std::function<Result<void>(tracer::Session&)>& run);
  void trace(const MountTable::Lease& lease);
  Result<UniqueFd> ask_for_filter();
  void log_executions(const tracer::SessionReport& report) const;
  void finish(const MountTable::Lease& lease, tracer::Session& session,
              const tracer::SessionReport& report);
  void tell(const std::string& line) {
    if (stderr_) write_line(stderr_.get(), line);
  }

  const RunServices& services_;
  Channel* const channel_;
  Message request_;
  const pid_t client_;
  const std::string root_;
  UniqueFd stderr_, report_;
  std::shared_ptr<store::Store> store_;
  bool with_hub_ = false;
  bool strict_clock_ = false;
  std::unique_ptr<EventStream> events_;  // of trace and census: nothing is recorded then
};

Run::Run(const RunServices& services, Channel* channel, Message request, pid_t client)
    : services_(services),
      channel_(channel),
      request_(std::move(request)),
      client_(client),
      root_(request_.text("root")) {
  auto& fds = request_.fds;
  size_t next = 0;
  if (request_.flag("stderr") && next < fds.size()) stderr_ = std::move(fds[next++]);
  if (request_.flag("report") && next < fds.size()) report_ = std::move(fds[next++]);
}

void Run::refuse(const std::string& error, bool uncached) {
  (void)channel_->send({{"ok", false}, {"error", error}, {"uncached", uncached}});
}

void Run::perform() {
  store_ = services_.store.get();
  if (!store_) {
    return refuse("the cache is unusable: " + services_.store.problem(), /*uncached=*/true);
  }
  auto lease = services_.mounts.acquire(root_, !request_.flag("no_passthrough"));
  if (!lease) return refuse(lease.error().to_string(), /*uncached=*/false);
  trace(*lease);
  // The lease ends here: a mount made for this run goes with its last session, at the latest.
  stderr_.reset();
  report_.reset();
  channel_->close();
}

// Whatever fails here lets the process go on as if nobody had been there.
void Run::perform_seized() {
  bool begun = false;
  store_ = services_.store.get();
  if (store_) {
    if (auto lease = services_.mounts.lease_of(root_)) {
      begun = with_session(*lease, [&](tracer::Session& session) {
        return session.run_seized(
            client_, services_.heir, [&] { return tracer::is_command(client_); },
            [&](const tracer::SessionReport& report) { finish(*lease, session, report); });
      });
    }
  }
  if (!begun) tracer::let_go(client_);
}

Result<UniqueFd> Run::ask_for_filter() {
  PCACHE_ASSIGN(const std::string program,
                events_ ? tracer::watch_filter_program()
                        : tracer::filter_program(
                              tracer::given_descriptors(client_),
                              with_hub_ ? tracer::FilterKind::kWithHub : tracer::FilterKind::kAlone,
                              strict_clock_));
  const std::vector<uint8_t> bytes(program.begin(), program.end());
  PCACHE_TRY(channel_->send({{"ok", true}, {"step", "filter"}, {"program", Json::binary(bytes)}}));
  // It is traced already, so that what Ctrl-C sends it comes to us, and it waits for us to hand it
  // on.
  for (int left_ms = kFilterTimeoutMs; left_ms > 0; left_ms -= kSignalPauseMs) {
    struct pollfd readable {
      channel_->fd(), POLLIN, 0
    };
    if (::poll(&readable, 1, kSignalPauseMs) != 0) break;
    if (!tracer::pass_signals(client_))
      return make_error(ErrorKind::kNotFound, "it was ended by a signal before it began");
  }
  PCACHE_ASSIGN(Message answer, channel_->receive(kFilterTimeoutMs));
  if (!answer.flag("ok")) return make_error(ErrorKind::kUnsupported, answer.text("error"));
  if (answer.fds.size() != 1) return make_error(ErrorKind::kInvalid, "no listener came");
  return std::move(answer.fds[0]);
}

// False: the session was not begun.
bool Run::with_session(const MountTable::Lease& lease,
                       const std::function<Result<void>(tracer::Session&)>& run) {
  fusefs::Mount& mount = lease.mount();
  tracer::SessionOptions options;
  options.read_only = request_.flag("read_only");
  options.recache = request_.flag("recache");
  options.check = request_.flag("check");
  options.pid_namespace = request_.flag("pid_namespace");
  const Json settings = request_.body.value("settings", Json::object());
  options.lists = lists_of(settings);
  strict_clock_ = options.lists->strict_clock;
  options.cache_failures = flag_of(settings, "cache_failures");
  options.command = request_.body.value("argv", std::vector<std::string>());
  TreeDispatcher::Attachment* others = nullptr;  // set before anything runs
  options.replayed = [&others](const std::string& rel) { others->replayed(rel); };
  if (request_.flag("watch") && report_) {
    events_ = std::make_unique<EventStream>(std::move(report_), mount, *store_);
    options.watcher = events_.get();
    options.read_only = options.recache = true;
  }
  // Who works below the mount is told to enter it; a command that was typed in it shall not wait
  // until the kernel has forgotten thousands of names.
  if (channel_ != nullptr) mount.invalidate_all();
  auto feed = events_ ? nullptr : services_.probes.open();
  with_hub_ = feed != nullptr;
  const auto session = tracer::Session::create(mount, store_.get(), options, std::move(feed));
  if (!services_.sessions.add(session.get(), client_, root_, options.command)) return false;
  TreeDispatcher::Attachment attachment(mount, *session);
  others = &attachment;
  const auto result = run(*session);
  services_.sessions.remove(session.get());
  if (!result)
    log_at(LogLevel::kError,
           fmt::format("session of pid {}: {}", client_, result.error().to_string()));
  return true;
}

void Run::trace(const MountTable::Lease& lease) {
  bool released = false;
  const auto release = [&] {
    released = true;
    (void)channel_->send({{"ok", true}, {"step", "go"}});
    channel_->close();
  };
  const bool begun = with_session(lease, [&](tracer::Session& session) {
    auto result = session.run(
        client_, [&] { return ask_for_filter(); }, release,
        [&](const tracer::SessionReport& report) { finish(lease, session, report); });
    if (!result && !released)
      refuse("cannot trace: " + result.error().to_string(), /*uncached=*/true);
    return result;
  });
  if (!begun) refuse("the daemon is stopping", /*uncached=*/true);
}

void Run::log_executions(const tracer::SessionReport& report) const {
  if (!is_logged(LogLevel::kDebug)) return;
  for (const tracer::ExecutionReport& execution : report.executions) {
    std::string why;
    for (const store::Reason& reason : execution.reasons)
      why += fmt::format("; {} {} {}", reason.code, reason.path, reason.detail);
    log_at(LogLevel::kDebug,
           fmt::format("session {} execution {} (pid {}, in {}): {}, status {}: {}{}", client_,
                       execution.id, execution.pid, execution.parent,
                       tracer::outcome_name(execution.outcome), execution.exit_status,
                       command_text(execution.argv, 200), printable(why)));
  }
}

// On the tracer thread, before the command's parent can see it end.
void Run::finish(const MountTable::Lease& lease, tracer::Session& session,
                 const tracer::SessionReport& report) {
  // Nobody outlives the namespace. Its mounts must go before ours can, and theirs are copies.
  if (request_.flag("pid_namespace")) session.signal_all(SIGKILL);
  std::string warning = report.warning;
  if (warning.empty()) warning = services_.mounts.take_note(root_);
  if (services_.sessions.stopped()) warning = "the daemon was stopped, and its commands with it";
  // The shell that waits for a run whose mount is its own stands below the mount, where what is
  // still served does not exist yet.
  if (lease.temporary()) {
    if (auto published = lease.mount().publish_all([] { return false; }); !published) {
      warning = "cannot write back outputs: " + published.error().to_string();
    } else {
      lease.unmount_now();
    }
  }
  if (events_) {
    events_->close();
    if (!warning.empty()) tell("pcache: warning: " + warning + "\n");
    return stderr_.reset();
  }
  log_executions(report);
  const std::string json = report_json(report);
  if (report_) {
    if (auto written = write_report(report_.get(), json); !written) {
      tell("pcache: warning: " + written.error().to_string() + "\n");
    }
    report_.reset();
  }
  if (!warning.empty()) tell("pcache: warning: " + warning + "\n");
  if (request_.flag("check") && (report.different != 0 || !request_.flag("quiet")))
    tell(check_block(report));
  if (!request_.flag("quiet")) tell(summary_line(report));
  stderr_.reset();  // whoever reads it waits for the end of the file
  const auto kept =
      store_->put_run(json, report.hits, report.misses, report.uncacheable,
                      static_cast<uint64_t>(report.saved_s * 1e9), report.bytes_served);
  if (!kept) log_at(LogLevel::kError, "cannot keep the run's report: " + kept.error().to_string());
}

}  // namespace

void handle_run(const RunServices& services, Channel& channel, Message request, pid_t client) {
  Run(services, &channel, std::move(request), client).perform();
}

void handle_seized(const RunServices& services, Message request, pid_t process) {
  Run(services, nullptr, std::move(request), process).perform_seized();
}

}  // namespace pcache::cli
