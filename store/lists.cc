#include "store/lists.h"

#include <fnmatch.h>

#include <algorithm>

namespace pcache::store {

namespace {

constexpr const char* kCompilers[] = {
    "as",        "c++",   "c89",         "c99",     "cc",       "cc1",    "cc1obj",   "cc1objplus",
    "cc1plus",   "cicc",  "clang",       "clang++", "collect2", "cpp",    "cudafe++", "f951",
    "fatbinary", "flang", "g++",         "gas",     "gcc",      "gdc",    "gfortran", "gnat1",
    "gold",      "icc",   "icpx",        "icx",     "ld",       "ld.bfd", "ld.gold",  "ld.lld",
    "ld.mold",   "lld",   "lto-wrapper", "lto1",    "mold",     "nasm",   "nvcc",     "ptxas",
    "rustc",     "tcc",   "yasm"};
constexpr const char* kConfigure[] = {"config.status", "configure"};
// Those that ask about an input only whether it is there, and then read it.
constexpr const char* kAskExistence[] = {"hmmbuild"};

// make is not here: it stats directories, and one whose objects it has just built is always newer.
constexpr const char* kMtimeMatters[] = {
    "7z",    "ar",    "bsdtar", "bzip2", "cp",  "cpio",  "git", "gzip", "install", "ls",
    "ninja", "rsync", "samu",   "stat",  "tar", "unzip", "xz",  "zip",  "zstd"};

constexpr const char* kNever[] = {
    "date",   "dbus-uuidgen", "gdb",    "htop",    "iostat", "kill",  "killall", "logger",
    "ltrace", "mktemp",       "pcache", "pcached", "perf",   "pgrep", "ping",    "pkill",
    "ps",     "shuf",         "sleep",  "strace",  "stty",   "su",    "sudo",    "top",
    "tty",    "uptime",       "usleep", "uuidgen", "vmstat", "w",     "watch",   "who"};

constexpr const char* kRecordsMtimes[] = {"ninja", "samu"};

// What people start in a project that is work: builders, interpreters of scripts, compilers. Not
// what they talk to (editors, git), nor what is cheaper than being followed.
constexpr const char* kSeize[] = {
    "make",    "gmake",   "ninja",     "samu",     "cmake",    "ctest",     "meson",    "scons",
    "bmake",   "rake",    "snakemake", "parallel", "latexmk",  "pdflatex",  "xelatex",  "lualatex",
    "sh",      "bash",    "dash",      "zsh",      "ksh",      "python3",   "python",   "perl",
    "ruby",    "node",    "Rscript",   "gcc",      "g++",      "cc",        "c++",      "clang",
    "clang++", "rustc",   "cargo",     "gfortran", "javac",    "tar",       "gzip",     "xz",
    "zstd",    "convert", "montage",   "clustalw", "hmmbuild", "hmmsearch", "raxmlHPC", "bwa",
    "mothur",  "samtools"};

// Of the terminal, the login and the agents; never of the work.
constexpr const char* kSessionVariables[] = {
    "COLUMNS", "LINES", "WINDOWID", "WINDOW", "TERM_SESSION_ID", "ITERM_SESSION_ID",
    "SSH_AUTH_SOCK", "SSH_AGENT_PID", "SSH_CLIENT", "SSH_CONNECTION", "SSH_TTY", "GPG_TTY",
    "GPG_AGENT_INFO", "DBUS_SESSION_BUS_ADDRESS", "DISPLAY", "WAYLAND_DISPLAY", "XAUTHORITY",
    "SESSION_MANAGER", "DESKTOP_SESSION", "DESKTOP_STARTUP_ID", "XDG_ACTIVATION_TOKEN",
    "XDG_SESSION_ID", "XDG_SESSION_TYPE", "XDG_SESSION_CLASS", "XDG_SESSION_DESKTOP",
    "XDG_SESSION_PATH", "XDG_SEAT", "XDG_SEAT_PATH", "XDG_VTNR", "TMUX", "TMUX_PANE", "STY",
    "TERM_PROGRAM", "TERM_PROGRAM_VERSION", "INVOCATION_ID",
    // GNU parallel tells each of its jobs which process
    // runs it, and where it comes in the row.
    "PARALLEL_PID", "PARALLEL_TMP", "PARALLEL_SEQ", "PARALLEL_JOBSLOT", "PARALLEL_JOBSLOT0",
    "PARALLEL_HOME", "JOURNAL_STREAM", "SYSTEMD_EXEC_PID", "MANAGERPID",
    "LC_IDENTIFICATION_SESSION", "KONSOLE_*", "GNOME_TERMINAL_*", "KITTY_*", "VSCODE_*"};

template <size_t N>
std::vector<std::string> words_of(const char* const (&words)[N]) {
  return {std::begin(words), std::end(words)};
}

std::string joined(const std::vector<std::string>& words) {
  std::string out;
  for (const std::string& word : words) out += (out.empty() ? "" : " ") + word;
  return out;
}

std::string joined(const std::vector<PrivateDir>& dirs) {
  std::vector<std::string> words;
  for (const PrivateDir& dir : dirs) words.push_back(dir.owner + ":" + dir.dir);
  std::sort(words.begin(), words.end());
  return joined(words);
}

}  // namespace

NameList::NameList(std::vector<std::string> words) : words_(std::move(words)) {
  std::sort(words_.begin(), words_.end());
  words_.erase(std::unique(words_.begin(), words_.end()), words_.end());
  for (const std::string& word : words_) {
    if (word.find_first_of("*?[") == std::string::npos)
      names_.insert(word);
    else
      patterns_.push_back(word);
  }
}

bool NameList::contains(std::string_view name) const {
  if (names_.contains(name)) return true;
  if (patterns_.empty()) return false;
  const std::string text(name);
  return std::any_of(patterns_.begin(), patterns_.end(), [&](const std::string& pattern) {
    return ::fnmatch(pattern.c_str(), text.c_str(), 0) == 0;
  });
}

void Lists::seal() {
  const Lists& built_in = defaults();
  meaning.clear();
  const auto add = [&](const char* name, const NameList& list, const NameList& usual) {
    if (list.words() != usual.words()) meaning.emplace_back(name, joined(list.words()));
  };
  add("mtime_ignored", mtime_ignored, built_in.mtime_ignored);
  add("mtime_matters", mtime_matters, built_in.mtime_matters);
  add("overwrites_blindly", overwrites_blindly, built_in.overwrites_blindly);
  add("never", never, built_in.never);
  add("session_variables", session_variables, built_in.session_variables);
  if (private_dirs != built_in.private_dirs)
    meaning.emplace_back("private_dirs", joined(private_dirs));
  if (strict_clock) meaning.emplace_back("strict_clock", "yes");
}

const Lists& Lists::defaults() {
  static const Lists built_in = [] {
    Lists lists;
    std::vector<std::string> ignored = words_of(kCompilers);
    for (const char* name : kConfigure) ignored.emplace_back(name);
    for (const char* name : kAskExistence) ignored.emplace_back(name);
    lists.mtime_ignored = NameList(std::move(ignored));
    lists.mtime_matters = NameList(words_of(kMtimeMatters));
    std::vector<std::string> blind = words_of(kCompilers);
    blind.emplace_back("convert-im*");  // ImageMagick: asks what is there, and truncates it
    lists.overwrites_blindly = NameList(std::move(blind));
    lists.never = NameList(words_of(kNever));
    lists.records_mtimes = NameList(words_of(kRecordsMtimes));
    lists.session_variables = NameList(words_of(kSessionVariables));
    lists.seize = NameList(words_of(kSeize));
    return lists;
  }();
  return built_in;
}

const NameList& compilers() {
  static const NameList list(words_of(kCompilers));
  return list;
}

std::optional<PrivateDir> parse_private_dir(std::string_view word) {
  const size_t colon = word.find(':');
  if (colon == 0 || colon == std::string_view::npos) return std::nullopt;
  PrivateDir found{std::string(word.substr(0, colon)), std::string(word.substr(colon + 1))};
  while (found.dir.size() > 1 && found.dir.back() == '/') found.dir.pop_back();
  if (found.dir.size() < 2 || found.dir[0] != '/') return std::nullopt;
  return found;
}

}  // namespace pcache::store
