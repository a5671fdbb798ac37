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
#include "cli/daemon/log.h"
#include "cli/daemon/server.h"
#include "cli/daemon/thread_dump.h"

namespace pcache::cli {
namespace {

constexpr off_t kLogLimit = 1 << 20;  // an older log is kept as daemon.log.old
constexpr int kDefaultIdleSeconds = 10;

int fail(const std::string& text) {
  std::fprintf(stderr, "pcached: %s\n", text.c_str());
  return 1;
}

std::chrono::seconds idle_time() {
  const char* text = std::getenv("PCACHE_IDLE_S");
  if (text == nullptr || *text == '\0') return std::chrono::seconds(kDefaultIdleSeconds);
  char* end = nullptr;
  const long value = std::strtol(text, &end, 10);
  if (*end != '\0' || value < 0) return std::chrono::seconds(kDefaultIdleSeconds);
  return std::chrono::seconds(value);
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

void redirect_output(const Locations& locations) {
  struct stat st {};
  if (::stat(locations.log().c_str(), &st) == 0 && st.st_size > kLogLimit) {
    ::rename(locations.log().c_str(), (locations.log() + ".old").c_str());
  }
  int log = ::open(locations.log().c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
  if (log < 0) log = ::open("/dev/null", O_WRONLY | O_CLOEXEC);
  const int null = ::open("/dev/null", O_RDONLY | O_CLOEXEC);
  ::dup2(null, STDIN_FILENO);
  ::dup2(log, STDOUT_FILENO);
  ::dup2(log, STDERR_FILENO);
  if (null > STDERR_FILENO) ::close(null);
  if (log > STDERR_FILENO) ::close(log);
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

int run_daemon(bool foreground) {
  const auto locations = Locations::find();  // relative paths: before chdir
  if (!locations) return fail(locations.error().to_string());
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
  if (!foreground) redirect_output(*locations);
  install_dump_handlers();
  Server server(*locations, std::move(*claim), idle_time());
  say(ready, "ok");
  ready.reset();
  server.run();
  return 0;
}

}  // namespace
}  // namespace pcache::cli

int main(int argc, char** argv) {
  bool foreground = false;
  for (int i = 1; i < argc; ++i) {
    const std::string option = argv[i];
    if (option == "--foreground") {
      foreground = true;
    } else if (option == "--version") {
      std::puts("pcached " PCACHE_VERSION);
      return 0;
    } else {
      std::fputs(
          "usage: pcached [--foreground]\n"
          "The daemon of pcache, which starts it by itself. It serves PCACHE_DIR and stops after\n"
          "PCACHE_IDLE_S seconds (10) without mounts and commands, or on SIGTERM; SIGUSR1 writes\n"
          "the stacks of its threads to its log.\n",
          option == "--help" ? stdout : stderr);
      return option == "--help" ? 0 : 2;
    }
  }
  try {
    return pcache::cli::run_daemon(foreground);
  } catch (const std::exception& error) {
    return pcache::cli::fail(error.what());
  }
}
