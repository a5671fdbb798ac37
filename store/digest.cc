#include "store/digest.h"

namespace pcache::store {

namespace {

void put_big_endian(std::string* out, uint64_t value) {
  for (int shift = 56; shift >= 0; shift -= 8) out->push_back(static_cast<char>(value >> shift));
}

uint64_t get_big_endian(const char* in) {
  uint64_t value = 0;
  for (int i = 0; i < 8; ++i) value = value << 8 | static_cast<unsigned char>(in[i]);
  return value;
}

int hex_value(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  return -1;
}

}  // namespace

std::string Digest::bytes() const {
  std::string out;
  out.reserve(16);
  put_big_endian(&out, high);
  put_big_endian(&out, low);
  return out;
}

std::string Digest::hex() const {
  static constexpr char kDigits[] = "0123456789abcdef";
  std::string out(32, '0');
  for (int i = 0; i < 16; ++i) {
    out[i] = kDigits[high >> (60 - 4 * i) & 15];
    out[16 + i] = kDigits[low >> (60 - 4 * i) & 15];
  }
  return out;
}

std::optional<Digest> Digest::from_bytes(std::string_view bytes) {
  if (bytes.size() != 16) return std::nullopt;
  return Digest{get_big_endian(bytes.data()), get_big_endian(bytes.data() + 8)};
}

std::optional<Digest> Digest::from_hex(std::string_view hex) {
  if (hex.size() != 32) return std::nullopt;
  Digest d;
  for (int i = 0; i < 32; ++i) {
    const int digit = hex_value(hex[i]);
    if (digit < 0) return std::nullopt;
    uint64_t& half = i < 16 ? d.high : d.low;
    half = half << 4 | static_cast<uint64_t>(digit);
  }
  return d;
}

Digest hash_bytes(std::string_view bytes) {
  const XXH128_hash_t h = XXH3_128bits(bytes.data(), bytes.size());
  return Digest{h.high64, h.low64};
}

}  // namespace pcache::store
