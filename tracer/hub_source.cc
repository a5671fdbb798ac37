#include "tracer/hub_source.h"

#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <utility>

#include "store/observer.h"

namespace pcache::tracer {
namespace {

// Long enough to cost nothing, short enough for the ring: a process that never stops fills it with
// 100,000 look-ups in this time.
constexpr int kDrainEveryMs = 20;

}  // namespace

HubSource::HubSource(std::unique_ptr<ProbeHub::Feed> feed, std::unique_ptr<ProbeSource> synchronous,
                     CallSink& sink, std::mutex& lock)
    : sink_(sink),
      lock_(lock),
      feed_(std::move(feed)),
      synchronous_(std::move(synchronous)),
      stop_(::eventfd(0, EFD_CLOEXEC)) {
  thread_ = std::thread([this] { drain_now_and_then(); });
}

HubSource::~HubSource() {
  synchronous_.reset();
  const uint64_t one = 1;
  if (::write(stop_.get(), &one, sizeof one) == sizeof one) thread_.join();
}

bool HubSource::drain() {
  events_.clear();
  if (!feed_->drain(&events_)) complete_ = false;
  const store::ObservationPass pass;  // a batch names few directories, many times
  for (const CallEvent& event : events_) sink_.on_observed(event);
  return std::exchange(complete_, true);
}

void HubSource::drain_now_and_then() {
  pollfd stop{stop_.get(), POLLIN, 0};
  while (::poll(&stop, 1, kDrainEveryMs) == 0) {
    const std::lock_guard guard(lock_);
    // Whoever drains next before a decision is told.
    complete_ = drain() && complete_;
  }
}

}  // namespace pcache::tracer
