// fuse_host DIR [--no-passthrough] [--cache SECONDS]: mounts DIR and obeys commands on stdin, one a
// line, each answered by one line on stdout ("ok ..." or "error ..."). Ends, after unmounting, on
// SIGTERM, on end of input or when the mount is taken away. Prints "mounted passthrough=0|1" first.
//
//   serve REL FILE [MODE]   brings FILE's contents back as REL      publish REL    drop REL digest
//   REL invalidate REL   invalidate-all   publish-all   stat REL   list REL   status   unmount lazy
//   listen           starts collecting what a TreeListener is told
//   events           what was collected since, as "tid:op:rel:1|0" words
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstring>
#include <iostream>
#include <mutex>
#include <sstream>
#include <string>
#include <utility>

#include "fusefs/mount.h"

namespace {

volatile sig_atomic_t g_stop = 0;
void on_term(int) { g_stop = 1; }

using pcache::UniqueFd;
using pcache::fusefs::Mount;

class Events : public pcache::fusefs::TreeListener {
 public:
  void on_tree_op(pid_t tid, pcache::fusefs::TreeOp op, const std::string& rel,
                  bool succeeded) override {
    static const char* const kNames[] = {"read", "write",   "create",  "remove", "rename",
                                         "link", "makedir", "setattr", "list"};
    add(std::to_string(tid) + ":" + kNames[static_cast<int>(op)] + ":" + rel + ":" +
        (succeeded ? "1" : "0"));
  }
  bool is_traced(pid_t) override { return false; }
  void on_published(const std::string& rel, const pcache::store::Digest& digest,
                    const struct stat& st) override {
    add("0:published:" + rel + ":" +
        (digest.high == static_cast<uint64_t>(st.st_size) ? "1" : "0"));
  }
  std::string take() {
    std::lock_guard lock(mutex_);
    return std::exchange(text_, "");
  }

 private:
  void add(const std::string& event) {
    std::lock_guard lock(mutex_);
    text_ += " " + event;
  }
  std::mutex mutex_;
  std::string text_;
};
Events g_events;

std::string errno_answer(int err) {
  return err == 0 ? "ok" : std::string("error ") + std::strerror(err);
}

std::string serve(Mount& mount, const std::string& rel, const std::string& file,
                  const std::string& mode) {
  UniqueFd fd(::open(file.c_str(), O_RDONLY | O_CLOEXEC));
  struct stat st {};
  if (!fd || ::fstat(fd.get(), &st) != 0) return errno_answer(errno);
  const pcache::store::Digest digest{static_cast<uint64_t>(st.st_size), 7};
  const int err = mount.serve(
      rel, digest, std::move(fd), static_cast<uint64_t>(st.st_size),
      mode.empty() ? st.st_mode & 07777 : static_cast<mode_t>(std::stoul(mode, nullptr, 8)));
  if (err == 0) mount.invalidate(rel);
  return errno_answer(err);
}

std::string obey(Mount& mount, const std::string& line) {
  std::istringstream words(line);
  std::string command, rel, file, mode;
  words >> command >> rel >> file >> mode;
  if (command == "serve") return serve(mount, rel, file, mode);
  if (command == "publish") return errno_answer(mount.publish(rel));
  if (command == "drop") {
    const bool dropped = mount.drop_served(rel);
    mount.invalidate(rel);
    return dropped ? "ok" : "error not served";
  }
  if (command == "digest") {
    const auto digest = mount.served_digest(rel);
    return digest ? "ok " + std::to_string(digest->high) : "error not served";
  }
  if (command == "invalidate") {
    mount.invalidate(rel);
    return "ok";
  }
  if (command == "invalidate-all") {
    mount.invalidate_all();
    return "ok";
  }
  if (command == "listen") {
    mount.set_listener(&g_events);
    return "ok";
  }
  if (command == "events") return "ok" + g_events.take();
  if (command == "publish-all") {
    const auto result = mount.publish_all({});
    return result ? "ok" : "error " + result.error().to_string();
  }
  if (command == "stat") {
    struct stat st {};
    const int err = mount.stat(rel, &st);
    return err != 0 ? errno_answer(err) : "ok " + std::to_string(st.st_size);
  }
  if (command == "list") {
    std::vector<pcache::store::DirEntry> entries;
    const int err = mount.list(rel, &entries);
    std::string answer = errno_answer(err);
    for (const auto& entry : entries) answer += std::string(" ") + entry.type + entry.name;
    return answer;
  }
  if (command == "status") {
    const auto s = mount.status();
    std::ostringstream out;
    out << "ok passthrough=" << s.passthrough << " requests=" << s.requests << " nodes=" << s.nodes
        << " pending=" << s.served_pending << " pending_bytes=" << s.served_bytes_pending
        << " writers=" << s.write_handles << " alive=" << mount.alive();
    return out.str();
  }
  if (command == "unmount" || command == "lazy") {
    const auto result = mount.unmount(command == "lazy");
    return result ? "ok" : "error " + result.error().to_string();
  }
  return "error unknown command";
}

}  // namespace

int main(int argc, char** argv) {
  pcache::fusefs::MountOptions options;
  for (int i = 1; i < argc; ++i) {
    const std::string arg = argv[i];
    if (arg == "--no-passthrough") {
      options.passthrough = false;
    } else if (arg == "--cache" && i + 1 < argc) {
      options.cache_seconds = std::stod(argv[++i]);
    } else {
      options.dir = arg;
    }
  }
  struct sigaction action {};
  action.sa_handler = on_term;
  sigaction(SIGTERM, &action, nullptr);
  sigaction(SIGINT, &action, nullptr);
  auto created = Mount::create(options);
  if (!created) {
    std::cout << "error " << created.error().to_string() << std::endl;
    return 1;
  }
  Mount& mount = **created;
  std::cout << "mounted passthrough=" << mount.status().passthrough << std::endl;

  std::string input;
  bool open = true;
  while (g_stop == 0 && open && mount.alive()) {
    struct pollfd in = {0, POLLIN, 0};
    if (::poll(&in, 1, 100) <= 0) continue;
    char buffer[4096];
    const ssize_t n = ::read(0, buffer, sizeof buffer);
    if (n <= 0) break;
    input.append(buffer, static_cast<size_t>(n));
    for (size_t end; (end = input.find('\n')) != std::string::npos; input.erase(0, end + 1)) {
      const std::string line = input.substr(0, end);
      const std::string answer = obey(mount, line);
      std::cout << answer << std::endl;
      if ((line == "unmount" || line == "lazy") && answer == "ok") open = false;
    }
  }
  const auto result = mount.unmount(false);
  if (!result) {
    std::cout << "error " << result.error().to_string() << std::endl;
    return 1;
  }
  return 0;
}
