#include <gtest/gtest.h>
#include <sys/stat.h>

#include <cerrno>
#include <map>

#include "store/match.h"

namespace pcache::store {
namespace {

FactValue failed(int err) {
  FactValue v;
  v.err = err;
  return v;
}

FactValue file(uint32_t mode = 0644) {
  FactValue v;
  v.mode = S_IFREG | mode;
  return v;
}

Reason diff(FactKind kind, const FactValue& before, const FactValue& now) {
  return difference({kind, {"p"}, 0, {}}, before, now);
}

std::string code(FactKind kind, const FactValue& before, const FactValue& now) {
  const Reason reason = diff(kind, before, now);
  EXPECT_EQ(reason.path, "p");
  EXPECT_FALSE(reason.detail.empty());
  return reason.code;
}

TEST(Match, AHitHasNoReasons) {
  Record record;
  record.facts = {{{FactKind::kContent, {"a"}}, file()},
                  {{FactKind::kLink, {"l"}}, failed(EINVAL)}};
  const Verdict verdict = match(
      record, [](const FactKey& key) { return key.path.text == "a" ? file() : failed(EINVAL); });
  EXPECT_TRUE(verdict.hit);
  EXPECT_TRUE(verdict.reasons.empty());
}

TEST(Match, ReportsAllReasonsInOrder) {
  Record record;
  record.facts = {{{FactKind::kContent, {"a"}}, file()},
                  {{FactKind::kContent, {"b"}}, file()},
                  {{FactKind::kContent, {"c"}}, file()}};
  record.side_facts = {{{FactKind::kIdentity, {"/tmp/x"}}, failed(ENOENT)}};
  const Verdict verdict = match(record, [](const FactKey& key) {
    return key.path.text == "b" ? file() : key.path.text == "a" ? failed(ENOENT) : file(0600);
  });
  EXPECT_FALSE(verdict.hit);
  ASSERT_EQ(verdict.reasons.size(), 3u);
  EXPECT_EQ(verdict.reasons[0].code, "vanished");
  EXPECT_EQ(verdict.reasons[0].path, "a");
  EXPECT_EQ(verdict.reasons[1].code, "mode-changed");
  EXPECT_EQ(verdict.reasons[2].code, "appeared");
  EXPECT_EQ(verdict.reasons[2].path, "/tmp/x");
}

TEST(Difference, NamesTheAspect) {
  FactValue before = file();
  const auto with = [&](auto change) {
    FactValue v = before;
    change(v);
    return v;
  };
  const FactKind kind = FactKind::kIdentity;
  EXPECT_EQ(code(FactKind::kContent, before, with([](FactValue& v) { v.hash.low = 1; })),
            "content-changed");
  EXPECT_EQ(code(kind, before, with([](FactValue& v) { v.mode = S_IFREG | 0755; })),
            "mode-changed");
  EXPECT_EQ(code(kind, before, with([](FactValue& v) { v.mode = S_IFDIR | 0755; })),
            "kind-changed");
  EXPECT_EQ(code(kind, before, with([](FactValue& v) { v.uid = 1; })), "owner-changed");
  EXPECT_EQ(code(kind, before, with([](FactValue& v) { v.gid = 1; })), "owner-changed");
  EXPECT_EQ(code(kind, before, with([](FactValue& v) { v.size = 1; })), "size-changed");
  EXPECT_EQ(code(kind, before, with([](FactValue& v) { v.nlink = 1; })), "links-changed");
  EXPECT_EQ(code(kind, before, with([](FactValue& v) { v.mtime_ns = 1; })), "mtime-changed");
}

TEST(Difference, TellsOfEveryAspectThatDiffers) {
  FactValue now = file(0600);
  now.size = 7;
  now.mtime_ns = 9;
  const Reason reason = diff(FactKind::kIdentity, file(), now);
  EXPECT_EQ(reason.code, "size-changed");
  EXPECT_EQ(reason.detail,
            "size was 0, is 7 now; mode was 0644, is 0600 now; it was modified later than then");
}

TEST(Difference, AbsenceAndRefusal) {
  EXPECT_EQ(diff(FactKind::kContent, failed(ENOENT), file()).detail,
            "looked for and not found then, there now");
  EXPECT_EQ(code(FactKind::kContent, failed(ENOTDIR), file()), "appeared");
  EXPECT_EQ(code(FactKind::kAccess, failed(ENOENT), FactValue{}), "appeared");
  EXPECT_EQ(code(FactKind::kContent, file(), failed(ENOENT)), "vanished");
  EXPECT_EQ(code(FactKind::kListing, FactValue{}, failed(ENOTDIR)), "vanished");
  EXPECT_EQ(code(FactKind::kContent, file(), failed(EACCES)), "access-changed");
  EXPECT_EQ(code(FactKind::kAccess, failed(EACCES), FactValue{}), "access-changed");
  EXPECT_EQ(code(FactKind::kIdentity, failed(ENOENT), failed(EACCES)), "access-changed");
  EXPECT_EQ(code(FactKind::kContent, file(), failed(ELOOP)), "link-changed");
}

TEST(Difference, Links) {
  FactValue to_a, to_b;
  to_a.text = "a";
  to_b.text = "b";
  EXPECT_EQ(diff(FactKind::kLink, to_a, to_b).detail, "led to a, leads to b now");
  EXPECT_EQ(code(FactKind::kLink, to_a, to_b), "link-changed");
  EXPECT_EQ(code(FactKind::kLink, failed(EINVAL), to_b), "link-changed");
  EXPECT_EQ(code(FactKind::kLink, to_a, failed(EINVAL)), "link-changed");
  EXPECT_EQ(code(FactKind::kLink, to_a, failed(ENOENT)), "vanished");
}

TEST(Difference, AListingNamesTheEntries) {
  FactValue before, now;
  before.entries = {"fa.h", "fone.c", "fsame"};
  now.entries = {"done.c", "ffive.c", "fsame"};
  const Reason reason = diff(FactKind::kListing, before, now);
  EXPECT_EQ(reason.code, "listing-changed");
  EXPECT_EQ(reason.detail, "one.c is of another kind, five.c was added, a.h was removed");
}

TEST(Difference, ALongListIsCutAfterFive) {
  FactValue now;
  for (char c = 'a'; c < 'i'; ++c) now.entries.push_back(std::string("f") + c);
  EXPECT_EQ(diff(FactKind::kListing, {}, now).detail,
            "a was added, b was added, c was added, d was added, e was added, and 3 more");
}

TEST(Difference, TheOtherKinds) {
  FactValue own, one;
  own.text = "own";
  own.mode = 0644;
  one.size = 1;
  EXPECT_EQ(code(FactKind::kReplaced, own, file()), "output-changed");
  EXPECT_EQ(code(FactKind::kReplaced, failed(ENOENT), file()), "output-changed");
  EXPECT_EQ(code(FactKind::kXattr, failed(ENODATA), FactValue{}), "xattr-changed");
  EXPECT_EQ(code(FactKind::kXattr, failed(ENODATA), failed(ENOENT)), "vanished");
  EXPECT_EQ(code(FactKind::kStatfs, {}, one), "statfs-changed");
  EXPECT_EQ(code(FactKind::kTerminal, {}, one), "terminal-changed");
  EXPECT_EQ(code(FactKind::kStdin, {}, one), "stdin-changed");
  EXPECT_EQ(code(FactKind::kAffinity, {}, one), "affinity-changed");
}

}  // namespace
}  // namespace pcache::store
