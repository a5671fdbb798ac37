// ProbeHub: the BPF program that reports look-ups, loaded once in the daemon for all its sessions.
//
// Loading takes 15 to 80 ms and needs CAP_BPF and CAP_PERFMON; the program is attached only while a
// session runs, as it costs every process of the machine some 25 ns a call. Events go through one
// ring without wake-ups; whoever drains it sorts them by session. Nothing is lost silently: events
// that found no room are counted.
//
// Thread-safe. In a build without clang or libbpf, create() always fails.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "store/result.h"
#include "tracer/probe_source.h"

namespace pcache::tracer {

class ProbeHub {
 public:
  // What one session is told: a slot of the maps.
  class Feed {
   public:
    virtual ~Feed() = default;
    // A thread is watched from its next call on, or goes on in another scope. Look-ups of absolute
    // paths that are alike in all but the time are told once in each scope, and again when
    // something was changed; in scope 0 they are all told.
    virtual bool watch(pid_t tid, uint32_t scope) = 0;
    // Something was changed that no watched thread has changed by a call.
    virtual void changed() = 0;
    // From now on the results of calls are told as well that the filter of a seized process tells
    // of before they run (CallEvent::returned).
    virtual void tell_results() = 0;
    virtual void forget(pid_t tid) = 0;
    // Reads and writes of the process's descriptors above 2 whose bits are set (bit 63: and of all
    // from 63 on) are told; 0 ends it.
    virtual void mark(pid_t pid, uint64_t descriptors) = 0;
    // All events of calls that returned before now, in order. False: some were lost.
    virtual bool drain(std::vector<CallEvent>* events) = 0;
  };

  // Errors say what is missing: kUnsupported, or the system's answer to loading it.
  // `ring_bytes`: a power of two; what is not drained in time is lost.
  static Result<std::unique_ptr<ProbeHub>> create(uint32_t ring_bytes = 32 << 20);
  virtual ~ProbeHub() = default;
  // Null when all slots are taken or the program cannot be attached.
  virtual std::unique_ptr<Feed> open() = 0;
};

// What of a call the hub reports, and the seccomp filter need not.
enum class HubShare : uint8_t {
  kNothing,
  kPaths,     // with AT_FDCWD or no descriptor at all (open: that changes nothing; execve: failed)
  kWhole,     // getcwd
  kTerminal,  // ioctl: TCGETS
  kDescriptors,  // read, write…: of marked descriptors above 2
  kClose,        // of marked ones
};
HubShare hub_share(const SyscallRow& row);

}  // namespace pcache::tracer
