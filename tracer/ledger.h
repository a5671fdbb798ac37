// Ledger: turns observations into facts and effects of every open execution (design.md section 4).
//
// The one pipeline from observation to fact: whatever the source (a seccomp stop today, a ring
// buffer tomorrow, a hit's record), it arrives here as observe(), list() or change() on an
// execution, and is applied to it and to every open ancestor. What an execution's own tree changed
// is no input of it.
//
// Guarded by the session's lock. Touches the file system (through the Observer) only to hash what
// is about to change and to re-check facts.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "store/observer.h"
#include "tracer/execution.h"

namespace pcache::tracer {

using Asker = ObservedFact::Asker;

enum class ChangeKind : uint8_t {
  kCreateOrTruncate,  // O_CREAT|O_TRUNC, not exclusive
  kTruncate,          // O_TRUNC or truncate(0) of something that exists
  kCreateExclusive,   // O_EXCL, mkdir, mknod, symlink, the new name of a link
  kWriteInPlace,      // a write open without O_TRUNC
  kRemove,
  kMoveAway,    // the old name of a rename
  kMoveOnto,    // the new name of a rename
  kAttributes,  // chmod, chown, xattrs
  kTimes,
  kReplayed,  // by a hit: its record's facts say what it needed
};

struct Change {
  ChangeKind kind;
  TreePath path;
  Before before;
  uint32_t create_mode = 0;  // after umask
  bool blind = false;        // the image overwrites blindly
  bool directory = false;    // a directory is there now, made by the own tree
  bool looks_first =
      false;             // the image looks at what it replaces (mv, cp, rm): only the kind counts
  bool unlinks = false;  // …and unlinks first (as, ld)
  uint8_t replayed_aspects = 0;  // kReplayed
  bool replayed_removal = false;
  std::optional<int64_t> atime_ns, mtime_ns;  // kTimes: explicit; absent: now
  bool mode_set = false, owner_set = false;
  std::string xattr;
  std::string link_source;
};

class Ledger {
 public:
  explicit Ledger(const store::Observer& observer);

  Execution& session() { return *session_; }
  Execution& open(Execution& parent, pid_t main_pid);
  void forget(Execution& execution);  // it has ended and is reported
  size_t open_count() const { return open_.size(); }

  // A fact of `key` with its value at this moment. For regular files' contents pass the stat; the
  // hash is filled in later. `asker`: what kind of image asked.
  void observe(Execution& e, store::FactKey key, store::FactValue value,
               Asker asker = Asker::kOther);
  void observe_content(Execution& e, const TreePath& path, int err, const struct stat& st,
                       Asker asker = Asker::kOther);
  void list(Execution& e, const TreePath& dir, int err, const std::vector<store::DirEntry>& entries,
            const std::vector<std::string>& left_out = {}, uint32_t param = 0);
  void side_fact(Execution& e, const store::Fact& fact);
  // A fact about the process's own descriptors: of `e` alone, not of its ancestors.
  void observe_alone(Execution& e, store::FactKey key, store::FactValue value);
  // Drops Identity facts of `path` that only `asker` has asked for.
  void forget_identity(Execution& e, const TreePath& path, Asker asker);
  // The own tree changed the link count of this inode.
  void relinked(Execution& e, const struct stat& st, uint64_t links_before);
  // Identity by stat: as observe(), with the link count the inode had before own links.
  void observe_identity(Execution& e, const TreePath& path, uint32_t param, const struct stat& st,
                        Asker asker);
  const std::vector<const Execution*> open_executions() const;
  std::vector<Execution*> open_executions_to_change();
  // A Replaced fact of a hit, answered for each ancestor with its own weak key.
  // `err` and `st`: of the path before the replay.
  void observe_replaced(Execution& e, const store::FactKey& key, int err, const struct stat& st);

  // Before `path` can change: contents observed so far are hashed.
  Before before_change(Execution& e, const TreePath& path);
  void change(Execution& e, const Change& change);

  // Not to be recorded, for `code`. With `ancestors`, nor is any execution above it.
  void refuse(Execution& e, const std::string& code, const std::string& path,
              const std::string& detail, bool ancestors);
  void refuse_all(const std::string& code, const std::string& detail);  // every open execution
  // The record of `e` and its open ancestors holds for this root only.
  void bind_to_root(Execution& e, const std::string& reason);

  // Of `e` or an ancestor's tree.
  bool changed_by_command(const Execution& e, const TreePath& path, const struct stat& st) const;
  // What `e` looked up is not what is there: nobody is recorded, up to the one whose tree changed
  // it.
  void refuse_looks(Execution& e, const TreePath& path, const struct stat& st);
  // Somebody who is not traced changed `path`.
  void changed_outside(const TreePath& path);

  // Hashes what is pending and re-checks every fact; refuses where an input changed meanwhile.
  void settle(Execution& e);

  // True for a name that an open ancestor (or `e` itself) created exclusively.
  bool is_temporary_of_ancestor(const Execution& e, const TreePath& path) const;

  const store::Observer& observer() const { return observer_; }

 private:
  bool changes_own_output(Execution& e);
  static void drop_implied(Execution& e);
  ObservedFact* find_fact(Execution& e, PathEntry& entry, const store::FactKey& key);
  void add_fact(Execution& e, PathEntry& entry, ObservedFact fact);
  void hash_sample(Sample& sample);
  void restore_link_count(const Execution& e, const store::FactKey& key,
                          store::FactValue* value) const;
  static bool after_own_writing(const Execution& e, const PathEntry& entry, store::FactKey* key,
                                store::FactValue* value);
  void require_prior_state(Execution& e, PathEntry& entry, const Change& change);
  static bool below_own_directory(const Execution& e, const TreePath& path);
  static bool is_own(const Execution& e, const TreePath& path, uint8_t aspects);
  static bool below_own_file(const Execution& e, const TreePath& path);
  static void forget_looks(Execution& e, PathEntry& entry, const Change& change);
  void add_replaced(Execution& e, PathEntry& entry, const Change& change, bool blind);
  void note_conflicts(Execution& writer, const Change& change, uint8_t aspects);
  void note_read(Execution& reader, const TreePath& path);
  bool still_holds(Execution& e, ObservedFact& fact);

  const store::Observer& observer_;
  std::unique_ptr<Execution> session_;
  std::unordered_map<ExecutionId, std::unique_ptr<Execution>> open_;
  // Paths that open executions have changed, by the execution that did it itself.
  std::unordered_map<TreePath, std::vector<Execution*>, store::TreePathHash> writers_;
  ExecutionId next_id_ = 1;
  uint64_t sequence_ = 0;
};

uint8_t aspects_of(const Change& change);
// In an answer about what an execution has changed: the fields as they were before.
void restore_own_attributes(const PathEntry& entry, store::FactValue* value,
                            const store::FactKey& key);

}  // namespace pcache::tracer
