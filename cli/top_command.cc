// pcache top: what the daemon's sessions do now, anew each second on a terminal.
//
// The daemon is asked, not the processes: one request a second, whose answer is a copy of counters
// and of the command lines that run.
#include <fmt/format.h>
#include <poll.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/signalfd.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <optional>
#include <string_view>

#include "cli/client.h"
#include "cli/commands.h"
#include "cli/text.h"
#include "cli/views/top.h"

namespace pcache::cli {
namespace {

constexpr int kRefreshMs = 1000;

double now_s() {
  struct timespec now {};
  ::clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<double>(now.tv_sec) + static_cast<double>(now.tv_nsec) / 1e9;
}

// Keeps the connection from one question to the next; a daemon that ended is looked for again.
class Asker {
 public:
  explicit Asker(const Locations& locations) : locations_(locations) {}

  Result<Json> state() {
    Json none = {{"running", false}, {"sessions", Json::array()}, {"mounts", Json::array()}};
    for (int attempt = 0; attempt < 2; ++attempt) {
      if (!connection_) {
        PCACHE_ASSIGN(connection_, connect_running(locations_));
        if (!connection_) return none;
      }
      auto answer = ask(connection_->channel, make_request("live"));
      if (answer) {
        Json state = std::move(answer->body);
        state.erase("ok");
        state["running"] = true;
        rates_.add_to(state, now_s());
        return state;
      }
      connection_.reset();
      if (answer.error().sys_errno != ECONNRESET)
        return tl::make_unexpected(std::move(answer).error());
    }
    return none;
  }

 private:
  const Locations& locations_;
  std::optional<Connection> connection_;
  Rates rates_;
};

// The terminal in our hands: the other screen, no cursor, keys as they are typed. However top ends,
// it is given back as it was.
class LiveScreen {
 public:
  LiveScreen() { take(); }
  ~LiveScreen() { give_back(); }
  LiveScreen(const LiveScreen&) = delete;
  LiveScreen& operator=(const LiveScreen&) = delete;

  void take() {
    keys_ = ::tcgetattr(STDIN_FILENO, &before_) == 0;
    if (keys_) {
      struct termios raw = before_;
      raw.c_lflag &= ~static_cast<tcflag_t>(ICANON | ECHO);
      ::tcsetattr(STDIN_FILENO, TCSADRAIN, &raw);
    }
    put("\033[?1049h\033[?25l");
  }
  void give_back() {
    put("\033[?25h\033[?1049l");
    if (keys_) ::tcsetattr(STDIN_FILENO, TCSADRAIN, &before_);
    keys_ = false;
  }
  // Overwrites what was there, so that nothing flickers.
  void show(const std::string& text) const {
    std::string out = "\033[H";
    for (const char c : text) c == '\n' ? out += "\033[K\n" : out += c;
    put(out + "\033[J");
  }
  bool has_keys() const { return keys_; }

 private:
  static void put(const std::string& text) {
    std::fwrite(text.data(), 1, text.size(), stdout);
    std::fflush(stdout);
  }

  struct termios before_ {};
  bool keys_ = false;
};

Screen screen_size() {
  struct winsize size {};
  if (::ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) != 0 || size.ws_col == 0) return {80, 24};
  return {size.ws_col, size.ws_row == 0 ? size_t{24} : size.ws_row};
}

std::string page(const Json& state, const Painter& paint) {
  Screen screen = screen_size();
  const size_t kept = screen.height > 4 ? 2 : 0;  // for the last lines
  Screen body = screen;
  body.height = screen.height - kept - (screen.height > 1 ? 1 : 0);
  std::string text = top_text(state, body, paint);
  if (kept != 0) text += "\n" + paint(Colour::kDim, "q quits");
  return text;
}

UniqueFd watch_signals() {
  sigset_t set;
  ::sigemptyset(&set);
  for (const int number : {SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGTSTP, SIGWINCH})
    ::sigaddset(&set, number);
  ::sigprocmask(SIG_BLOCK, &set, nullptr);
  return UniqueFd(::signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK));
}

// The exit status where the signal ends top.
std::optional<int> handle_signal(const UniqueFd& signals, LiveScreen& screen) {
  struct signalfd_siginfo info {};
  if (::read(signals.get(), &info, sizeof info) != static_cast<ssize_t>(sizeof info))
    return std::nullopt;
  switch (info.ssi_signo) {
    case SIGWINCH:
      return std::nullopt;
    case SIGTSTP:
      screen.give_back();
      ::kill(::getpid(), SIGSTOP);
      screen.take();
      return std::nullopt;
    case SIGINT:  // the usual way out
      return 0;
    default:
      return 128 + static_cast<int>(info.ssi_signo);
  }
}

bool quits() {
  char keys[64];
  const ssize_t n = ::read(STDIN_FILENO, keys, sizeof keys);
  if (n <= 0) return true;  // the terminal is gone
  const std::string_view typed(keys, static_cast<size_t>(n));
  return typed.find_first_of("qQ\x04") != std::string_view::npos;
}

int run_live(Asker& asker, Json state) {
  const Painter paint(STDOUT_FILENO);
  const UniqueFd signals = watch_signals();
  std::string problem;
  int status = 0;
  {
    LiveScreen screen;
    while (true) {
      screen.show(page(state, paint));
      struct pollfd events[] = {{signals.get(), POLLIN, 0},
                                {screen.has_keys() ? STDIN_FILENO : -1, POLLIN, 0}};
      if (::poll(events, 2, kRefreshMs) > 0) {
        if (events[0].revents != 0) {
          if (const auto end = handle_signal(signals, screen)) {
            status = *end;
            break;
          }
        } else if (quits()) {
          break;
        }
      }
      auto answer = asker.state();
      if (!answer) {
        problem = answer.error().to_string();
        break;
      }
      state = std::move(*answer);
    }
  }
  return problem.empty() ? status : fail(problem);
}

bool can_be_live() {
  const char* term = std::getenv("TERM");
  return ::isatty(STDOUT_FILENO) == 1 && term != nullptr && *term != '\0' &&
         std::string_view(term) != "dumb";
}

}  // namespace

int top_command(const TopArguments& arguments) {
  const auto locations = Locations::find();
  if (!locations) return fail(locations.error().to_string());
  Asker asker(*locations);
  auto state = asker.state();
  if (!state) return fail(state.error().to_string());
  if (arguments.json) {
    fmt::print("{}\n", state->dump(2, ' ', false, Json::error_handler_t::replace));
    return 0;
  }
  if (!arguments.once && can_be_live() && !(*state)["sessions"].empty())
    return run_live(asker, std::move(*state));
  fmt::print("{}", top_text(*state, {terminal_width(STDOUT_FILENO), 0}, Painter(STDOUT_FILENO)));
  return 0;
}

}  // namespace pcache::cli
