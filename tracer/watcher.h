// Watcher: is told of everything that a traced command does, for `trace` and `census`.
//
// A CallSink that also hears of processes. A session with one looks nothing up and records nothing,
// and its filter (watch_filter_program()) stops every call that means something before and after,
// so that each has its result, whatever the probe source. It is slow, and that does not matter.
//
// Called on the tracer thread while the process in question is stopped; on_exec and on_exit with
// the session's lock held.
#pragma once

#include "store/weak_key.h"
#include "tracer/execution.h"
#include "tracer/probe_source.h"

namespace pcache::tracer {

class Watcher : public CallSink {
 public:
  struct Exec {
    pid_t pid;
    ExecutionId id, parent;  // parent 0: the command itself
    const store::ImageInfo& image;
  };
  // There is no asynchronous source below a watcher: stops tell everything, in order.
  void on_observed(const CallEvent&) final {}
  virtual void on_fork(Tid parent, Tid child, bool thread) = 0;
  virtual void on_exec(const Exec& exec) = 0;
  // `cpu_ns` has that of the children it waited for in it.
  virtual void on_exit(Tid tid, int status, uint64_t cpu_ns, bool thread) = 0;
};

}  // namespace pcache::tracer
