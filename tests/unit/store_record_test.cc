#include <gtest/gtest.h>
#include <sys/stat.h>

#include <cerrno>
#include <random>

#include "store/codec.h"
#include "store/record.h"

namespace pcache::store {
namespace {

Record full_record() {
  Record r;
  r.weak = {1, 2};
  r.strong = {3, 4};
  r.root = "/home/x/p";
  r.root_reason = "the argument -I/home/x/p names the root";
  r.argv = {"cc", "-c", "a\xff.c", ""};
  r.executable = "/usr/bin/gcc-12";
  r.cwd = {"src"};
  FactValue value;
  value.err = EACCES;
  value.mode = S_IFREG | 0644;
  value.uid = 1000;
  value.gid = 4294967295u;
  value.size = 1ull << 40;
  value.nlink = 2;
  value.mtime_ns = -5;
  value.hash = {5, 6};
  value.text = "target";
  value.entries = {"fa", "dsub"};
  r.facts = {{{FactKind::kIdentity, {"a\xff.c"}, kWithMtime, {}}, value},
             {{FactKind::kListing, {""}, 0, {"x", "y"}}, {}}};
  r.side_facts = {{{FactKind::kIdentity, {"/tmp/cc1.s"}}, {}}};
  Effect file;
  file.path = {"a.o"};
  file.mode = 0644;
  file.in_place = true;
  file.size = 10;
  file.blob = {7, 8};
  file.mtime_ns = 0;  // 1970 is a time, not "none"
  file.uid = 0;
  file.xattrs = {{"user.a", ""}, {"user.b", std::string("\0x", 2)}};
  file.removed_xattrs = {"user.c"};
  Effect meta;
  meta.kind = EffectKind::kMeta;
  meta.set_mode = true;
  meta.atime_ns = -1;
  meta.gid = 7;
  r.effects = {file, meta};
  r.streams = {{1, 5}, {2, 6}};
  r.stream_blob = {9, 9};
  r.stream_bytes = std::string("a\0b", 3);
  r.exit_status = 3;
  r.cpu_ns = 11;
  r.wall_ns = 12;
  r.created_ns = 13;
  r.executions = 14;
  return r;
}

TEST(Record, RoundTripKeepsEveryField) {
  const Record record = full_record();
  const std::optional<Record> parsed = parse_record(serialize_record(record));
  ASSERT_TRUE(parsed);
  EXPECT_EQ(*parsed, record);
}

TEST(Record, RoundTripOfAnEmptyOne) {
  EXPECT_EQ(parse_record(serialize_record(Record{})), Record{});
}

TEST(Record, ACutOneIsRefusedWhereverItIsCut) {
  const std::string bytes = serialize_record(full_record());
  for (size_t size = 0; size < bytes.size(); ++size) {
    EXPECT_FALSE(parse_record(bytes.substr(0, size))) << size;
  }
  EXPECT_FALSE(parse_record(bytes + "x"));
}

TEST(Record, AChangedBitIsNoticed) {
  const std::string bytes = serialize_record(full_record());
  for (size_t i = 0; i < bytes.size(); ++i) {
    std::string damaged = bytes;
    damaged[i] = static_cast<char>(damaged[i] ^ 1 << i % 8);
    EXPECT_FALSE(parse_record(damaged)) << i;
  }
}

TEST(Record, GarbageIsRefused) {
  std::mt19937 random(1);
  for (int i = 0; i < 1000; ++i) {
    std::string bytes(random() % 200, '\0');
    for (char& c : bytes) c = static_cast<char>(random());
    EXPECT_FALSE(parse_record(bytes));
    EXPECT_FALSE(parse_path_set(bytes));
    EXPECT_FALSE(parse_parts(bytes));
  }
}

// With a good checksum but a later format version in field 1.
TEST(Record, ANewerFormatIsRefused) {
  std::string bytes = serialize_record(Record{});
  ASSERT_EQ(bytes[8], 1 << 3);
  ASSERT_EQ(bytes[9], kFormatVersion);
  bytes[9] = kFormatVersion + 1;
  const uint64_t sum = XXH3_64bits(bytes.data() + 8, bytes.size() - 8);
  memcpy(bytes.data(), &sum, sizeof sum);
  EXPECT_FALSE(parse_record(bytes));
}

TEST(Record, AnUnknownKindIsRefused) {
  Record record;
  record.facts = {{{static_cast<FactKind>(77), {"a"}}, {}}};
  EXPECT_FALSE(parse_record(serialize_record(record)));
  record.facts.clear();
  record.effects.resize(1);
  record.effects[0].kind = static_cast<EffectKind>(77);
  EXPECT_FALSE(parse_record(serialize_record(record)));
}

TEST(Record, KeepsAtMost64KiBOfItsArguments) {
  Record record;
  record.argv.assign(100, std::string(1000, 'x'));
  const std::optional<Record> parsed = parse_record(serialize_record(record));
  ASSERT_TRUE(parsed);
  EXPECT_EQ(parsed->argv.size(), 65u);
}

TEST(PathSet, RoundTrip) {
  const PathSet keys = {{FactKind::kListing, {"src"}, 0, {"a.o"}},
                        {FactKind::kReplaced, {"/tmp/x"}, kReplacedBlind | 0644, {}}};
  EXPECT_EQ(parse_path_set(serialize_path_set(keys)), keys);
}

TEST(KeyParts, RoundTrip) {
  const Store::KeyParts parts = {{"argv", "cc -c a.c"}, {"env PATH", "/bin"}};
  EXPECT_EQ(parse_parts(serialize_parts(parts)), parts);
}

TEST(StampCode, RoundTrip) {
  const Stamp stamp{1, 2, 3, -4, 5};
  EXPECT_EQ(decode_stamp(encode_stamp(stamp)), stamp);
  EXPECT_FALSE(decode_stamp("short"));
}

}  // namespace
}  // namespace pcache::store
