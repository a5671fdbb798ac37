// Codec: the stored form of path sets and key parts (records: record.h), version 1.
//
//   stored  = checksum message
//   checksum= XXH3-64 of the message, 8 bytes, little-endian
//   message = a protobuf of record.proto, whose field 1 is the format version
//
// The checksum makes a cut value an error: protobuf alone accepts one that ends between two fields.
// Pure; thread-safe. A damaged or newer value is nullopt.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "store/fact.h"
#include "store/store.h"

namespace pcache::store {

std::string serialize_path_set(const PathSet& keys);
std::optional<PathSet> parse_path_set(std::string_view bytes);

std::string serialize_parts(const Store::KeyParts& parts);
std::optional<Store::KeyParts> parse_parts(std::string_view bytes);

// A stamp is 40 bytes, its five numbers big-endian.
std::string encode_stamp(const Stamp& stamp);
std::optional<Stamp> decode_stamp(std::string_view bytes);

std::string encode_u64(uint64_t value);  // 8 bytes, big-endian
std::optional<uint64_t> decode_u64(std::string_view bytes);

}  // namespace pcache::store
