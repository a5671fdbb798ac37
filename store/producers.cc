// Who left which path: what `why` asks.
//
// Two kinds of entries in one column family: "p" root NUL path says who left a path last, in one
// checkout, by running or by a hit; "m" path NUL D(contents) names the innermost command that ever
// left these contents there, in any. Of commands inside each other the inner one ends first, and
// what it notes while the outer one runs stays. An inner one that hit put no record then, but it
// noted who left the path: a make that runs again does not take over what its compilers had made.
#include "store/codec.h"
#include "store/store_impl.h"

namespace pcache::store {
namespace {

constexpr size_t kMakerBytes = 24, kProducerBytes = 25;

std::string producer_key(const std::string& root, const std::string& path) {
  const bool anchored = path.empty() || path[0] != '/';
  return "p" + (anchored ? root : std::string()) + std::string(1, '\0') + path;
}

std::string maker_key(const std::string& path, const Digest& contents) {
  return "m" + path + std::string(1, '\0') + contents.bytes();
}

int64_t noted_ns(std::string_view entry) {
  return static_cast<int64_t>(decode_u64(entry.substr(16, 8)).value_or(0));
}

std::string encode(const Digest& strong, int64_t when_ns) {
  return strong.bytes() + encode_u64(static_cast<uint64_t>(when_ns));
}

}  // namespace

void StoreImpl::note_output(const std::string& root, const std::string& path, const Digest& strong,
                            bool hit, int64_t began_ns) {
  std::string key = producer_key(root, path);
  const std::optional<std::string> known = read_behind(Column::kOutput, key);
  if (known && known->size() == kProducerBytes && noted_ns(*known) >= began_ns) {
    const auto inner = Digest::from_bytes(std::string_view(*known).substr(0, 16));
    if (!hit && inner && *inner != strong) keep_maker(path, *inner, strong);
    return;
  }
  write_later(Column::kOutput, std::move(key), encode(strong, realtime_ns()) + (hit ? '\1' : '\0'));
}

// What `inner` left at `path` is noted as made by `outer`, around it: it is made by `inner`.
void StoreImpl::keep_maker(const std::string& path, const Digest& inner, const Digest& outer) {
  const Result<std::shared_ptr<const Record>> left = record(inner);
  if (!left) return;
  for (const Effect& effect : (*left)->effects) {
    if (effect.path.text != path || effect.kind != EffectKind::kFile || effect.blob.empty())
      continue;
    if (maker(path, effect.blob) == outer)
      write_later(Column::kOutput, maker_key(path, effect.blob), encode(inner, realtime_ns()));
  }
}

std::optional<Producer> StoreImpl::producer(const std::string& root, const std::string& path) {
  const std::optional<std::string> entry = read_behind(Column::kOutput, producer_key(root, path));
  if (!entry || entry->size() != kProducerBytes) return std::nullopt;
  const std::optional<Digest> strong = Digest::from_bytes(std::string_view(*entry).substr(0, 16));
  if (!strong) return std::nullopt;
  return Producer{*strong, noted_ns(*entry), entry->back() != '\0'};
}

std::optional<Digest> StoreImpl::maker(const std::string& path, const Digest& contents) {
  const std::optional<std::string> entry = read_behind(Column::kOutput, maker_key(path, contents));
  if (!entry || entry->size() != kMakerBytes) return std::nullopt;
  return Digest::from_bytes(std::string_view(*entry).substr(0, 16));
}

void StoreImpl::add_makers(const Record& record, Batch* batch) {
  const int64_t began_ns = record.created_ns - static_cast<int64_t>(record.wall_ns);
  for (const Effect& effect : record.effects) {
    if (effect.kind != EffectKind::kFile || effect.blob.empty()) continue;
    std::string key = maker_key(effect.path.text, effect.blob);
    const std::optional<std::string> known = read_behind(Column::kOutput, key);
    if (known && known->size() == kMakerBytes && noted_ns(*known) >= began_ns) continue;
    {
      const std::lock_guard lock(behind_mutex_);
      behind_.erase({Column::kOutput, key});
    }
    batch->put(Column::kOutput, std::move(key), encode(record.strong, record.created_ns));
  }
}

Result<void> StoreImpl::drop_producers(const std::unordered_set<Digest, DigestHash>& gone,
                                       Batch* batch) {
  return db_->each(Column::kOutput, [&](std::string_view key, std::string_view entry) {
    const std::optional<Digest> strong =
        entry.size() < 16 ? std::nullopt : Digest::from_bytes(entry.substr(0, 16));
    if (!strong || gone.contains(*strong)) batch->erase(Column::kOutput, std::string(key));
    return true;
  });
}

}  // namespace pcache::store
