// Replay: applies a record's effects, all or nothing, before the parent can see the exit.
//
// (1) every blob is opened first; (2) effects are applied in recorded order by the same kind of
// operation (in place where it was in place, never a recursive removal); mtimes come from the
// kernel unless they were set explicitly. If anything fails, what was done is undone from a journal
// (old contents are held by descriptor or copied before an in-place truncation) and an Error is
// returned: the caller lets the command run.
//
// Outputs in the tree above kServeFileBytes, or once a skip has written kServeSkipBytes, are served
// (Tree::serve) instead of written. Every changed name is told to the kernel (Tree::invalidate)
// before apply() returns. Call it from any thread but a FUSE one, with no lock held.
#pragma once

#include <cstdint>
#include <vector>

#include "store/observer.h"
#include "store/record.h"
#include "store/result.h"

namespace pcache::store {

inline constexpr uint64_t kServeFileBytes = 1u << 20;
inline constexpr uint64_t kServeSkipBytes = 4u << 20;

struct Applied {
  TreePath path;
  bool present = false;  // after the replay
  struct stat st {};     // when present: as left behind (for "own" stamps)
};

struct ReplayResult {
  std::vector<Applied> applied;  // one for each effect with a path, in order
  uint64_t bytes_served = 0;     // by passthrough
  uint64_t bytes_written = 0;
};

// kOffset effects are left to the caller (they need the process's descriptors).
Result<ReplayResult> apply_effects(const Record& record, const Observer& observer);

}  // namespace pcache::store
