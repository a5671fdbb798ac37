// pcached: one a user and PCACHE_DIR. Goes to the background when it is ready; the parent process
// reports on standard error why it could not.
#include <fcntl.h>
#include <fmt/format.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <optional>

#include "cli/daemon/claim.h"
#include "cli/daemon/guardian.h"
#include "cli/daemon/log.h"
#include "cli/daemon/server.h"
#include "cli/daemon/thread_dump.h"

namespace pcache::cli {
namespace {

constexpr off_t kLogLimit = 1 << 20;  // an older log is kept as daemon.log.old

int fail(const std::string& text) {
  std::fprintf(stderr, "pcached: %s\n", text.c_str());
  return 1;
}

// Whatever started us: nohup, a shell with jobs, a test with blocked signals.
void reset_process() {
  for (int signal = 1; signal < SIGRTMIN; ++signal) {
    if (signal != SIGKILL && signal != SIGSTOP) ::signal(signal, SIG_DFL);
  }
  sigset_t none;
  ::sigemptyset(&none);
  ::sigprocmask(SIG_SETMASK, &none, nullptr);
  (void)!::chdir("/");
  ::umask(0);  // files are created with the modes their makers asked for
  struct rlimit files {};
  if (::getrlimit(RLIMIT_NOFILE, &files) == 0) {  // a node of a mount holds a descriptor
    files.rlim_cur = files.rlim_max;
    ::setrlimit(RLIMIT_NOFILE, &files);
  }
}

void redirect_output(const std::string& file) {
  struct stat st {};
  if (::stat(file.c_str(), &st) == 0 && S_ISREG(st.st_mode) && st.st_size > kLogLimit) {
    ::rename(file.c_str(), (file + ".old").c_str());
  }
  if (!set_log_file(file)) set_log_file("/dev/null");
  const UniqueFd null(::open("/dev/null", O_RDONLY | O_CLOEXEC));
  ::dup2(null.get(), STDIN_FILENO);
}

// In the parent: waits for "ok" or a reason. In the child: the pipe's end to say it on.
std::optional<int> go_to_background(UniqueFd* ready) {
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) return fail(std::string("pipe: ") + std::strerror(errno));
  UniqueFd reader(ends[0]);
  UniqueFd writer(ends[1]);
  const pid_t child = ::fork();
  if (child < 0) return fail(std::string("fork: ") + std::strerror(errno));
  if (child == 0) {
    ::setsid();
    *ready = std::move(writer);
    return std::nullopt;
  }
  writer.reset();
  std::string said;
  char buffer[512];
  while (true) {
    const ssize_t n = ::read(reader.get(), buffer, sizeof buffer);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) break;
    said.append(buffer, static_cast<size_t>(n));
  }
  if (said == "ok") return 0;
  if (said.empty()) said = "it died while it started; see its log, daemon.log in PCACHE_DIR";
  return fail(said);
}

void say(const UniqueFd& ready, const std::string& text) {
  if (ready) (void)!::write(ready.get(), text.data(), text.size());
}

struct DaemonOptions {
  bool foreground = false;
  std::string log_level, log_file;
};

int run_daemon(const DaemonOptions& options) {
  const bool foreground = options.foreground;
  const auto locations = Locations::find();  // relative paths: before chdir
  if (!locations) return fail(locations.error().to_string());
  Settings settings = Settings::read(locations->dir, "");
  if (!options.log_level.empty()) settings.set("log_level", options.log_level, "--log-level");
  if (!options.log_file.empty()) settings.set("log_file", options.log_file, "--log-file");
  set_log_level(settings.text("log_level"));
  ::close_range(STDERR_FILENO + 1, ~0U, 0);
  reset_process();
  UniqueFd ready;
  if (!foreground) {
    if (const auto status = go_to_background(&ready)) return *status;
  }
  auto claim = Claim::make(*locations);
  if (!claim) {
    say(ready, claim.error().to_string());
    return foreground ? fail(claim.error().to_string()) : 1;
  }
  if (*claim == nullptr) {
    say(ready, "ok");
    return foreground ? fail("another daemon serves " + locations->dir + " already") : 0;
  }
  const std::string& file = settings.text("log_file");
  if (!foreground) redirect_output(file.empty() ? locations->log() : file);
  install_dump_handlers();
  for (const std::string& problem : settings.problems()) log_at(LogLevel::kWarning, problem);
  Server server(*locations, std::move(*claim), settings);
  say(ready, "ok");
  ready.reset();
  server.run();
  return 0;
}

}  // namespace
}  // namespace pcache::cli

int main(int argc, char** argv) {
  pcache::cli::DaemonOptions options;
  for (int i = 1; i < argc; ++i) {
    const std::string option = argv[i];
    if (option == "--foreground") {
      options.foreground = true;
    } else if (option == "--log-level" && i + 1 < argc) {
      options.log_level = argv[++i];
    } else if (option == "--log-file" && i + 1 < argc) {
      options.log_file = argv[++i];
    } else if (option == "--guardian" && i + 1 < argc) {
      return pcache::cli::run_guardian(3, static_cast<pid_t>(std::atoi(argv[i + 1])));
    } else if (option == "--version") {
      std::puts("pcached " PCACHE_VERSION);
      return 0;
    } else {
      std::fputs(
          "usage: pcached [--foreground] [--log-level error|warning|info|debug] [--log-file F]\n"
          "The daemon of pcache, which starts it by itself. It serves PCACHE_DIR and stops after\n"
          "PCACHE_IDLE_S seconds (10) without mounts and commands, or on SIGTERM; SIGUSR1 writes\n"
          "the stacks of its threads to its log.\n",
          option == "--help" ? stdout : stderr);
      return option == "--help" ? 0 : 2;
    }
  }
  try {
    return pcache::cli::run_daemon(options);
  } catch (const std::exception& error) {
    return pcache::cli::fail(error.what());
  }
}
