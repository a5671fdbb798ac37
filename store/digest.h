// Digest: the 128-bit XXH3 hash that names blobs, path sets and keys (trust domain: one user).
#pragma once

#ifndef XXH_STATIC_LINKING_ONLY
#define XXH_STATIC_LINKING_ONLY  // for the size of XXH3_state_t
#endif
#include <xxhash.h>

#include <compare>
#include <cstdint>
#include <cstring>
#include <optional>
#include <string>
#include <string_view>

namespace pcache::store {

struct Digest {
  uint64_t high = 0;
  uint64_t low = 0;

  auto operator<=>(const Digest&) const = default;
  bool empty() const { return high == 0 && low == 0; }
  std::string hex() const;    // 32 lower-case digits
  std::string bytes() const;  // 16 bytes, big-endian: RocksDB keys sort by them
  static std::optional<Digest> from_bytes(std::string_view bytes);
  static std::optional<Digest> from_hex(std::string_view hex);
};

struct DigestHash {
  size_t operator()(const Digest& d) const { return d.low; }
};

// Streaming hasher. Every field is length-prefixed by add(), so ("a","bc") and ("ab","c") differ.
class Hasher {
 public:
  Hasher() { XXH3_128bits_reset(&state_); }
  Hasher& add(std::string_view field) {
    add(static_cast<uint64_t>(field.size()));
    return raw(field.data(), field.size());
  }
  Hasher& add(uint64_t number) { return raw(&number, sizeof number); }
  Hasher& add(const Digest& d) { return add(d.high).add(d.low); }
  Hasher& raw(const void* data, size_t size) {
    XXH3_128bits_update(&state_, data, size);
    return *this;
  }
  Digest finish() const {
    const XXH128_hash_t h = XXH3_128bits_digest(&state_);
    return Digest{h.high64, h.low64};
  }

 private:
  XXH3_state_t state_;
};

Digest hash_bytes(std::string_view bytes);  // unprefixed: equals the hash of a file's contents

}  // namespace pcache::store
