// ProbeHolder: the daemon's eBPF hub, loaded once, where the machine and the setting `probes` allow
// it. Thread-safe.
#pragma once

#include <memory>
#include <mutex>
#include <string>

#include "tracer/probe_hub.h"

namespace pcache::cli {

class ProbeHolder {
 public:
  // `wanted`: the setting `probes`.
  explicit ProbeHolder(std::string wanted) : wanted_(std::move(wanted)) {}
  // Takes 15 to 80 ms at the first call; meant for a thread of its own.
  void load();
  // Null where there is no hub: the session's filter then reports look-ups as well. Waits for
  // load().
  std::unique_ptr<tracer::ProbeHub::Feed> open();
  // "ebpf", or "seccomp" with the reason.
  std::string description();

 private:
  void load_locked();

  const std::string wanted_;
  std::mutex mutex_;
  bool loaded_ = false;
  std::unique_ptr<tracer::ProbeHub> hub_;
  std::string problem_;
};

}  // namespace pcache::cli
