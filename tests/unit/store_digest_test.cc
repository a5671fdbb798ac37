#include <gtest/gtest.h>

#include "store/digest.h"

namespace pcache::store {
namespace {

TEST(Digest, BytesAndHexGoBothWays) {
  const Digest d{0x0123456789abcdef, 0xfedcba9876543210};
  EXPECT_EQ(d.hex(), "0123456789abcdeffedcba9876543210");
  EXPECT_EQ(Digest::from_hex(d.hex()), d);
  EXPECT_EQ(d.bytes().size(), 16u);
  EXPECT_EQ(d.bytes()[0], '\x01');
  EXPECT_EQ(Digest::from_bytes(d.bytes()), d);
}

TEST(Digest, RefusesWhatIsNone) {
  EXPECT_FALSE(Digest::from_hex("0123"));
  EXPECT_FALSE(Digest::from_hex("0123456789ABCDEFfedcba9876543210"));
  EXPECT_FALSE(Digest::from_hex(std::string(32, 'g')));
  EXPECT_FALSE(Digest::from_bytes("short"));
}

TEST(Digest, BytesSortAsNumbers) {
  EXPECT_LT((Digest{1, 0xff}.bytes()), (Digest{2, 0}.bytes()));
  EXPECT_LT((Digest{1, 1}.bytes()), (Digest{1, 0x100}.bytes()));
}

TEST(Hasher, FieldsDoNotRunTogether) {
  EXPECT_NE(Hasher().add("a").add("bc").finish(), Hasher().add("ab").add("c").finish());
  EXPECT_NE(Hasher().add("").finish(), Hasher().finish());
}

TEST(Hasher, RawEqualsTheHashOfTheWhole) {
  EXPECT_EQ(Hasher().raw("ab", 2).raw("c", 1).finish(), hash_bytes("abc"));
}

}  // namespace
}  // namespace pcache::store
