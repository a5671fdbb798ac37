// HubSource: a session's share of the eBPF hub. Look-ups come from the hub, after the fact; what
// changes something, and what is rare, goes on through seccomp and finds them drained.
#pragma once

#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "store/unique_fd.h"
#include "tracer/probe_hub.h"
#include "tracer/probe_source.h"

namespace pcache::tracer {

class HubSource : public ProbeSource {
 public:
  // `lock` is the session's: a thread of this source's own takes it to drain now and then.
  HubSource(std::unique_ptr<ProbeHub::Feed> feed, std::unique_ptr<ProbeSource> synchronous,
            CallSink& sink, std::mutex& lock);
  ~HubSource() override;
  const char* name() const override { return "ebpf"; }
  bool drain() override;
  bool watch(Tid tid, uint32_t scope) override { return feed_->watch(tid.value, scope); }
  void changed() override { feed_->changed(); }
  void forget(Tid tid) override { feed_->forget(tid.value); }
  void mark(pid_t pid, uint64_t descriptors) override { feed_->mark(pid, descriptors); }
  // Of a seized process, which has no filter at first.
  void add(std::unique_ptr<ProbeSource> synchronous) { synchronous_ = std::move(synchronous); }

 private:
  void drain_now_and_then();

  CallSink& sink_;
  std::mutex& lock_;
  std::unique_ptr<ProbeHub::Feed> feed_;
  std::unique_ptr<ProbeSource> synchronous_;
  std::vector<CallEvent> events_;
  bool complete_ = true;
  UniqueFd stop_;
  std::thread thread_;
};

}  // namespace pcache::tracer
