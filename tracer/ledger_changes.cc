// What a command changes: what had to be there before, who else is concerned, and the state of its
// paths.
#include <ctime>

#include "tracer/ledger.h"

namespace pcache::tracer {

using store::FactKey;
using store::FactKind;
using store::FactValue;

namespace {

int64_t coarse_now_ns() {
  timespec now;
  ::clock_gettime(CLOCK_REALTIME_COARSE, &now);
  return now.tv_sec * 1'000'000'000LL + now.tv_nsec;
}

// Whether a change of a name in it is one that a listing shows.
bool concerns(const FactKey& listing, const Change& change) {
  if ((listing.param & store::kImportable) == 0) return true;
  const char type = change.directory         ? 'd'
                    : change.before.err == 0 ? store::entry_type(change.before.st.st_mode)
                                             : 'l';
  return store::is_importable({type, change.path.name()});
}

}  // namespace

uint8_t aspects_of(const Change& change) {
  switch (change.kind) {
    case ChangeKind::kCreateOrTruncate:
      return change.before.err == 0 ? kContents | kTimes
                                    : kExistence | kContents | kAttributes | kTimes;
    case ChangeKind::kTruncate:
    case ChangeKind::kWriteInPlace:
      return change.before.err == 0 ? kContents | kTimes
                                    : kExistence | kContents | kAttributes | kTimes;
    case ChangeKind::kAttributes:
      return kAttributes;
    case ChangeKind::kTimes:
      return kTimes;
    case ChangeKind::kReplayed:
      return change.replayed_aspects;
    default:
      return kExistence | kContents | kAttributes | kTimes;
  }
}
Before Ledger::before_change(Execution& e, const TreePath& path) {
  Before before;
  before.err = observer_.stat(path, &before.st);
  for (Execution* a = &e; !a->is_session(); a = a->parent) {
    const auto entry = a->paths.find(path);
    if (entry == a->paths.end()) continue;
    for (const uint32_t index : entry->second.facts)
      if (a->facts[index].sample) hash_sample(*a->facts[index].sample);
  }
  return before;
}

void Ledger::add_replaced(Execution& e, PathEntry& entry, const Change& change, bool blind) {
  if (entry.replaced_fact) return;
  forget_looks(e, entry, change);
  // Read, then replaced (sed -i): its content is a fact already, and says more.
  for (const uint32_t index : entry.facts)
    if (const ObservedFact& fact = e.facts[index];
        !fact.removed && fact.key.kind == FactKind::kContent && fact.value.err == 0) {
      entry.replaced_fact = true;
      return;
    }
  FactKey key{FactKind::kReplaced, change.path, change.create_mode & 07777, {}};
  if (blind) key.param |= store::kReplacedBlind;
  if (change.unlinks) key.param |= store::kReplacedUnlinked;
  const Before& before = entry.changed != 0 ? entry.before : change.before;
  FactValue value = observer_.replaced_value(key, before.err, before.st, e.weak.digest);
  add_fact(e, entry, {std::move(key), std::move(value), nullptr, Asker::kOther, false});
  entry.replaced_fact = true;
}

// What an image asked about a path only because it was about to replace it.
void Ledger::forget_looks(Execution& e, PathEntry& entry, const Change& change) {
  if (!change.blind && !change.looks_first) return;
  const Asker asker = change.blind ? Asker::kBlind : Asker::kReplacing;
  for (const uint32_t index : entry.facts) {
    ObservedFact& fact = e.facts[index];
    if (fact.asker == asker && fact.key.kind != FactKind::kContent) fact.removed = true;
  }
}

// Truth table: what a first change of a path says about what was there before.
//   CreateOrTruncate   blind when nothing about the path or its directory's listing is known yet
//   Truncate, MoveOnto the state that is replaced
//   CreateExclusive    it was absent
//   WriteInPlace       its content (or absence)
//   Remove, Attributes, Times, MoveAway   kind and mode (MoveAway: content, observed by the caller)
void Ledger::require_prior_state(Execution& e, PathEntry& entry, const Change& change) {
  if (!e.refusals.empty()) return;
  const auto observe_kind = [&] {
    FactKey key{FactKind::kKind, change.path, 0, {}};
    if (find_fact(e, entry, key) != nullptr) return;
    FactValue value;
    value.err = change.before.err;
    if (value.err == 0) value = store::Observer::kind_value(change.before.st);
    restore_own_attributes(entry, &value, key);
    add_fact(e, entry,
             {std::move(key), std::move(value), nullptr,
              change.blind         ? Asker::kBlind
              : change.looks_first ? Asker::kReplacing
                                   : Asker::kOther,
              false});
  };
  const bool again = (entry.changed & kExistence) != 0;  // it was removed or made by its own tree
  switch (change.kind) {
    case ChangeKind::kCreateOrTruncate: {
      if (again) {
        // Unlinked, then created: what was unlinked is what is replaced.
        if (entry.before.err == 0 && change.before.err != 0)
          add_replaced(e, entry, change, change.blind);
        return;
      }
      if ((entry.changed & kContents) != 0) return;
      const auto directory = e.paths.find(change.path.parent());
      const bool listed =
          directory != e.paths.end() &&
          std::any_of(directory->second.facts.begin(), directory->second.facts.end(),
                      [&](uint32_t i) { return e.facts[i].key.kind == FactKind::kListing; });
      const bool first = std::none_of(entry.facts.begin(), entry.facts.end(),
                                      [&](uint32_t i) { return !e.facts[i].removed; });
      add_replaced(e, entry, change, change.blind || (first && !listed && entry.changed == 0));
      return;
    }
    case ChangeKind::kTruncate:
    case ChangeKind::kMoveOnto:
      if (!again && (entry.changed & kContents) == 0)
        add_replaced(e, entry, change, change.blind);
      else if (again && entry.before.err == 0)
        add_replaced(e, entry, change, change.blind);
      return;
    case ChangeKind::kCreateExclusive:
      if (!again)
        observe_kind();
      else if (entry.before.err == 0)
        add_replaced(e, entry, change, change.blind);
      return;
    case ChangeKind::kRemove:
      if (!again) {
        if (change.looks_first) forget_looks(e, entry, change);
        observe_kind();
      }
      return;
    case ChangeKind::kAttributes:
    case ChangeKind::kTimes:
      if (!again) observe_kind();
      return;
    case ChangeKind::kWriteInPlace:  // the caller observed the content
    case ChangeKind::kMoveAway:
    case ChangeKind::kReplayed:
      return;
  }
}

namespace {

// Whether `e` has made what `entry` names now.
bool is_own_inode(const Execution& e, const PathEntry& entry) {
  if (entry.before.err == 0 && !entry.unlinked) return false;
  if (entry.link_source.empty()) return true;
  const auto source = e.paths.find(TreePath{entry.link_source});
  return source != e.paths.end() && (source->second.changed & kExistence) != 0;
}

}  // namespace

void Ledger::change(Execution& e, const Change& change) {
  const uint8_t aspects = aspects_of(change);
  note_conflicts(e, change, aspects);
  // Other names of the same inode see their link count change.
  const bool takes_name = change.kind == ChangeKind::kRemove ||
                          change.kind == ChangeKind::kMoveOnto ||
                          (change.kind == ChangeKind::kReplayed && (aspects & kExistence) != 0);
  if (takes_name && change.before.err == 0 && S_ISREG(change.before.st.st_mode) &&
      change.before.st.st_nlink > 1)
    relinked(e, change.before.st, change.before.st.st_nlink);
  std::optional<std::pair<uint64_t, uint64_t>> shared;  // with other names
  if (change.before.err == 0 && change.before.st.st_nlink > 1)
    shared = {change.before.st.st_dev, change.before.st.st_ino};
  if (struct stat st{};
      !change.link_source.empty() && observer_.stat(TreePath{change.link_source}, &st) == 0) {
    relinked(e, st, st.st_nlink > 1 ? st.st_nlink - 1 : 1);
    shared = {st.st_dev, st.st_ino};
  }
  const int64_t now = coarse_now_ns();
  const uint64_t sequence = ++sequence_;
  const bool removes = change.kind == ChangeKind::kRemove || change.kind == ChangeKind::kMoveAway ||
                       change.replayed_removal;
  bool hidden_source = false;
  for (Execution* a = &e; !a->is_session(); a = a->parent) {
    if (a->keeps_private(change.path)) return;
    // A link to what is private is a file like others to whoever must not know of it.
    hidden_source = hidden_source ||
                    (!change.link_source.empty() && a->keeps_private(TreePath{change.link_source}));
    PathEntry& entry = a->paths[change.path];
    if (!below_own_directory(*a, change.path)) require_prior_state(*a, entry, change);
    if (change.directory) a->own_directories.insert(change.path);
    if (shared) a->changed_inodes.insert(*shared);
    if (shared && change.link_source.empty() && !takes_name && !removes &&
        S_ISREG(change.before.st.st_mode) && !is_own_inode(*a, entry))
      entry.shared_inode = true;
    if (entry.changed == 0) entry.before = change.before;
    const bool first_creation =
        (entry.changed & kExistence) == 0 && change.before.err != 0 && !removes;
    if (first_creation && (change.kind == ChangeKind::kCreateExclusive)) entry.exclusive = true;
    if (removes || change.kind == ChangeKind::kMoveOnto || change.unlinks) entry.unlinked = true;
    if (entry.removed_ns == 0 && entry.before.err == 0 && (removes || entry.unlinked)) {
      entry.removed_ns = now;
      entry.removed_sequence = sequence;
    }
    if ((aspects & kExistence) != 0 && !removes) {
      entry.made_ns = now;
      entry.made_sequence = sequence;
    }
    entry.changed |= aspects;
    entry.order_ns = now;
    entry.sequence = sequence;
    if ((aspects & (kExistence | kContents | kTimes)) != 0) entry.timed_sequence = sequence;
    if ((aspects & kExistence) != 0) {
      a->own_names[change.path.parent()].insert(change.path.name());
      entry.atime_ns.reset();
      entry.mtime_ns.reset();
      entry.link_source = hidden_source ? "" : change.link_source;
    }
    if (change.kind == ChangeKind::kTimes ||
        (change.kind == ChangeKind::kReplayed && (aspects & kTimes) != 0)) {
      entry.atime_ns = change.atime_ns;
      entry.mtime_ns = change.mtime_ns;
      entry.touched = !change.mtime_ns;
    }
    entry.mode_set |= change.mode_set;
    entry.owner_set |= change.owner_set;
    if (!change.xattr.empty()) entry.xattrs.insert(change.xattr);
  }
}

void Ledger::note_read(Execution& reader, const TreePath& path) {
  const auto writers = writers_.find(path);
  if (writers == writers_.end()) return;
  for (Execution* writer : writers->second) {
    if (reader.within(*writer) || writer->within(reader)) continue;
    // The writer is still at it: nobody below the common ancestor saw a settled value.
    for (Execution* a = &reader; !a->is_session() && !writer->within(*a) && !a->keeps_private(path);
         a = a->parent)
      refuse(*a, "raced", path.text, "read while another command was changing it", false);
  }
}

void Ledger::note_conflicts(Execution& writer, const Change& change, uint8_t aspects) {
  if (writer.keeps_private(change.path)) return;
  std::vector<Execution*>& writers = writers_[change.path];
  if (std::find(writers.begin(), writers.end(), &writer) == writers.end())
    writers.push_back(&writer);
  const TreePath directory = change.path.parent();
  const bool renames = (aspects & kExistence) != 0;
  for (auto& [id, other] : open_) {
    Execution& a = *other;
    if (writer.within(a)) continue;
    // One that the writer started, and that is still at it: the writer's record is of both.
    const bool below = a.within(writer);
    if (const auto entry = a.paths.find(change.path); entry != a.paths.end()) {
      if ((entry->second.changed & aspects) != 0) {
        refuse(a, "raced", change.path.text, "another command changed it at the same time", false);
        for (Execution* w = &writer;
             !below && !w->is_session() && !a.within(*w) && !w->keeps_private(change.path);
             w = w->parent)
          refuse(*w, "raced", change.path.text, "another command changed it at the same time",
                 false);
      } else if (!entry->second.facts.empty()) {
        refuse(a, "raced", change.path.text, "another command changed it after it was read", false);
      }
    }
    if (!renames) continue;
    const auto listed = a.paths.find(directory);
    if (listed == a.paths.end()) continue;
    for (const uint32_t index : listed->second.facts)
      if (const ObservedFact& fact = a.facts[index];
          fact.key.kind == FactKind::kListing && !fact.removed && concerns(fact.key, change))
        refuse(a, "raced", directory.text,
               "another command changed " + change.path.name() + " in it after it was listed",
               false);
  }
}

}  // namespace pcache::tracer
