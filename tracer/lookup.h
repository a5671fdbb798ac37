// Lookup: is there a record for what a process is about to do whose facts all hold now?
// weak key → path sets seen for it → values now → strong key → one get. Guarded by the session's
// lock.
#pragma once

#include <memory>
#include <unordered_map>
#include <vector>

#include "store/match.h"
#include "store/observer.h"
#include "tracer/lineage.h"

namespace pcache::tracer {

struct LookupResult {
  std::shared_ptr<const store::Record> record;  // null: miss
  std::vector<store::Reason> reasons;           // of a miss: all, against the nearest record
  store::Digest nearest;                        // that one; empty when there is none
};

// `failures`: records of failed runs count too (cache_failures).
LookupResult look_up(const Execution& e, const Process& process, const store::Observer& observer,
                     bool failures);

}  // namespace pcache::tracer
