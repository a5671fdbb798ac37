// Matching: the pure decision whether a record's facts hold, with every reason why not.
//
// Pure: no file system, no store, no clock. explain prints these reasons; nothing reconstructs
// them.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "store/record.h"

namespace pcache::store {

// Codes are stable: other people's scripts read them from reports. Listed in docs/cli.md. Those of
// matching: content-changed, mode-changed, owner-changed, size-changed, mtime-changed,
// links-changed, kind-changed, appeared, vanished, access-changed, link-changed, listing-changed,
// output-changed, xattr-changed, statfs-changed, terminal-changed, stdin-changed, affinity-changed.
struct Reason {
  std::string code;    // e.g. "content-changed", "listing-changed", "appeared", "no-record"
  std::string path;    // TreePath text; "" where there is none
  std::string detail;  // for people: "five.c was added"
  bool operator==(const Reason&) const = default;
};

struct Verdict {
  bool hit = false;
  std::vector<Reason> reasons;  // empty exactly when it is a hit
};

using Observations = std::function<FactValue(const FactKey&)>;

// Compares every fact (also side_facts), in order; gives all reasons.
Verdict match(const Record& record, const Observations& observe);

// The reason why `before` and `now` differ as answers to `key`. They must differ.
Reason difference(const FactKey& key, const FactValue& before, const FactValue& now);

}  // namespace pcache::store
