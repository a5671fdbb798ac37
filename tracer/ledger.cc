#include "tracer/ledger.h"

#include <fcntl.h>

#include <algorithm>
#include <cerrno>
#include <ctime>
#include <optional>

namespace pcache::tracer {
namespace {

using store::Fact;
using store::FactKey;
using store::FactKind;
using store::FactValue;

// Which own changes make an observation of `kind` an observation of something self-made.
uint8_t blocking_aspects(FactKind kind) {
  switch (kind) {
    case FactKind::kContent:
    case FactKind::kReplaced:
      return kExistence | kContents;
    case FactKind::kXattr:
    case FactKind::kAccess:
      return kExistence | kAttributes;
    case FactKind::kTerminal:
    case FactKind::kStream:
    case FactKind::kStdin:
    case FactKind::kAffinity:
    case FactKind::kEnvironment:
      return 0;
    default:
      return kExistence;
  }
}

constexpr uint32_t kPermissions = 07777;

// It was touched, or given a time that it did not have.
bool times_are_own(const PathEntry& entry) {
  if ((entry.changed & kTimes) == 0 || entry.before.err != 0) return false;
  const timespec& before = entry.before.st.st_mtim;
  return entry.touched ||
         (entry.mtime_ns && *entry.mtime_ns != before.tv_sec * 1'000'000'000LL + before.tv_nsec);
}

}  // namespace

// After own chmod, chown or utimens the rest is still an input: those fields are as they were
// before.
void restore_own_attributes(const PathEntry& entry, FactValue* value, const FactKey& key) {
  if (value->err != 0 || entry.before.err != 0) return;
  if ((entry.changed & kAttributes) != 0 && value->mode != 0 && key.kind != FactKind::kXattr) {
    value->mode = (value->mode & ~kPermissions) | (entry.before.st.st_mode & kPermissions);
    if (key.kind == FactKind::kIdentity || key.kind == FactKind::kContent) {
      value->uid = entry.before.st.st_uid;
      value->gid = entry.before.st.st_gid;
    }
  }
  if ((entry.changed & (kTimes | kAttributes)) != 0 && value->mtime_ns != 0)
    value->mtime_ns =
        entry.before.st.st_mtim.tv_sec * 1'000'000'000LL + entry.before.st.st_mtim.tv_nsec;
}

Ledger::Ledger(const store::Observer& observer)
    : observer_(observer), session_(std::make_unique<Execution>()) {
  session_->live = 1;
}

Execution& Ledger::open(Execution& parent, pid_t main_pid) {
  auto execution = std::make_unique<Execution>();
  execution->id = next_id_++;
  execution->parent = &parent;
  execution->main_pid = main_pid;
  Execution& e = *execution;
  open_.emplace(e.id, std::move(execution));
  return e;
}

void Ledger::forget(Execution& execution) {
  for (auto item = writers_.begin(); item != writers_.end();) {
    std::erase(item->second, &execution);
    item = item->second.empty() ? writers_.erase(item) : std::next(item);
  }
  open_.erase(execution.id);
}

ObservedFact* Ledger::find_fact(Execution& e, PathEntry& entry, const FactKey& key) {
  for (const uint32_t index : entry.facts) {
    ObservedFact& fact = e.facts[index];
    if (fact.removed || fact.key.kind != key.kind) continue;
    // One listing of a kind a directory; every other question is told apart by its names too.
    if (fact.key.param == key.param && key.kind == FactKind::kListing) return &fact;
    if (fact.key.param == key.param && fact.key.names == key.names) return &fact;
  }
  return nullptr;
}

void Ledger::add_fact(Execution& e, PathEntry& entry, ObservedFact fact) {
  entry.facts.push_back(static_cast<uint32_t>(e.facts.size()));
  e.facts.push_back(std::move(fact));
}

void Ledger::hash_sample(Sample& sample) {
  if (sample.hash || sample.failed) return;
  struct stat now {};
  store::Digest digest;
  if (observer_.stat(sample.path, &now) != 0 ||
      store::Stamp::of(now) != store::Stamp::of(sample.st) ||
      observer_.content_hash(sample.path, now, &digest) != 0) {
    sample.failed = true;
    return;
  }
  sample.hash = digest;
}

bool Ledger::below_own_directory(const Execution& e, const TreePath& path) {
  if (e.own_directories.empty()) return false;
  for (TreePath at = path; !at.text.empty() && at.text != "/";) {
    at = at.parent();
    if (e.own_directories.contains(at)) return true;
  }
  return false;
}

// An execution that can't be recorded needs no facts: only what its tree made is of matter to those
// above.
bool Ledger::is_own(const Execution& e, const TreePath& path, uint8_t aspects) {
  const auto entry = e.paths.find(path);
  return (entry != e.paths.end() && (entry->second.changed & aspects) != 0) ||
         below_own_directory(e, path);
}

// "out/x: Not a directory", because its own tree made a file of that name.
bool Ledger::below_own_file(const Execution& e, const TreePath& path) {
  for (TreePath at = path; !at.text.empty() && at.text != "/";) {
    at = at.parent();
    const auto entry = e.paths.find(at);
    if (entry != e.paths.end() && (entry->second.changed & kExistence) != 0) return true;
  }
  return false;
}

// What an own write leaves to be learned by a look: owner, mode and link count of before. Nothing,
// where creating the file would have given the same (Replaced says so).
bool Ledger::after_own_writing(const Execution& e, const PathEntry& entry, FactKey* key,
                               FactValue* value) {
  if (key->kind != FactKind::kIdentity && key->kind != FactKind::kKind) return true;
  if (key->kind == FactKind::kIdentity && value->err == 0 && times_are_own(entry)) {
    key->param &= ~(store::kWithMtime | store::kWithDirMtime);
    value->mtime_ns = 0;
  }
  if ((entry.changed & kContents) == 0) return true;
  for (const uint32_t index : entry.facts) {
    const ObservedFact& fact = e.facts[index];
    if (!fact.removed && fact.key.kind == FactKind::kReplaced && fact.value.text == "replaceable")
      return false;
  }
  if (key->kind == FactKind::kKind || value->err != 0 || !S_ISREG(value->mode)) return true;
  key->param |= store::kOwnContents;
  value->size = 0;
  value->mtime_ns = 0;
  return true;
}

// The facts of a hit know how many names there were when it looked, not how many before its
// ancestor's own links.
void Ledger::restore_link_count(const Execution& e, const FactKey& key, FactValue* value) const {
  if (key.kind != FactKind::kIdentity || e.relinked.empty() || value->err != 0) return;
  struct stat st {};
  if (!S_ISREG(value->mode) || observer_.stat(key.path, &st) != 0) return;
  const auto links = e.relinked.find({st.st_dev, st.st_ino});
  if (links == e.relinked.end()) return;
  value->nlink = links->second;
  if (value->nlink <= 1) value->text.clear();
}

void Ledger::observe(Execution& e, FactKey key, FactValue value, Asker asker) {
  note_read(e, key.path);
  for (Execution* a = &e; !a->is_session(); a = a->parent) {
    if (a->keeps_private(key.path)) return;
    if (!a->refusals.empty()) {
      if (is_own(*a, key.path, blocking_aspects(key.kind))) return;
      continue;
    }
    PathEntry& entry = a->paths[key.path];
    if ((entry.changed & blocking_aspects(key.kind)) != 0 || below_own_directory(*a, key.path))
      return;
    if (value.err == ENOTDIR && below_own_file(*a, key.path)) return;
    if (entry.changed == 0 && a->relinked.empty()) {  // the rule: nothing to be put right
      ObservedFact* known = find_fact(*a, entry, key);
      if (known == nullptr) {
        add_fact(*a, entry, {key, value, nullptr, asker, false});
      } else {
        if (known->asker == Asker::kOther || known->asker == asker) return;
        known->asker = Asker::kOther;
      }
      continue;
    }
    FactKey asked = key;
    FactValue own = value;
    restore_link_count(*a, key, &own);
    if (!after_own_writing(*a, entry, &asked, &own)) continue;
    if (ObservedFact* known = find_fact(*a, entry, asked)) {
      if (known->asker == Asker::kOther || known->asker == asker) return;  // nothing new, nor above
      known->asker = Asker::kOther;
      continue;
    }
    restore_own_attributes(entry, &own, asked);
    add_fact(*a, entry, {std::move(asked), std::move(own), nullptr, asker, false});
  }
}

void Ledger::observe_content(Execution& e, const TreePath& path, int err, const struct stat& st,
                             Asker asker) {
  const FactKey key{FactKind::kContent, path, 0, {}};
  FactValue value;
  value.err = err;
  if (err == 0) value = store::Observer::content_value(st, {});
  if (err != 0 || !S_ISREG(st.st_mode)) return observe(e, key, std::move(value), asker);

  note_read(e, path);
  std::shared_ptr<Sample> sample;
  for (Execution* a = &e; !a->is_session(); a = a->parent) {
    if (a->keeps_private(path)) return;
    if (!a->refusals.empty()) {
      if (is_own(*a, path, blocking_aspects(key.kind))) return;
      continue;
    }
    PathEntry& entry = a->paths[path];
    if ((entry.changed & blocking_aspects(key.kind)) != 0 || below_own_directory(*a, key.path))
      return;
    if (ObservedFact* known = find_fact(*a, entry, key)) {
      if (known->asker == Asker::kOther || known->asker == asker) return;
      known->asker = Asker::kOther;
      continue;
    }
    if (!sample) {
      sample = std::make_shared<Sample>(Sample{path, st, std::nullopt, false});
      // A later write could leave so young a stamp as it is.
      if (store::Stamp::of(st).young(store::realtime_ns())) hash_sample(*sample);
    }
    FactValue own = value;
    restore_own_attributes(entry, &own, key);
    add_fact(*a, entry, {key, std::move(own), sample, asker, false});
  }
}

void Ledger::list(Execution& e, const TreePath& dir, int err,
                  const std::vector<store::DirEntry>& entries,
                  const std::vector<std::string>& left_out, uint32_t param) {
  note_read(e, dir);
  for (Execution* a = &e; !a->is_session(); a = a->parent) {
    if (a->keeps_private(dir)) return;
    if (!a->refusals.empty()) {
      if (is_own(*a, dir, kExistence)) return;
      continue;
    }
    PathEntry& entry = a->paths[dir];
    if ((entry.changed & kExistence) != 0 || below_own_directory(*a, dir)) return;
    FactKey key{FactKind::kListing, dir, param, {}};
    if (find_fact(*a, entry, key) != nullptr) return;
    if (err != 0) {
      FactValue value;
      value.err = err;
      add_fact(*a, entry, {key, std::move(value), nullptr, Asker::kOther, false});
      continue;
    }
    // Less the names its own tree has made, with those it has removed.
    std::vector<store::DirEntry> seen = entries;
    std::set<std::string> omitted(left_out.begin(), left_out.end());
    if (const auto own = a->own_names.find(dir); own != a->own_names.end()) {
      for (const std::string& name : own->second) {
        const auto changed = a->paths.find(dir.child(name));
        if (changed == a->paths.end()) continue;
        const Before& before = changed->second.before;
        std::erase_if(seen, [&](const store::DirEntry& d) { return d.name == name; });
        if (before.err != 0)
          omitted.insert(name);
        else
          seen.push_back({store::entry_type(before.st.st_mode), name});
      }
    }
    key.names.assign(omitted.begin(), omitted.end());
    FactValue value = store::Observer::listing_value(seen, key.names, param);
    add_fact(*a, entry, {std::move(key), std::move(value), nullptr, Asker::kOther, false});
  }
}

void Ledger::observe_alone(Execution& e, FactKey key, FactValue value) {
  PathEntry& entry = e.paths[key.path];
  if (find_fact(e, entry, key) == nullptr)
    add_fact(e, entry, {std::move(key), std::move(value), nullptr, Asker::kOther, false});
}

void Ledger::forget_identity(Execution& e, const TreePath& path, Asker asker) {
  for (Execution* a = &e; !a->is_session(); a = a->parent) {
    const auto entry = a->paths.find(path);
    if (entry == a->paths.end()) continue;
    for (const uint32_t index : entry->second.facts) {
      ObservedFact& fact = a->facts[index];
      if (fact.asker == asker && fact.key.kind == FactKind::kIdentity) fact.removed = true;
    }
  }
}

void Ledger::relinked(Execution& e, const struct stat& st, uint64_t links_before) {
  for (Execution* a = &e; !a->is_session(); a = a->parent)
    a->relinked.try_emplace({st.st_dev, st.st_ino}, links_before);
}

void Ledger::observe_identity(Execution& e, const TreePath& path, uint32_t param,
                              const struct stat& st, Asker asker) {
  const FactKey key{FactKind::kIdentity, path, param, {}};
  bool plain = true;
  for (Execution* a = &e; !a->is_session(); a = a->parent)
    plain = plain && !a->relinked.contains({st.st_dev, st.st_ino});
  if (plain || !S_ISREG(st.st_mode))
    return observe(e, key, store::Observer::identity_value(st, param), asker);
  note_read(e, path);
  for (Execution* a = &e; !a->is_session(); a = a->parent) {
    if (a->keeps_private(path)) return;
    if (!a->refusals.empty()) {
      if (is_own(*a, path, blocking_aspects(key.kind))) return;
      continue;
    }
    PathEntry& entry = a->paths[path];
    if ((entry.changed & blocking_aspects(key.kind)) != 0 || below_own_directory(*a, path)) return;
    struct stat then = st;
    if (const auto links = a->relinked.find({st.st_dev, st.st_ino}); links != a->relinked.end())
      then.st_nlink = static_cast<nlink_t>(links->second);
    FactKey asked = key;
    FactValue value = store::Observer::identity_value(then, param);
    if (!after_own_writing(*a, entry, &asked, &value)) continue;
    if (find_fact(*a, entry, asked) != nullptr) continue;
    restore_own_attributes(entry, &value, asked);
    add_fact(*a, entry, {std::move(asked), std::move(value), nullptr, asker, false});
  }
}

const std::vector<const Execution*> Ledger::open_executions() const {
  std::vector<const Execution*> open;
  for (const auto& [id, execution] : open_) open.push_back(execution.get());
  return open;
}

std::vector<Execution*> Ledger::open_executions_to_change() {
  std::vector<Execution*> open;
  for (const auto& [id, execution] : open_) open.push_back(execution.get());
  return open;
}

void Ledger::side_fact(Execution& e, const Fact& fact) {
  for (Execution* a = &e; !a->is_session(); a = a->parent) {
    const auto entry = a->paths.find(fact.key.path);
    if (entry != a->paths.end() && (entry->second.changed & kExistence) != 0) return;
    a->side_facts.push_back(fact);
  }
}

void Ledger::observe_replaced(Execution& e, const FactKey& key, int err, const struct stat& st) {
  note_read(e, key.path);
  for (Execution* a = &e; !a->is_session(); a = a->parent) {
    if (a->keeps_private(key.path)) return;
    if (!a->refusals.empty()) {
      if (is_own(*a, key.path, kExistence | kContents)) return;
      continue;
    }
    PathEntry& entry = a->paths[key.path];
    if ((entry.changed & (kExistence | kContents)) != 0 || below_own_directory(*a, key.path))
      return;
    if (find_fact(*a, entry, key) != nullptr) return;
    add_fact(*a, entry,
             {key, observer_.replaced_value(key, err, st, a->weak.digest), nullptr, Asker::kOther,
              false});
    entry.replaced_fact = true;
  }
}

void Ledger::refuse(Execution& e, const std::string& code, const std::string& path,
                    const std::string& detail, bool ancestors) {
  for (Execution* a = &e; !a->is_session(); a = a->parent) {
    const bool known =
        std::any_of(a->refusals.begin(), a->refusals.end(),
                    [&](const store::Reason& r) { return r.code == code && r.path == path; });
    if (!known && a->refusals.size() < 32) a->refusals.push_back({code, path, detail});
    if (!ancestors) return;
  }
}

void Ledger::refuse_all(const std::string& code, const std::string& detail) {
  for (auto& [id, execution] : open_) refuse(*execution, code, "", detail, false);
}

void Ledger::changed_outside(const TreePath& path) {
  for (auto& [id, execution] : open_) {
    const auto entry = execution->paths.find(path);
    if (entry == execution->paths.end()) continue;
    if (entry->second.changed == 0 && entry->second.facts.empty()) continue;
    refuse(*execution, "input-changed", path.text,
           "another process changed it while the command ran", false);
  }
}

namespace {

bool changed(const Execution& e, const TreePath& path, const struct stat& st) {
  const auto entry = e.paths.find(path);
  return (entry != e.paths.end() && entry->second.changed != 0) ||
         e.changed_inodes.contains({st.st_dev, st.st_ino});
}

}  // namespace

bool Ledger::changed_by_command(const Execution& e, const TreePath& path,
                                const struct stat& st) const {
  for (const Execution* a = &e; !a->is_session(); a = a->parent)
    if (changed(*a, path, st)) return true;
  return false;
}

void Ledger::refuse_looks(Execution& e, const TreePath& path, const struct stat& st) {
  for (Execution* a = &e; !a->is_session(); a = a->parent) {
    if (changed(*a, path, st)) return;
    refuse(*a, "raced", path.text, "it was changed at the moment it was looked up", false);
  }
}

void Ledger::bind_to_root(Execution& e, const std::string& reason) {
  for (Execution* a = &e; !a->is_session(); a = a->parent)
    if (a->root_reason.empty()) a->root_reason = reason;
}

bool Ledger::still_holds(Execution& e, ObservedFact& fact) {
  const auto found = e.paths.find(fact.key.path);
  PathEntry& entry = found->second;
  if (fact.sample) {
    hash_sample(*fact.sample);
    if (fact.sample->failed) return false;
    fact.value.hash = *fact.sample->hash;
  }
  // Own changes since: the value was taken before them, and others' are conflicts.
  if (entry.changed != 0) return true;
  switch (fact.key.kind) {
    case FactKind::kTerminal:
    case FactKind::kStream:
    case FactKind::kStdin:
    case FactKind::kAffinity:
    case FactKind::kEnvironment:
    case FactKind::kReplaced:
      return true;
    case FactKind::kListing: {
      const auto own = e.own_names.find(fact.key.path);
      if (own == e.own_names.end()) break;
      std::vector<store::DirEntry> entries;
      FactValue now;
      std::vector<std::string> omitted(own->second.begin(), own->second.end());
      now.err = observer_.list(fact.key.path, &entries);
      if (now.err != fact.value.err) return false;
      now = store::Observer::listing_value(entries, omitted, fact.key.param);
      FactValue then = fact.value;
      std::erase_if(then.entries,
                    [&](const std::string& item) { return own->second.contains(item.substr(1)); });
      return now.entries == then.entries;
    }
    case FactKind::kIdentity:
      // Its own outputs changed this directory's mtime.
      if ((fact.key.param & store::kWithDirMtime) != 0 && S_ISDIR(fact.value.mode) &&
          e.own_names.contains(fact.key.path))
        return true;
      if (struct stat st{}; !e.relinked.empty() && observer_.stat(fact.key.path, &st) == 0 &&
                            e.relinked.contains({st.st_dev, st.st_ino})) {
        FactValue now = store::Observer::identity_value(st, fact.key.param);
        now.nlink = fact.value.nlink;
        now.text = fact.value.text;
        return now == fact.value;
      }
      break;
    default:
      break;
  }
  return observer_.observe(fact.key, e.weak.digest) == fact.value;
}

// `{ echo one; sh -c 'echo two > log'; } > log`: what went to the stream before is cut off, and a
// replay writes streams last.
bool Ledger::changes_own_output(Execution& e) {
  if (e.output_inodes.empty()) return false;
  for (const auto& [path, entry] : e.paths) {
    const struct stat& st = entry.before.st;
    if (entry.changed == 0 || entry.before.err != 0 ||
        !e.output_inodes.contains({st.st_dev, st.st_ino}))
      continue;
    refuse(e, "changes-own-output", path.text, "its output goes to a file it changes by name",
           false);
    return true;
  }
  return false;
}

// A compiler asks of each file it reads whether it is a link, and of each name that is not there in
// three ways: what another fact of the same path says as well is asked no more.
//   Content of a regular file    its kind; that it is no link
//   Kind, Identity of no link    that it is no link
//   one absence                  every other
void Ledger::drop_implied(Execution& e) {
  for (auto& [path, entry] : e.paths) {
    if (entry.facts.size() < 2) continue;
    std::optional<uint32_t> content_mode;
    bool no_link = false;
    for (const uint32_t index : entry.facts) {
      const ObservedFact& fact = e.facts[index];
      if (fact.removed || fact.value.err != 0) continue;
      const bool tells_kind = fact.key.kind == FactKind::kKind ||
                              fact.key.kind == FactKind::kIdentity ||
                              fact.key.kind == FactKind::kContent;
      no_link = no_link || (tells_kind && fact.value.mode != 0 && !S_ISLNK(fact.value.mode));
      if (fact.key.kind == FactKind::kContent && S_ISREG(fact.value.mode))
        content_mode = fact.value.mode;
    }
    bool absent = false;
    for (const uint32_t index : entry.facts) {
      ObservedFact& fact = e.facts[index];
      if (fact.removed) continue;
      switch (fact.key.kind) {
        case FactKind::kContent:
        case FactKind::kIdentity:
        case FactKind::kAccess:
          break;
        case FactKind::kKind:
          if (fact.value.err == 0) fact.removed = fact.value.mode == content_mode;
          break;
        case FactKind::kLink:
          if (fact.value.err == EINVAL) fact.removed = no_link;
          break;
        default:
          continue;
      }
      if (fact.value.err != ENOENT) continue;
      fact.removed = absent;
      absent = true;
    }
  }
}

void Ledger::settle(Execution& e) {
  const store::ObservationPass pass;
  if (changes_own_output(e)) return;
  drop_implied(e);
  for (ObservedFact& fact : e.facts) {
    if (fact.removed) continue;
    if (fact.sample && e.output_inodes.contains({fact.sample->st.st_dev, fact.sample->st.st_ino})) {
      refuse(e, "reads-own-output", fact.key.path.text, "its output goes to a file it reads",
             false);
      return;
    }
    if (still_holds(e, fact)) continue;
    refuse(e, "input-changed", fact.key.path.text,
           std::string("its ") + store::fact_kind_name(fact.key.kind) +
               " changed while the command ran",
           false);
    return;  // one is enough, and the rest would cost
  }
}

bool Ledger::is_temporary_of_ancestor(const Execution& e, const TreePath& path) const {
  for (const Execution* a = &e; !a->is_session(); a = a->parent) {
    const auto entry = a->paths.find(path);
    if (entry == a->paths.end() || !entry->second.exclusive) continue;
    struct stat st {};
    return observer_.stat(path, &st) == 0 && S_ISREG(st.st_mode);
  }
  return false;
}

}  // namespace pcache::tracer
