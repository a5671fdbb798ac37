#include "cli/daemon/probe_holder.h"

namespace pcache::cli {

void ProbeHolder::load() {
  const std::lock_guard guard(mutex_);
  load_locked();
}

void ProbeHolder::load_locked() {
  if (loaded_) return;
  loaded_ = true;
  if (wanted_ == "seccomp") {
    problem_ = "the setting probes says so";
    return;
  }
  auto hub = tracer::ProbeHub::create();
  if (hub)
    hub_ = std::move(*hub);
  else
    problem_ = hub.error().to_string();
}

std::unique_ptr<tracer::ProbeHub::Feed> ProbeHolder::open() {
  const std::lock_guard guard(mutex_);
  load_locked();
  return hub_ ? hub_->open() : nullptr;
}

std::string ProbeHolder::description() {
  const std::lock_guard guard(mutex_);
  load_locked();
  return hub_ ? "ebpf" : "seccomp (no eBPF: " + problem_ + ")";
}

}  // namespace pcache::cli
