#include "store/fact.h"

#include <unordered_map>

namespace pcache::store {

void FactKey::hash_into(Hasher& h) const {
  h.add(static_cast<uint64_t>(kind)).add(path.text).add(static_cast<uint64_t>(param));
  h.add(static_cast<uint64_t>(names.size()));
  for (const std::string& name : names) h.add(name);
}

size_t FactKeyHash::operator()(const FactKey& k) const {
  // The names seldom tell keys apart, so that they are left to operator==.
  const uint64_t seed = static_cast<uint64_t>(k.kind) << 32 | k.param;
  return XXH3_64bits_withSeed(k.path.text.data(), k.path.text.size(), seed);
}

void FactValue::hash_into(Hasher& h) const {
  h.add(static_cast<uint64_t>(err)).add(static_cast<uint64_t>(mode));
  h.add(static_cast<uint64_t>(uid)).add(static_cast<uint64_t>(gid));
  h.add(size).add(nlink).add(static_cast<uint64_t>(mtime_ns)).add(hash).add(text);
  h.add(static_cast<uint64_t>(entries.size()));
  for (const std::string& entry : entries) h.add(entry);
}

Digest path_set_digest(const PathSet& keys) {
  Hasher h;
  h.add("path set").add(static_cast<uint64_t>(keys.size()));
  for (const FactKey& key : keys) key.hash_into(h);
  return h.finish();
}

Digest strong_key(const Digest& weak, const Digest& path_set, const std::vector<FactValue>& values,
                  const std::string& root) {
  Hasher h;
  h.add("strong key").add(weak).add(path_set).add(root);
  h.add(static_cast<uint64_t>(values.size()));
  for (const FactValue& value : values) value.hash_into(h);
  return h.finish();
}

namespace {

// By the inode's number: the first path that leads to it.
using FirstNames = std::unordered_map<std::string, std::string>;

void name_inode(const FactKey& key, FactValue* value, FirstNames* names) {
  if (key.kind != FactKind::kIdentity || value->text.empty()) return;
  value->text = names->try_emplace(value->text, key.path.text).first->second;
}

}  // namespace

void name_inodes(const PathSet& keys, std::vector<FactValue>* values) {
  FirstNames names;
  for (size_t i = 0; i < keys.size(); ++i) name_inode(keys[i], &(*values)[i], &names);
}

void name_inodes(std::vector<Fact>* facts) {
  FirstNames names;
  for (Fact& fact : *facts) name_inode(fact.key, &fact.value, &names);
}

const char* fact_kind_name(FactKind kind) {
  switch (kind) {
    case FactKind::kContent:
      return "content";
    case FactKind::kIdentity:
      return "identity";
    case FactKind::kKind:
      return "kind";
    case FactKind::kAccess:
      return "access";
    case FactKind::kLink:
      return "link";
    case FactKind::kListing:
      return "listing";
    case FactKind::kReplaced:
      return "replaced";
    case FactKind::kXattr:
      return "xattr";
    case FactKind::kStatfs:
      return "statfs";
    case FactKind::kTerminal:
      return "terminal";
    case FactKind::kStdin:
      return "stdin";
    case FactKind::kAffinity:
      return "affinity";
    case FactKind::kEnvironment:
      return "environment";
    case FactKind::kStream:
      return "stream";
  }
  return "unknown";
}

}  // namespace pcache::store
