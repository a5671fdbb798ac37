#include "store/codec.h"

#include <xxhash.h>

#include "record.pb.h"
#include "store/record.h"

namespace pcache::store {

namespace {

// argv beyond this is not kept (it is in the weak key by its hash).
constexpr size_t kArgvBytes = 64 * 1024;

std::string seal(const google::protobuf::MessageLite& message) {
  std::string out(8, '\0');
  message.AppendToString(&out);
  const uint64_t sum = XXH3_64bits(out.data() + 8, out.size() - 8);
  memcpy(out.data(), &sum, sizeof sum);
  return out;
}

bool unseal(std::string_view bytes, google::protobuf::MessageLite* message) {
  if (bytes.size() < 8) return false;
  uint64_t sum;
  memcpy(&sum, bytes.data(), sizeof sum);
  if (sum != XXH3_64bits(bytes.data() + 8, bytes.size() - 8)) return false;
  return message->ParseFromArray(bytes.data() + 8, static_cast<int>(bytes.size() - 8));
}

void set_digest(const Digest& d, std::string* out) {
  if (!d.empty()) *out = d.bytes();
}

bool get_digest(const std::string& bytes, Digest* out) {
  if (bytes.empty()) return true;
  const std::optional<Digest> d = Digest::from_bytes(bytes);
  if (d) *out = *d;
  return d.has_value();
}

void encode_key(const FactKey& key, pb::FactKey* out) {
  out->set_kind(static_cast<uint32_t>(key.kind));
  out->set_path(key.path.text);
  out->set_param(key.param);
  for (const std::string& name : key.names) out->add_names(name);
}

bool decode_key(const pb::FactKey& in, FactKey* key) {
  if (in.kind() < static_cast<uint32_t>(FactKind::kContent) ||
      in.kind() > static_cast<uint32_t>(FactKind::kStream)) {
    return false;
  }
  key->kind = static_cast<FactKind>(in.kind());
  key->path.text = in.path();
  key->param = in.param();
  key->names.assign(in.names().begin(), in.names().end());
  return true;
}

void encode_fact(const Fact& fact, pb::Fact* out) {
  encode_key(fact.key, out->mutable_key());
  const FactValue& v = fact.value;
  pb::FactValue* value = out->mutable_value();
  value->set_err(v.err);
  value->set_mode(v.mode);
  value->set_uid(v.uid);
  value->set_gid(v.gid);
  value->set_size(v.size);
  value->set_nlink(v.nlink);
  value->set_mtime_ns(v.mtime_ns);
  set_digest(v.hash, value->mutable_hash());
  value->set_text(v.text);
  for (const std::string& entry : v.entries) value->add_entries(entry);
}

bool decode_fact(const pb::Fact& in, Fact* fact) {
  if (!decode_key(in.key(), &fact->key)) return false;
  FactValue& v = fact->value;
  const pb::FactValue& value = in.value();
  v.err = value.err();
  v.mode = value.mode();
  v.uid = value.uid();
  v.gid = value.gid();
  v.size = value.size();
  v.nlink = value.nlink();
  v.mtime_ns = value.mtime_ns();
  v.text = value.text();
  v.entries.assign(value.entries().begin(), value.entries().end());
  return get_digest(value.hash(), &v.hash);
}

void encode_effect(const Effect& effect, pb::Effect* out) {
  out->set_kind(static_cast<uint32_t>(effect.kind));
  out->set_path(effect.path.text);
  out->set_mode(effect.mode);
  out->set_set_mode(effect.set_mode);
  out->set_in_place(effect.in_place);
  out->set_size(effect.size);
  set_digest(effect.blob, out->mutable_blob());
  out->set_text(effect.text);
  if (effect.atime_ns) out->set_atime_ns(*effect.atime_ns);
  if (effect.mtime_ns) out->set_mtime_ns(*effect.mtime_ns);
  if (effect.uid) out->set_uid(*effect.uid);
  if (effect.gid) out->set_gid(*effect.gid);
  for (const auto& [name, value] : effect.xattrs) {
    pb::Xattr* xattr = out->add_xattrs();
    xattr->set_name(name);
    xattr->set_value(value);
  }
  for (const std::string& name : effect.removed_xattrs) out->add_removed_xattrs(name);
}

bool decode_effect(const pb::Effect& in, Effect* effect) {
  if (in.kind() < static_cast<uint32_t>(EffectKind::kFile) ||
      in.kind() > static_cast<uint32_t>(EffectKind::kFifo)) {
    return false;
  }
  effect->kind = static_cast<EffectKind>(in.kind());
  effect->path.text = in.path();
  effect->mode = in.mode();
  effect->set_mode = in.set_mode();
  effect->in_place = in.in_place();
  effect->size = in.size();
  effect->text = in.text();
  if (in.has_atime_ns()) effect->atime_ns = in.atime_ns();
  if (in.has_mtime_ns()) effect->mtime_ns = in.mtime_ns();
  if (in.has_uid()) effect->uid = in.uid();
  if (in.has_gid()) effect->gid = in.gid();
  for (const pb::Xattr& xattr : in.xattrs())
    effect->xattrs.emplace_back(xattr.name(), xattr.value());
  effect->removed_xattrs.assign(in.removed_xattrs().begin(), in.removed_xattrs().end());
  return get_digest(in.blob(), &effect->blob);
}

template <class Repeated, class Out, class Decode>
bool decode_all(const Repeated& in, std::vector<Out>* out, Decode decode) {
  out->resize(static_cast<size_t>(in.size()));
  for (int i = 0; i < in.size(); ++i) {
    if (!decode(in.Get(i), &(*out)[static_cast<size_t>(i)])) return false;
  }
  return true;
}

}  // namespace

std::string serialize_record(const Record& record) {
  pb::Record out;
  out.set_format_version(kFormatVersion);
  set_digest(record.weak, out.mutable_weak());
  set_digest(record.strong, out.mutable_strong());
  out.set_root(record.root);
  out.set_root_reason(record.root_reason);
  size_t argv_bytes = 0;
  for (const std::string& arg : record.argv) {
    argv_bytes += arg.size() + 1;
    if (argv_bytes > kArgvBytes) break;
    out.add_argv(arg);
  }
  out.set_executable(record.executable);
  out.set_cwd(record.cwd.text);
  for (const Fact& fact : record.facts) encode_fact(fact, out.add_facts());
  for (const Fact& fact : record.side_facts) encode_fact(fact, out.add_side_facts());
  for (const Effect& effect : record.effects) encode_effect(effect, out.add_effects());
  for (const StreamSegment& segment : record.streams) {
    pb::StreamSegment* s = out.add_streams();
    s->set_fd(segment.fd);
    s->set_size(segment.size);
  }
  set_digest(record.stream_blob, out.mutable_stream_blob());
  out.set_stream_bytes(record.stream_bytes);
  out.set_exit_status(record.exit_status);
  out.set_cpu_ns(record.cpu_ns);
  out.set_wall_ns(record.wall_ns);
  out.set_created_ns(record.created_ns);
  out.set_executions(record.executions);
  return seal(out);
}

std::optional<Record> parse_record(const std::string& bytes) {
  pb::Record in;
  if (!unseal(bytes, &in) || in.format_version() != kFormatVersion) return std::nullopt;
  Record record;
  if (!get_digest(in.weak(), &record.weak) || !get_digest(in.strong(), &record.strong) ||
      !get_digest(in.stream_blob(), &record.stream_blob) ||
      !decode_all(in.facts(), &record.facts, decode_fact) ||
      !decode_all(in.side_facts(), &record.side_facts, decode_fact) ||
      !decode_all(in.effects(), &record.effects, decode_effect)) {
    return std::nullopt;
  }
  record.root = in.root();
  record.root_reason = in.root_reason();
  record.argv.assign(in.argv().begin(), in.argv().end());
  record.executable = in.executable();
  record.cwd.text = in.cwd();
  for (const pb::StreamSegment& s : in.streams()) record.streams.push_back({s.fd(), s.size()});
  record.stream_bytes = in.stream_bytes();
  record.exit_status = in.exit_status();
  record.cpu_ns = in.cpu_ns();
  record.wall_ns = in.wall_ns();
  record.created_ns = in.created_ns();
  record.executions = in.executions();
  return record;
}

std::string serialize_path_set(const PathSet& keys) {
  pb::PathSet out;
  out.set_format_version(kFormatVersion);
  for (const FactKey& key : keys) encode_key(key, out.add_keys());
  return seal(out);
}

std::optional<PathSet> parse_path_set(std::string_view bytes) {
  pb::PathSet in;
  if (!unseal(bytes, &in) || in.format_version() != kFormatVersion) return std::nullopt;
  PathSet keys;
  if (!decode_all(in.keys(), &keys, decode_key)) return std::nullopt;
  return keys;
}

std::string serialize_parts(const Store::KeyParts& parts) {
  pb::KeyParts out;
  out.set_format_version(kFormatVersion);
  for (const auto& [name, value] : parts) {
    pb::Xattr* part = out.add_parts();
    part->set_name(name);
    part->set_value(value);
  }
  return seal(out);
}

std::optional<Store::KeyParts> parse_parts(std::string_view bytes) {
  pb::KeyParts in;
  if (!unseal(bytes, &in) || in.format_version() != kFormatVersion) return std::nullopt;
  Store::KeyParts parts;
  for (const pb::Xattr& part : in.parts()) parts.emplace_back(part.name(), part.value());
  return parts;
}

std::string encode_u64(uint64_t value) {
  std::string out;
  for (int shift = 56; shift >= 0; shift -= 8) out.push_back(static_cast<char>(value >> shift));
  return out;
}

std::optional<uint64_t> decode_u64(std::string_view bytes) {
  if (bytes.size() != 8) return std::nullopt;
  uint64_t value = 0;
  for (const char c : bytes) value = value << 8 | static_cast<unsigned char>(c);
  return value;
}

std::string encode_stamp(const Stamp& stamp) {
  std::string out;
  out.reserve(40);
  for (const uint64_t number :
       {stamp.dev, stamp.ino, stamp.size, static_cast<uint64_t>(stamp.mtime_ns),
        static_cast<uint64_t>(stamp.ctime_ns)}) {
    out += encode_u64(number);
  }
  return out;
}

std::optional<Stamp> decode_stamp(std::string_view bytes) {
  if (bytes.size() != 40) return std::nullopt;
  uint64_t n[5];
  for (size_t i = 0; i < 5; ++i) n[i] = *decode_u64(bytes.substr(8 * i, 8));
  return Stamp{n[0], n[1], n[2], static_cast<int64_t>(n[3]), static_cast<int64_t>(n[4])};
}

}  // namespace pcache::store
