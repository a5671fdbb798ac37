// ListenerHeir: who answers a seccomp listener when the daemon no longer does.
//
// A call that waits for a notification fails with ENOSYS once the last listener is closed, and the
// filter stays for as long as the process lives. So another process holds a copy of the listener of
// every process that was seized, and lets its calls go on when the daemon has died or is through
// with it.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>

#include "store/result.h"

namespace pcache::tracer {

class ListenerHeir {
 public:
  class Share {
   public:
    virtual ~Share() = default;  // the heir answers from now on
    // Where the id of the notification that is being answered has to be kept: when this process
    // dies before it answers, nobody else can learn it.
    virtual std::atomic<uint64_t>* received() = 0;
  };
  virtual ~ListenerHeir() = default;
  virtual Result<std::unique_ptr<Share>> share(int listener) = 0;
};

}  // namespace pcache::tracer
