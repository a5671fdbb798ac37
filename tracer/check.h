// Check: what a command that ran gave, against what its record would have given (`run --check`).
//
// Called when the execution has ended and its parent cannot see that yet, so its outputs are still
// as it left them. Compares exit status, the bytes of stdout and stderr each, and for each path
// what is there now: kind, contents, mode, target, owner and attributes where these were set. Times
// are not compared: a hit's are the kernel's as well. Guarded by the session's lock.
#pragma once

#include <vector>

#include "store/match.h"
#include "store/observer.h"
#include "tracer/execution.h"
#include "tracer/spool.h"

namespace pcache::tracer {

// `status`: of the execution, as a shell has it. `made`: the record made of it now; may be null.
// Empty: a hit would have given the same.
std::vector<store::Reason> compare_with_record(const Execution& e, int status,
                                               const store::Record& record,
                                               const store::Record* made,
                                               const store::Observer& observer, const Spool& spool);

}  // namespace pcache::tracer
