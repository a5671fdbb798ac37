// pcache run: this process becomes CMD, traced by the daemon (design.md section 8).
//
//   pcache                                    pcached
//   PR_SET_PTRACER, request: run, stderr  ->  mounts the project where it is not mounted, seizes us
//   chdir into the mount, install filter  <-  step: filter, the program
//   the filter's listener                 ->  starts tracing
//   execvp(CMD)                           <-  step: go
//
// Exit status, signals, terminal and job control are CMD's own, because it is this very process. Up
// to the filter anything that fails in the daemon ends in CMD running uncached; from there to "go"
// only sendmsg, recvmsg, read and close are safe: every other call may wait for a tracer.
#include <fcntl.h>
#include <fmt/format.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <functional>

#include "cli/client.h"
#include "cli/commands.h"
#include "cli/pid_namespace.h"
#include "cli/settings.h"
#include "cli/text.h"
#include "cli/working_dir.h"

#ifndef SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV
#define SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV (1UL << 5)
#endif

namespace pcache::cli {
namespace {

int exec_failed(const std::string& name, int error) {
  if (error == ENOENT && name.find('/') == std::string::npos) {
    return fail(printable(name) + ": command not found", kNotFound);
  }
  return fail(printable(name) + ": " + std::strerror(error),
              error == ENOENT || error == ENOTDIR ? kNotFound : kNotExecutable);
}

int become(const std::vector<std::string>& command) {
  std::vector<char*> argv;
  for (const std::string& word : command) argv.push_back(const_cast<char*>(word.c_str()));
  argv.push_back(nullptr);
  ::execvp(argv[0], argv.data());
  return exec_failed(command[0], errno);
}

long status_field(const std::string& file, const std::string& field) {
  std::ifstream status(file);
  std::string line;
  while (std::getline(status, line)) {
    if (line.compare(0, field.size(), field) == 0) return std::atol(line.c_str() + field.size());
  }
  return 0;
}

// TracerPid names the tracer *thread*; a pcached there means that what we start is traced already.
bool traced_by_pcache() {
  const auto comm_of = [](long pid) {
    std::ifstream file(fmt::format("/proc/{}/comm", pid));
    std::string name;
    return std::getline(file, name) ? name : "";
  };
  const long tracer = status_field("/proc/self/status", "TracerPid:");
  if (tracer == 0) return comm_of(1) == kTracedInit;  // in a namespace the tracer has no number
  return comm_of(status_field(fmt::format("/proc/{}/status", tracer), "Tgid:")) == "pcached";
}

// The listener, or an errno. Privileged processes need no no_new_privs, which would be inherited
// for ever by all that CMD starts.
Result<UniqueFd> install_filter(std::vector<uint8_t>& program) {
  struct sock_fprog filter {};
  filter.len = static_cast<unsigned short>(program.size() / sizeof(struct sock_filter));
  filter.filter = reinterpret_cast<struct sock_filter*>(program.data());
  unsigned long flags = SECCOMP_FILTER_FLAG_NEW_LISTENER | SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV;
  for (int attempt = 0; attempt < 3; ++attempt) {
    const long fd = ::syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, &filter);
    if (fd >= 0) return UniqueFd(static_cast<int>(fd));
    if (errno == EACCES) {
      if (::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) break;
    } else if (errno == EINVAL && (flags & SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV) != 0) {
      flags = SECCOMP_FILTER_FLAG_NEW_LISTENER;
    } else {
      break;
    }
  }
  return system_error(errno == EBUSY ? "another program's seccomp listener is in the way"
                                     : "cannot install the seccomp filter");
}

enum class Outcome { kGo, kUncached, kFailed };

class Handshake {
 public:
  Handshake(const RunArguments& arguments, const Settings& settings, std::string cwd,
            std::string root)
      : arguments_(arguments), settings_(settings), cwd_(std::move(cwd)), root_(std::move(root)) {}

  // kUncached and kFailed leave the reason in problem(). `enter` is called once the project is
  // mounted, before CMD's process goes into it.
  Outcome perform(const Connection& connection, int report_fd,
                  const std::function<Result<void>()>& enter);
  const std::string& problem() const { return problem_; }

 private:
  Outcome give_up(Outcome outcome, std::string problem) {
    problem_ = std::move(problem);
    return outcome;
  }
  Json request(std::vector<int>* fds, int stderr_fd, int report_fd) const;

