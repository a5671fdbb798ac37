// Gives a process a seccomp filter from outside: at its exec event, before its first instruction.
#pragma once

#include <string>

#include "store/result.h"
#include "store/unique_fd.h"
#include "tracer/tracee.h"

namespace pcache::tracer {

// `program`: an array of struct sock_filter as bytes. The process is as it was afterwards, still
// stopped, but for the filter; the listener is ours alone. On an error it has no filter. A signal
// that arrives meanwhile is sent to it again. On the tracer thread.
Result<UniqueFd> inject_filter(Tid tid, const std::string& program);

}  // namespace pcache::tracer
