// Execution: one node of the tree of commands, with what it observed and changed so far.
//
// An execution lasts from a successful exec until that process, its exec-less forks and all its
// child executions have ended. Owned by the Ledger; everything here is guarded by the session's
// lock.
#pragma once

#include <sys/stat.h>

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "store/fact.h"
#include "store/match.h"
#include "store/record.h"
#include "store/tree.h"
#include "store/weak_key.h"
#include "tracer/import_watch.h"
#include "tracer/session.h"

namespace pcache::tracer {

using store::TreePath;
using ExecutionId = uint64_t;

// Contents that were observed; hashed at once when the stamp is young, else when first needed
// (before an own change of the path at the latest).
struct Sample {
  TreePath path;
  struct stat st {};
  std::optional<store::Digest> hash;
  bool failed = false;  // changed before it was hashed
};

struct ObservedFact {
  store::FactKey key;
  store::FactValue value;          // for kContent without a hash until the sample has one
  std::shared_ptr<Sample> sample;  // kContent of a regular file
  enum class Asker : uint8_t { kOther, kBlind, kReplacing, kPython };
  Asker asker = Asker::kOther;  // kBlind: only images that overwrite blindly have asked (rule 2)
  bool removed = false;         // replaced by a Replaced fact
};

// Which aspects of a path an execution's own tree has changed.
enum Aspect : uint8_t {
  kExistence = 1,  // created, removed, replaced by another inode
  kContents = 2,
  kAttributes = 4,  // mode, owner, xattrs
  kTimes = 8,       // times set
};

// What was there before a change: err (ENOENT) or st.
struct Before {
  int err = 0;
  struct stat st {};
};

struct PathEntry {
  std::vector<uint32_t> facts;  // indices into Execution::facts
  uint8_t changed = 0;
  Before before;           // valid once changed != 0
  bool exclusive = false;  // the first creation was exclusive (O_EXCL, mkdir, link…)
  bool unlinked = false;   // the inode that was there was removed or renamed over
  bool replaced_fact = false;
  bool shared_inode = false;    // changed in place while it had other names
  int64_t order_ns = 0;         // of the last change (CLOCK_REALTIME_COARSE: mtimes' own clock)
  uint64_t sequence = 0;        // orders changes of one clock tick
  uint64_t timed_sequence = 0;  // of the last that sets the modification time
  int64_t made_ns = 0, removed_ns = 0;  // the last creation, the first removal of what was there
  uint64_t made_sequence = 0, removed_sequence = 0;
  // Explicit; still so at the end only if the file has this time then: an open for writing that
  // writes nothing leaves it.
  std::optional<int64_t> atime_ns, mtime_ns;
  bool mode_set = false, owner_set = false, touched = false;
  std::set<std::string> xattrs;  // set or removed
  std::string link_source;       // TreePath text of the name it was linked from
};

// A run of stream bytes in the session's spool.
struct SpoolSegment {
  uint32_t fd;
  uint64_t offset, size;
};

struct StdinUse {
  bool used = false;
  int64_t offset_at_exec = -1;     // regular files
  std::shared_ptr<UniqueFd> file;  // a duplicate of the description, from first use
  store::FactValue value;
};

// Which random numbers python's modules take as they are imported (interpret_random.cc).
struct PythonSeeds {
  enum class Due : uint8_t { kNone, kNumpy, kMultiprocessing };
  Due due = Due::kNone;
  bool numpy = false;  // its generator was seeded
  bool draws = false;  // a source of the project draws numbers, and names no seed
};

struct Execution {
  ExecutionId id = 0;
  Execution* parent = nullptr;      // null: the session itself, which observes nothing
  pid_t main_pid = 0, own_pid = 0;  // own_pid: as the process knows itself
  store::ImageInfo image;
  std::string image_name;
  bool blind_image = false;
  bool replacing_image = false;                       // mv, cp, install, ln, rm, ar…
  bool directory_times = false;                       // a directory's mtime is of matter to it
  bool mtime_ignored = false, mtime_matters = false;  // by the lists
  std::vector<TreePath> private_dirs;                 // what is below is its own affair (rule 13)
  store::WeakKey weak;
  std::string cwd;  // absolute

  int live = 0;  // processes in it + open child executions
  bool main_exited = false;
  int status = 0;                        // wait status of the main process
  int64_t started_ns = 0, ended_ns = 0;  // CLOCK_MONOTONIC
  uint64_t cpu_ns = 0;

  bool hit = false;
  std::shared_ptr<const store::Record> would_hit;  // --check: it runs nevertheless
  uint32_t hit_executions = 0;
  std::vector<store::Reason> misses;    // why the look-up failed
  std::vector<store::Reason> refusals;  // why it can't be recorded
  bool recorded = false;
  store::Digest record;   // made, or hit
  store::Digest nearest;  // what `misses` compares with

  std::vector<ObservedFact> facts;
  std::unordered_map<TreePath, PathEntry, store::TreePathHash> paths;
  std::unordered_map<TreePath, std::set<std::string>, store::TreePathHash>
      own_names;  // by directory
  std::vector<store::Fact> side_facts;
  std::unordered_set<store::Digest, store::DigestHash> memo;  // calls that can tell nothing new
  std::unordered_set<uint64_t> ways;                          // Resolved::way of those it went
  std::vector<SpoolSegment> streams;
  StdinUse stdin_use;
  std::set<std::string> inherited;     // links of descriptors above 2 it was given
  std::set<TreePath> own_directories;  // made by its tree: what lies below is its own
  uint32_t random_opens = 0;
  std::unique_ptr<ImportWatch> imports;  // of python images
  PythonSeeds seeds;
  bool compiles_python = false;  // it imported compileall: __pycache__ is its output
  // (dev, ino) whose link count its tree changed: what it was before
  std::map<std::pair<uint64_t, uint64_t>, uint64_t> relinked;
  std::set<std::pair<uint64_t, uint64_t>> changed_inodes;  // that have other names as well
  std::set<std::pair<uint64_t, uint64_t>> output_inodes;   // files its stdout and stderr go to
  std::string root_reason;  // non-empty: its record holds for this root only
  uint64_t saved_ns = 0, bytes_served = 0, stops = 0, tree_ops = 0, effect_count = 0;
  uint32_t nested = 0;  // executions inside it

  bool is_session() const { return parent == nullptr; }
  bool within(const Execution& other) const;  // itself, or below it
  bool keeps_private(const TreePath& path) const;
};

inline ObservedFact::Asker asker_of(const Execution& e) {
  return e.blind_image              ? ObservedFact::Asker::kBlind
         : e.replacing_image        ? ObservedFact::Asker::kReplacing
         : e.image_name == "python" ? ObservedFact::Asker::kPython
                                    : ObservedFact::Asker::kOther;
}

inline bool Execution::within(const Execution& other) const {
  for (const Execution* e = this; e != nullptr; e = e->parent)
    if (e == &other) return true;
  return false;
}

inline bool Execution::keeps_private(const TreePath& path) const {
  for (const TreePath& dir : private_dirs)
    if (path.text == dir.text || path.text.starts_with(dir.text + "/")) return true;
  return false;
}

}  // namespace pcache::tracer
