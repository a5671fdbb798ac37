#include <gtest/gtest.h>

#include <cerrno>
#include <functional>
#include <set>

#include "store/fact.h"

namespace pcache::store {
namespace {

Digest hash_of(const FactKey& key) {
  Hasher h;
  key.hash_into(h);
  return h.finish();
}

Digest hash_of(const FactValue& value) {
  Hasher h;
  value.hash_into(h);
  return h.finish();
}

TEST(FactKey, EachFieldMatters) {
  const FactKey key{FactKind::kListing, {"src"}, 1, {"a"}};
  std::set<Digest> hashes{hash_of(key)};
  const std::vector<std::function<void(FactKey&)>> changes = {
      [](FactKey& k) { k.kind = FactKind::kContent; },
      [](FactKey& k) { k.path.text = "src2"; },
      [](FactKey& k) { k.param = 2; },
      [](FactKey& k) { k.names = {"b"}; },
      [](FactKey& k) { k.names = {}; },
      [](FactKey& k) {
        k.names = {"a", ""};
      },
  };
  for (const auto& change : changes) {
    FactKey other = key;
    change(other);
    EXPECT_NE(other, key);
    hashes.insert(hash_of(other));
  }
  EXPECT_EQ(hashes.size(), changes.size() + 1);
}

TEST(FactValue, EachFieldMatters) {
  const FactValue value;
  std::set<Digest> hashes{hash_of(value)};
  const std::vector<std::function<void(FactValue&)>> changes = {
      [](FactValue& v) { v.err = ENOENT; },   [](FactValue& v) { v.mode = 0644; },
      [](FactValue& v) { v.uid = 1; },        [](FactValue& v) { v.gid = 1; },
      [](FactValue& v) { v.size = 1; },       [](FactValue& v) { v.nlink = 1; },
      [](FactValue& v) { v.mtime_ns = 1; },   [](FactValue& v) { v.hash.low = 1; },
      [](FactValue& v) { v.hash.high = 1; },  [](FactValue& v) { v.text = "x"; },
      [](FactValue& v) { v.entries = {""}; }, [](FactValue& v) { v.entries = {"fa"}; },
  };
  for (const auto& change : changes) {
    FactValue other = value;
    change(other);
    EXPECT_NE(other, value);
    hashes.insert(hash_of(other));
  }
  EXPECT_EQ(hashes.size(), changes.size() + 1);
}

TEST(StrongKey, DependsOnAllItIsMadeOf) {
  FactValue there;
  there.mode = 0644;
  const Digest key = strong_key({1, 1}, {2, 2}, {there}, "");
  EXPECT_EQ(strong_key({1, 1}, {2, 2}, {there}, ""), key);
  EXPECT_NE(strong_key({1, 2}, {2, 2}, {there}, ""), key);
  EXPECT_NE(strong_key({1, 1}, {2, 3}, {there}, ""), key);
  EXPECT_NE(strong_key({1, 1}, {2, 2}, {FactValue{}}, ""), key);
  EXPECT_NE(strong_key({1, 1}, {2, 2}, {there, there}, ""), key);
  EXPECT_NE(strong_key({1, 1}, {2, 2}, {there}, "/root"), key);
}

TEST(PathSet, OrderMatters) {
  const FactKey a{FactKind::kContent, {"a"}}, b{FactKind::kContent, {"b"}};
  EXPECT_NE(path_set_digest({a, b}), path_set_digest({b, a}));
  EXPECT_NE(path_set_digest({a}), path_set_digest({a, a}));
}

TEST(Inodes, TellOnlyWhichNamesAreOneFile) {
  const auto facts = [](const std::vector<std::string>& inodes) {
    std::vector<Fact> out;
    for (size_t i = 0; i < inodes.size(); ++i) {
      Fact fact{{FactKind::kIdentity, {std::string(1, static_cast<char>('a' + i))}, 1, {}}, {}};
      fact.value.nlink = 2;
      fact.value.text = inodes[i];
      out.push_back(fact);
    }
    name_inodes(&out);
    return out;
  };
  EXPECT_EQ(facts({"1:7", "1:7", "1:9"}), facts({"2:3", "2:3", "2:1"}));
  EXPECT_NE(facts({"1:7", "1:7", "1:9"}), facts({"1:7", "1:9", "1:9"}));
  EXPECT_EQ(facts({"1:7", "1:7", "1:9"})[2].value.text, "c");

  Fact link{{FactKind::kLink, {"l"}, 0, {}}, {}};
  link.value.text = "1:7";
  std::vector<Fact> others{link};
  name_inodes(&others);
  EXPECT_EQ(others[0], link);
}

TEST(FactKind, EachHasAName) {
  std::set<std::string> names;
  for (int kind = 1; kind <= 14; ++kind) names.insert(fact_kind_name(static_cast<FactKind>(kind)));
  EXPECT_EQ(names.size(), 14u);
  EXPECT_FALSE(names.contains("unknown"));
}

}  // namespace
}  // namespace pcache::store
