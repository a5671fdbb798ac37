// Server: pcached once it has its socket: the main loop, one thread for each connection.
//
// The main thread only waits (poll): for connections, signals (signalfd: SIGTERM and SIGINT stop,
// SIGUSR1 dumps stacks), changes of the mount table and wake-ups from other threads. Its time-outs
// are real deadlines (idle exit, temporary mounts to try again), so an idle daemon uses no CPU.
#pragma once

#include <sys/socket.h>

#include <chrono>
#include <condition_variable>
#include <functional>
#include <list>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "cli/daemon/claim.h"
#include "cli/daemon/guardian.h"
#include "cli/daemon/mount_table.h"
#include "cli/daemon/probe_holder.h"
#include "cli/daemon/seizer.h"
#include "cli/daemon/session_table.h"
#include "cli/daemon/store_holder.h"
#include "cli/settings.h"
#include "cli/wire.h"

namespace pcache::cli {

class Server {
 public:
  Server(const Locations& locations, std::unique_ptr<Claim> claim, const Settings& settings);

  void run();  // until it is stopped; then everything is published, unmounted and flushed

 private:
  using Clock = std::chrono::steady_clock;

  void accept_clients();
  void start_worker(std::shared_ptr<Channel> channel, std::function<void()> work);
  void serve(const std::shared_ptr<Channel>& channel, pid_t peer);
  bool handle_signals();  // false: stop
  int wait_ms();          // until the next deadline; -1: none
  bool idle_is_over();
  void wake();
  void shut_down();

  std::vector<fusefs::ViewFile> view_files();
  Json answer(const Message& request, Channel& channel, pid_t peer);
  Json mount(const Message& request);
  std::string seize(const Message& request);  // "", or why not
  void run_seized(const Seizer::Command& command);
  Json umount(const Message& request, Channel& channel);
  Json clear_dead(const Message& request);
  Json status();
  Json live();
  Json stats(const Message& request);
  Json last_run();
  Json clear();
  Json gc(const Message& request, Channel& channel);
  Json verify(const Message& request, Channel& channel);
  Json may_stop();
  void stop(const Channel& channel);

  const Locations locations_;
  std::unique_ptr<Claim> claim_;
  const Settings settings_;
  const std::chrono::milliseconds idle_;
  const Clock::time_point start_ = Clock::now();
  UniqueFd signals_, wake_, mountinfo_;
  MountTable mounts_;
  SessionTable sessions_;
  StoreHolder store_;
  ProbeHolder probes_;
  std::map<std::string, Message> mount_requests_;  // by directory: its settings
  std::mutex mount_requests_lock_;
  Guardian guardian_;
  Seizer seizer_;  // before everything that its sessions use

  std::mutex mutex_;  // guards what follows
  std::condition_variable worker_ended_;
  size_t workers_ = 0;
  std::list<std::shared_ptr<Channel>> channels_;
  bool stopping_ = false;
  Clock::time_point busy_until_ = Clock::now();  // when it became idle
};

}  // namespace pcache::cli