  const RunArguments& arguments_;
  const Settings& settings_;
  const std::string cwd_, root_;
  std::string problem_;
};

Json Handshake::request(std::vector<int>* fds, int stderr_fd, int report_fd) const {
  Json request = make_request("run");
  request["cwd"] = cwd_;
  request["root"] = root_;
  request["argv"] = arguments_.command;
  request["recache"] = arguments_.recache;
  request["check"] = arguments_.check;
  request["settings"] = settings_.to_request();
  request["quiet"] = settings_.flag("quiet");
  request["read_only"] = settings_.flag("read_only");
  request["no_passthrough"] = !settings_.flag("passthrough");
  request["stderr"] = stderr_fd >= 0;
  request["report"] = report_fd >= 0;
  request["pid_namespace"] = arguments_.pid_namespace;
  request["watch"] = arguments_.watch_fd >= 0;
  if (stderr_fd >= 0) fds->push_back(stderr_fd);
  if (report_fd >= 0) fds->push_back(report_fd);
  return request;
}

Outcome Handshake::perform(const Connection& connection, int report_fd,
                           const std::function<Result<void>()>& enter) {
  // Yama lets only a named process attach; without Yama this is EINVAL and not needed. The daemon
  // has no name in a namespace of CMD's own.
  const auto daemon = static_cast<unsigned long>(connection.daemon);
  ::prctl(PR_SET_PTRACER, arguments_.pid_namespace ? PR_SET_PTRACER_ANY : daemon, 0, 0, 0);
  std::vector<int> fds;
  const int stderr_fd = ::fcntl(STDERR_FILENO, F_GETFD) >= 0 ? STDERR_FILENO : -1;
  const Channel& channel = connection.channel;
  if (auto sent = channel.send(request(&fds, stderr_fd, report_fd), fds); !sent) {
    return give_up(Outcome::kUncached, "the daemon vanished");
  }
  auto answer = channel.receive();
  if (!answer) return give_up(Outcome::kUncached, "the daemon vanished");
  if (answer->text("step") != "filter" || !answer->body["program"].is_binary()) {
    return give_up(answer->flag("uncached") ? Outcome::kUncached : Outcome::kFailed,
                   answer->text("error"));
  }
  if (auto entered = enter(); !entered) {
    (void)channel.send({{"error", entered.error().to_string()}});
    return give_up(Outcome::kFailed, entered.error().to_string());
  }
  if (::chdir(cwd_.c_str()) != 0) {  // from the directory below the mount into the mount
    const std::string reason =
        fmt::format("cannot enter {} in the mount: {}", printable(cwd_), std::strerror(errno));
    (void)channel.send({{"error", reason}});
    return give_up(Outcome::kFailed, reason);
  }
  std::vector<uint8_t>& program = answer->body["program"].get_binary();
  auto listener = install_filter(program);
  if (!listener) {
    (void)channel.send({{"error", listener.error().to_string()}});
    return give_up(Outcome::kUncached, listener.error().to_string());
  }
  if (!channel.send({{"ok", true}}, {listener->get()})) {
    return give_up(Outcome::kFailed, "the daemon vanished while it began to trace");
  }
  listener->reset();
  answer = channel.receive();
  if (answer && answer->text("step") == "go") return Outcome::kGo;
  return give_up(Outcome::kFailed,
                 answer ? answer->text("error") : "the daemon vanished while it began to trace");
}

// Settings of the project at `root`, under what was said on the command line.
Settings settings_for(const Locations& locations, const std::string& root,
                      const RunArguments& arguments) {
  Settings settings = Settings::read(locations.dir, root);
  if (arguments.quiet) settings.set("quiet", "yes", "--quiet");
  if (arguments.read_only) settings.set("read_only", "yes", "--read-only");
  if (arguments.no_passthrough) settings.set("passthrough", "no", "--no-passthrough");
  for (const std::string& problem : settings.problems()) warn(problem);
  return settings;
}

// Not stdio: under a filter without a listener only plain calls still work.
int fail_plainly(const std::string& problem) {
  const std::string line = "pcache: " + problem + "\n";
  (void)!::write(STDERR_FILENO, line.data(), line.size());
  return kPcacheFailed;
}

// Whoever asked for a report gets one, though nobody will see how the command ends.
void write_uncached_report(int fd, const RunArguments& arguments, const std::string& problem) {
  const nlohmann::ordered_json report = {{"command", arguments.command},
                                         {"exit_status", nullptr},
                                         {"wall_s", 0},
                                         {"executions", Json::array()},
                                         {"hits", 0},
                                         {"misses", 0},
                                         {"uncacheable", 0},
                                         {"warning", problem}};
  const std::string text =
      report.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace) + "\n";
  (void)!::write(fd, text.data(), text.size());
}

