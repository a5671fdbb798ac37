#include "tracer/lookup.h"

#include <sched.h>

#include <algorithm>
#include <map>

#include "store/environment.h"

namespace pcache::tracer {
namespace {

using store::FactKey;
using store::FactKind;
using store::FactValue;
using store::Reason;

constexpr size_t kNearest = 8;  // records compared to explain a miss

// Values now, each asked once.
class Now {
 public:
  Now(const Execution& e, const Process& process, const store::Observer& observer)
      : e_(e), process_(process), observer_(observer) {}

  const FactValue& operator()(const FactKey& key) {
    const auto [at, added] = values_.try_emplace(key);
    if (added) at->second = ask(key);
    return at->second;
  }

 private:
  FactValue ask(const FactKey& key) const {
    FactValue value;
    switch (key.kind) {
      case FactKind::kTerminal:
      case FactKind::kStream: {
        const auto tag = process_.tags.find(static_cast<int>(key.param));
        return tag != process_.tags.end() ? stream_value(key.kind, *tag->second) : value;
      }
      case FactKind::kStdin: {
        const auto tag = process_.tags.find(0);
        if (tag != process_.tags.end() && classify(tag->second->link) == FdKind::kNull) {
          value.text = "null";
          return value;
        }
        const UniqueFd file = duplicate_fd(process_.pid, 0);
        struct stat st {};
        value.err = EBADF;
        if (!file || ::fstat(file.get(), &st) != 0 || !S_ISREG(st.st_mode)) return value;
        const Result<store::Digest> hash = observer_.store().hash_file(file.get(), st);
        if (!hash) return value;
        value.err = 0;
        value.hash = *hash;
        value.size = static_cast<uint64_t>(e_.stdin_use.offset_at_exec);
        return value;
      }
      case FactKind::kEnvironment:
        return store::environment_value(e_.image, key);
      case FactKind::kAffinity: {
        cpu_set_t set;
        CPU_ZERO(&set);
        if (::sched_getaffinity(process_.pid, sizeof set, &set) != 0)
          value.err = errno;
        else
          value.size = static_cast<uint64_t>(CPU_COUNT(&set));
        return value;
      }
      default:
        return observer_.observe(key, e_.weak.digest);
    }
  }

  const Execution& e_;
  const Process& process_;
  const store::Observer& observer_;
  std::unordered_map<FactKey, FactValue, store::FactKeyHash> values_;
};

bool is_hash(const std::string& part) { return part.starts_with("hash ") || part.size() == 32; }

// Long and secret parts of a key are known by their hashes only.
std::string shown(const std::string& part) {
  if (part.starts_with('=')) return shown(part.substr(1));
  return is_hash(part) ? "" : ": \"" + part + "\"";
}

std::string change_text(const std::string& before, const std::string& now) {
  if (is_hash(before) || is_hash(now)) return " changed";
  return " was \"" + before + "\", is \"" + now + "\" now";
}

std::vector<Reason> why_no_candidate(const Execution& e, store::Store& store) {
  const std::optional<store::Store::KeyParts> before = store.parts(e.weak.command);
  if (!before) return {{"no-record", "", "this command was not recorded before"}};
  const std::map<std::string, std::string> old(before->begin(), before->end());
  const std::map<std::string, std::string> now(e.weak.parts.begin(), e.weak.parts.end());
  std::vector<Reason> reasons;
  for (const auto& [name, value] : now) {
    const auto known = old.find(name);
    if (known == old.end())
      reasons.push_back({"key-changed", "", name + " was added" + shown(value)});
    else if (known->second != value)
      reasons.push_back({"key-changed", "", name + change_text(known->second, value)});
  }
  for (const auto& [name, value] : old)
    if (!now.contains(name)) reasons.push_back({"key-changed", "", name + " was removed"});
  if (reasons.empty()) reasons.push_back({"no-record", "", "its records are gone"});
  return reasons;
}

}  // namespace

LookupResult look_up(const Execution& e, const Process& process, const store::Observer& observer,
                     bool failures) {
  store::Store& store = observer.store();
  LookupResult result;
  const Result<std::vector<store::Candidate>> candidates = store.candidates(e.weak.digest);
  if (!candidates) {
    result.reasons.push_back({"store-failed", "", candidates.error().to_string()});
    return result;
  }
  const store::ObservationPass pass;
  Now now(e, process, observer);
  std::vector<store::Digest> tried;
  for (const store::Candidate& candidate : *candidates) {
    if (std::find(tried.begin(), tried.end(), candidate.path_set) != tried.end()) continue;
    tried.push_back(candidate.path_set);
    const auto keys = store.path_set(candidate.path_set);
    if (!keys) continue;
    std::vector<FactValue> values;
    values.reserve((*keys)->size());
    for (const FactKey& key : **keys) values.push_back(now(key));
    store::name_inodes(**keys, &values);
    for (const std::string& root : {std::string(), observer.tree().root()}) {
      const store::Digest strong =
          store::strong_key(e.weak.digest, candidate.path_set, values, root);
      const auto record = store.record(strong);
      if (!record) continue;
      // The key says it; the comparison proves it, and covers the side facts.
      if (!store::match(**record, [&](const FactKey& key) { return now(key); }).hit) continue;
      if ((*record)->exit_status != 0 && !failures) {
        result.reasons = {{"failed", "", "it failed, and failures are not cached"}};
        return result;
      }
      result.record = *record;
      return result;
    }
  }
  if (candidates->empty()) {
    result.reasons = why_no_candidate(e, store);
    return result;
  }
  for (size_t i = 0; i < std::min(kNearest, candidates->size()); ++i) {
    const auto record = store.record((*candidates)[i].strong);
    if (!record) continue;
    store::Verdict verdict = store::match(**record, [&](const FactKey& key) { return now(key); });
    if (!(*record)->root.empty() && (*record)->root != observer.tree().root())
      verdict.reasons.push_back({"other-root", (*record)->root, (*record)->root_reason});
    if (verdict.reasons.empty()) continue;
    if (!result.reasons.empty() && verdict.reasons.size() >= result.reasons.size()) continue;
    result.reasons = std::move(verdict.reasons);
    result.nearest = (*candidates)[i].strong;
  }
  if (result.reasons.empty()) result.reasons.push_back({"no-record", "", "its records are gone"});
  return result;
}

}  // namespace pcache::tracer
