#include "tracer/lineage.h"

#include <algorithm>

#include "tracer/tracee.h"

namespace pcache::tracer {
namespace {

constexpr size_t kMostEnded = 100000;

}  // namespace

store::FactValue stream_value(store::FactKind kind, const StreamTag& tag) {
  store::FactValue value;
  const FdKind what = classify(tag.link);
  if (kind == store::FactKind::kTerminal) {
    value.size = what == FdKind::kTerminal ? 1 : 0;
    return value;
  }
  value.mode = tag.mode;
  value.size = tag.size;
  switch (what) {
    case FdKind::kClosed:
      value.text = "closed descriptor";
      break;
    case FdKind::kNull:
      value.text = "null device";
      break;
    case FdKind::kTerminal:
      value.text = "terminal " + tag.link;  // fstat and ttyname tell which
      break;
    case FdKind::kPipe:
      value.text = "pipe";
      break;
    case FdKind::kSocket:
      value.text = "socket";
      break;
    case FdKind::kFile:
      value.text = "file";
      break;
    case FdKind::kOther:
      value.text = "device";
      break;
  }
  return value;
}

Process* Lineage::process(pid_t pid) {
  const auto found = processes_.find(pid);
  return found == processes_.end() ? nullptr : found->second.get();
}

Process* Lineage::by_own_pid(pid_t own_pid) {
  for (const auto& [pid, process] : processes_)
    if (process->own_pid == own_pid) return process.get();
  return nullptr;
}

Thread* Lineage::thread(pid_t tid) {
  const auto found = threads_.find(tid);
  return found == threads_.end() ? nullptr : &found->second;
}

Process* Lineage::process_of(pid_t tid) {
  Thread* known = thread(tid);
  return known == nullptr ? nullptr : known->process;
}

Process& Lineage::add_process(pid_t pid, Execution& execution) {
  auto& slot = processes_[pid];
  slot = std::make_unique<Process>();
  slot->pid = slot->own_pid = pid;
  slot->execution = &execution;
  add_thread(pid, *slot);
  return *slot;
}

void Lineage::add_thread(pid_t tid, Process& process) {
  threads_[tid] = Thread{&process};
  process.threads.insert(tid);
  const std::lock_guard guard(tids_lock_);
  tids_.insert(tid);
}

void Lineage::drop_thread(pid_t tid) {
  threads_.erase(tid);
  const std::lock_guard guard(tids_lock_);
  tids_.erase(tid);
}

bool Lineage::has_thread(pid_t tid) const {
  const std::lock_guard guard(tids_lock_);
  return tids_.contains(tid);
}

void Lineage::remove_thread(pid_t tid) {
  if (Process* owner = process_of(tid)) owner->threads.erase(tid);
  drop_thread(tid);
}

void Lineage::remove_process(pid_t pid) {
  const auto found = processes_.find(pid);
  if (found == processes_.end()) return;
  for (const pid_t tid : found->second->threads) drop_thread(tid);
  const Process& process = *found->second;
  if (ended_.size() >= kMostEnded) ended_.clear();
  Ended& ended = ended_[process.own_pid];
  ended = {pid, {}};
  for (const Execution* e = process.execution; !e->is_session(); e = e->parent)
    ended.executions.push_back(e->id);
  processes_.erase(found);
}

bool Lineage::was_of(const Execution& e, pid_t own_pid) {
  const auto found = ended_.find(own_pid);
  if (found == ended_.end()) return false;
  const std::vector<uint64_t>& executions = found->second.executions;
  if (std::find(executions.begin(), executions.end(), e.id) == executions.end()) return false;
  // In a namespace of ours all numbers are ours.
  if (found->second.pid != own_pid) return true;
  const std::optional<Credentials> now = read_credentials(Tid{own_pid});
  return !now || process(now->parent) != nullptr;
}

void Lineage::keep_leader_only(Process& process) {
  for (const pid_t tid : process.threads) drop_thread(tid);
  process.threads.clear();
  add_thread(process.pid, process);
}

std::vector<pid_t> Lineage::pids() const {
  std::vector<pid_t> pids;
  for (const auto& [pid, process] : processes_) pids.push_back(pid);
  return pids;
}

void Lineage::ask_directories() {
  for (auto& [pid, process] : processes_) process->cwd = proc_link(Tid{pid}, "cwd");
}

}  // namespace pcache::tracer