// CMD in this very process, or below it in a namespace of its own.
int in_namespace(const RunArguments& arguments, const std::function<int()>& command) {
  if (!arguments.pid_namespace) return command();
  if (auto opened = open_pid_namespace(); !opened)
    return fail(opened.error().to_string(), kPcacheFailed);
  return run_in_pid_namespace(command, arguments.disable ? "pcache" : kTracedInit);
}

Result<void> enter_namespace(const RunArguments& arguments) {
  if (!arguments.pid_namespace) return {};
  return mount_own_proc();
}

int become_traced(const RunArguments& arguments, Handshake& handshake, const Locations& locations,
                  int report_fd) {
  auto connection = connect_or_start(locations);
  if (!connection) return fail(connection.error().to_string(), kPcacheFailed);
  bool entered = false;
  const auto enter = [&] {
    entered = true;
    return enter_namespace(arguments);
  };
  switch (handshake.perform(*connection, report_fd, enter)) {
    case Outcome::kGo:
      break;
    case Outcome::kUncached:
      if (arguments.watch_fd >= 0)
        return fail("cannot trace: " + handshake.problem(), kPcacheFailed);
      if (!entered) {
        if (auto done = enter(); !done) return fail(done.error().to_string(), kPcacheFailed);
      }
      warn(handshake.problem() + "; running uncached");
      if (report_fd >= 0) write_uncached_report(report_fd, arguments, handshake.problem());
      break;
    case Outcome::kFailed:
      return fail_plainly(handshake.problem());
  }
  return become(arguments.command);
}

}  // namespace

int look_up_program(const std::string& name) {
  const auto check = [](const std::string& path) {
    struct stat st {};
    if (::stat(path.c_str(), &st) != 0) return errno;
    if (S_ISDIR(st.st_mode) || ::access(path.c_str(), X_OK) != 0) return EACCES;
    return 0;
  };
  if (name.find('/') != std::string::npos) return check(name);
  if (name.empty()) return ENOENT;
  const char* variable = std::getenv("PATH");
  const std::string path = variable == nullptr ? "/bin:/usr/bin" : variable;
  int result = ENOENT;
  for (size_t begin = 0; begin <= path.size();) {
    const size_t end = std::min(path.find(':', begin), path.size());
    const std::string dir = path.substr(begin, end - begin);
    const int error = check(dir.empty() ? name : dir + "/" + name);
    if (error == 0) return 0;
    if (error == EACCES) result = EACCES;
    begin = end + 1;
  }
  return result;
}

int run_command(const RunArguments& arguments) {
  // A wrong name needs no daemon to be told.
  if (const int error = look_up_program(arguments.command[0]); error != 0) {
    return exec_failed(arguments.command[0], error);
  }
  if (arguments.disable) {
    return in_namespace(arguments, [&] {
      const auto entered = enter_namespace(arguments);
      return entered ? become(arguments.command) : fail(entered.error().to_string(), kPcacheFailed);
    });
  }
  if (traced_by_pcache()) {
    if (arguments.watch_fd >= 0)
      return fail("this is inside of a pcache run, whose commands are traced already",
                  kPcacheFailed);
    if (!arguments.report.empty()) {
      warn("already inside a pcache run, whose report holds this one too: " +
           printable(arguments.report) + " is not written");
    }
    if (arguments.pid_namespace) warn("already inside a pcache run: --pid-namespace is left out");
    return become(arguments.command);
  }
  const auto locations = Locations::find();
  if (!locations) return fail(locations.error().to_string(), kPcacheFailed);
  const auto cwd = enter_working_dir(*locations);
  if (!cwd) return fail(cwd.error().to_string(), kPcacheFailed);
  const auto root = choose_root(*locations, *cwd, arguments.root);
  if (!root) return fail(root.error().to_string(), kPcacheFailed);

  UniqueFd report;
  if (!arguments.report.empty()) {
    report.reset(::open(arguments.report.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666));
    if (!report) {
      return fail(fmt::format("cannot write the report {}: {}", printable(arguments.report),
                              std::strerror(errno)),
                  kPcacheFailed);
    }
  }
  if (arguments.watch_fd >= 0) report.reset(arguments.watch_fd);
  if (arguments.pid_namespace) {
    // Started from within, the daemon would end with the namespace.
    const auto connection = connect_or_start(*locations);
    if (!connection) return fail(connection.error().to_string(), kPcacheFailed);
  }
  const Settings settings = settings_for(*locations, *root, arguments);
  return in_namespace(arguments, [&] {
    Handshake handshake(arguments, settings, *cwd, *root);
    return become_traced(arguments, handshake, *locations, report.get());
  });
}

}  // namespace pcache::cli
