// Recorder: makes a record of an execution that has ended, from what the ledger knows of it.
//
// Runs while the parent cannot yet see the exit, so that nobody changes the outputs meanwhile.
// Guarded by the session's lock.
#pragma once

#include <optional>
#include <string>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "store/observer.h"
#include "tracer/ledger.h"
#include "tracer/spool.h"

namespace pcache::tracer {

class Recorder {
 public:
  Recorder(Ledger& ledger, const Spool& spool) : ledger_(ledger), spool_(spool) {}

  // Settles the facts, captures the outputs and puts the record. Sets e.recorded, or refusals.
  void record(Execution& e);
  // How many effects it would have (for the report, also when it is not recorded).
  static uint64_t count_changes(const Execution& e);

 private:
  struct Output {
    int64_t order_ns;
    uint64_t sequence;
    std::vector<store::Effect> effects;
  };
  bool describe(Execution& e, const TreePath& path, const PathEntry& entry, Output* output,
                std::vector<Output>* others);
  static bool inside_removed_directory(const Execution& e, const TreePath& path);
  static void order_by_time(const Execution& e, const TreePath& path, const PathEntry& entry,
                            const struct stat& st, Output* output);
  // Another name of an inode that is written under its first.
  bool describe_link(const Execution& e, const TreePath& path, const PathEntry& entry,
                     const struct stat& st, Output* output) const;
  bool describe_file(Execution& e, const TreePath& path, const PathEntry& entry,
                     const struct stat& st, Output* output);
  // The name `path` is to be linked to; nothing when it is the one that is written.
  std::optional<TreePath> link_target(const Execution& e, const TreePath& path,
                                      const PathEntry& entry, const struct stat& st) const;
  void describe_attributes(const Execution& e, const TreePath& path, const PathEntry& entry,
                           const struct stat& st, store::Effect* effect);
  std::optional<store::Digest> capture(Execution& e, const TreePath& path, const PathEntry& entry,
                                       const struct stat& st);
  bool capture_streams(Execution& e, store::Record* record);
  void keep_small_inputs(const store::Record& record);
  bool names_root(const store::Digest& digest, int fd, uint64_t size);
  void bind(Execution& e, const std::string& reason);

  struct Captured {
    store::Stamp stamp;
    uint64_t sequence;
    store::Digest digest;
  };
  Ledger& ledger_;
  const Spool& spool_;
  std::unordered_map<TreePath, Captured, store::TreePathHash> captured_;
  std::unordered_map<store::Digest, bool, store::DigestHash> names_root_;
  std::unordered_set<store::Digest, store::DigestHash> kept_inputs_;  // looked at already
};

}  // namespace pcache::tracer
