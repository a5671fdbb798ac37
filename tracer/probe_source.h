// Probe source: where the calls of traced processes are seen, and what becomes of them.
//
// A source decodes a call into a CallEvent and hands it to the CallSink. The seccomp source is
// synchronous: the thread waits until the sink has returned, so values are those of the moment of
// the call. The eBPF source (hub_source.h) reports look-ups after the fact, with their result and
// time, and leaves the rest to a seccomp source.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <thread>

#include "store/result.h"
#include "store/unique_fd.h"
#include "tracer/syscall_table.h"
#include "tracer/tracee.h"

namespace pcache::tracer {

struct CallEvent {
  Tid tid;
  int number = -1;
  const SyscallRow* row = nullptr;
  std::array<uint64_t, 6> args{};
  // The row's path arguments, where they could be read. Of an asynchronous write: its bytes.
  std::optional<std::string> first, second;
  bool unreadable = false;  // the caller refuses to be read
  bool foreign = false;     // another architecture's call
  // Of asynchronous sources:
  std::optional<int64_t> result;
  int64_t time_ns = 0;    // CLOCK_MONOTONIC, as the call returned
  bool below_fd = false;  // relative to a descriptor that may be another by now
  bool returned = false;  // of a call that was told before it ran: the result alone
};

// Reads the row's path arguments out of the caller's memory. With no lock held. `arch`: an
// AUDIT_ARCH_*.
CallEvent make_event(Tid tid, uint32_t arch, uint64_t number, const std::array<uint64_t, 6>& args);

// What a synchronous source does with the call.
struct Answer {
  int errno_instead = 0;  // != 0: the call is not made, it returns this error
};

class CallSink {
 public:
  virtual ~CallSink() = default;
  // Before the call; it happens when this returns.
  virtual Answer on_call(const CallEvent& event) = 0;
  // After a Trap::kTrace call.
  virtual void on_result(const CallEvent& event, int64_t result) = 0;
  // Of an asynchronous source: the call has returned. With the session's lock held.
  virtual void on_observed(const CallEvent& event) = 0;
};

class ProbeSource {
 public:
  virtual ~ProbeSource() = default;
  virtual const char* name() const = 0;
  // Everything that happened before now has been given to the sink. With the session's lock held.
  // False: something was lost, and nobody knows whose it was. Synchronous: nothing to do.
  virtual bool drain() = 0;
  // A thread of the session begins, before its first instruction, or execs, or has ended. False: it
  // cannot be watched. `scope`: what it looks up twice in one need be told once only; not in 0.
  virtual bool watch(Tid tid, uint32_t scope) = 0;
  // What was looked up before may be another thing now, by the session's own doing.
  virtual void changed() = 0;
  virtual void forget(Tid tid) = 0;
  // Of the process's descriptors above 2, these are of matter (probe_hub.h).
  virtual void mark(pid_t pid, uint64_t descriptors) = 0;
};

// Answers the notifications of a seccomp listener on a thread of its own until the last process
// that has the filter is gone.
class SeccompSource : public ProbeSource {
 public:
  // `received`: where the id of the notification that is being answered is kept, for whoever has to
  // answer it when this process dies (listener_heir.h); may be null.
  SeccompSource(UniqueFd listener, CallSink& sink, std::atomic<uint64_t>* received = nullptr);
  ~SeccompSource() override;
  const char* name() const override { return "seccomp"; }
  bool drain() override { return true; }
  bool watch(Tid, uint32_t) override { return true; }  // the filter is inherited
  void changed() override {}
  void forget(Tid) override {}
  void mark(pid_t, uint64_t) override {}  // the filter reports all writes, and reads of 5 to 9

 private:
  void loop();
  UniqueFd listener_, stop_;
  CallSink& sink_;
  std::atomic<uint64_t>* const received_;
  std::thread thread_;
};

}  // namespace pcache::tracer
