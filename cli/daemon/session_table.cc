#include "cli/daemon/session_table.h"

#include <signal.h>

#include <algorithm>

#include "tracer/tracee.h"

namespace pcache::cli {

using std::chrono::steady_clock;

namespace {

// What was seized was not announced.
std::vector<std::string> command_of(const std::vector<std::string>& announced, pid_t pid) {
  return announced.empty() ? tracer::read_proc_list(tracer::Tid{pid}, "cmdline") : announced;
}

}  // namespace

bool SessionTable::add(tracer::Session* session, pid_t pid, std::string root,
                       std::vector<std::string> command) {
  const std::lock_guard lock(mutex_);
  if (stopped_) return false;
  entries_[session] = {pid, std::move(root), std::move(command), steady_clock::now()};
  const std::unique_lock traced(traced_lock_);
  traced_.push_back(session);
  return true;
}

bool SessionTable::is_traced(pid_t tid) {
  const std::shared_lock traced(traced_lock_);
  return std::any_of(traced_.begin(), traced_.end(),
                     [&](const tracer::Session* session) { return session->is_traced(tid); });
}

void SessionTable::remove(tracer::Session* session) {
  const std::lock_guard lock(mutex_);
  {
    const std::unique_lock traced(traced_lock_);
    std::erase(traced_, session);
  }
  entries_.erase(session);
  removed_.notify_all();
}

std::vector<SessionTable::Listed> SessionTable::list() {
  const std::lock_guard lock(mutex_);
  std::vector<Listed> listed;
  for (const auto& [session, entry] : entries_) {
    const std::chrono::duration<double> wall = steady_clock::now() - entry.start;
    listed.push_back({entry.pid, entry.root, command_of(entry.command, entry.pid), wall.count(),
                      session->status_line()});
  }
  return listed;
}

std::vector<SessionTable::Live> SessionTable::live() {
  const std::lock_guard lock(mutex_);
  std::vector<Live> live;
  for (const auto& [session, entry] : entries_) {
    const std::chrono::duration<double> wall = steady_clock::now() - entry.start;
    live.push_back({{entry.pid, entry.root, command_of(entry.command, entry.pid), wall.count(), ""},
                    session->live()});
  }
  return live;
}

bool SessionTable::becomes_empty(std::chrono::milliseconds patience) {
  std::unique_lock lock(mutex_);
  return removed_.wait_for(lock, patience, [this] { return entries_.empty(); });
}

bool SessionTable::stopped() {
  const std::lock_guard lock(mutex_);
  return stopped_;
}

void SessionTable::stop(std::chrono::milliseconds patience) {
  std::unique_lock lock(mutex_);
  stopped_ = true;
  for (const auto& [session, entry] : entries_) session->signal_all(SIGTERM);
  removed_.wait_for(lock, patience, [this] { return entries_.empty(); });
  for (const auto& [session, entry] : entries_) session->signal_all(SIGKILL);
}

}  // namespace pcache::cli
