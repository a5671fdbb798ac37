#include <gtest/gtest.h>

#include "store/environment.h"
#include "store/lists.h"
#include "store/weak_key.h"

namespace pcache::store {
namespace {

using Words = std::vector<std::string>;

ImageInfo image(const std::string& executable, Words argv, Words env, const Lists& lists) {
  ImageInfo info;
  info.executable = executable;
  info.argv = std::move(argv);
  info.env = std::move(env);
  info.cwd = "/p";
  info.lists = &lists;
  return info;
}

Lists with(void (*change)(Lists*)) {
  Lists lists = Lists::defaults();
  change(&lists);
  lists.seal();
  return lists;
}

NameList plus(const NameList& list, const std::string& word) {
  Words words = list.words();
  words.push_back(word);
  return NameList(words);
}

Digest key(const Lists& lists) {
  return make_weak_key(image("/bin/x", {"x"}, {}, lists), "/p").digest;
}

TEST(Lists, PatternsAreAsAShellHasThem) {
  const NameList list({"plain", "lib*", "a?c"});
  EXPECT_TRUE(list.contains("plain") && list.contains("libx") && list.contains("abc"));
  EXPECT_FALSE(list.contains("plain2") || list.contains("xlib") || list.contains("ac"));
}

TEST(Lists, AChangeOfMeaningIsAnotherKey) {
  const Digest usual = key(Lists::defaults());
  EXPECT_NE(usual, key(with([](Lists* l) { l->never = plus(l->never, "q"); })));
  EXPECT_NE(usual, key(with([](Lists* l) { l->mtime_ignored = plus(l->mtime_ignored, "q"); })));
  EXPECT_NE(usual, key(with([](Lists* l) { l->mtime_matters = plus(l->mtime_matters, "q"); })));
  EXPECT_NE(usual,
            key(with([](Lists* l) { l->overwrites_blindly = plus(l->overwrites_blindly, "q"); })));
  EXPECT_NE(usual,
            key(with([](Lists* l) { l->session_variables = plus(l->session_variables, "Q"); })));
  EXPECT_NE(usual, key(with([](Lists* l) { l->private_dirs = {{"x", "/y"}}; })));
  EXPECT_NE(key(with([](Lists* l) {
              l->private_dirs = {{"x", "/z"}};
            })),
            key(with([](Lists* l) {
              l->private_dirs = {{"x", "/y"}};
            })));
}

TEST(Lists, WhatMayBeRecordedIsPartOfTheKey) {
  EXPECT_NE(key(Lists::defaults()), key(with([](Lists* l) { l->strict_clock = true; })));
}

TEST(Lists, TheSameListsAreTheSameKey) {
  const Digest usual = key(Lists::defaults());
  EXPECT_EQ(usual, key(with([](Lists* l) { l->never = plus(l->never, "date"); })));
  EXPECT_EQ(usual, key(with([](Lists* l) { l->records_mtimes = plus(l->records_mtimes, "q"); })));
  EXPECT_EQ(key(with([](Lists* l) {
              l->never = NameList({"a", "b"});
            })),
            key(with([](Lists* l) {
              l->never = NameList({"b", "a", "b"});
            })));
}

TEST(Lists, NeverGoesByProgramPathAndScript) {
  const Lists lists = with([](Lists* l) {
    l->never = NameList({"stamp", "/opt/*/gen", "*.never"});
  });
  EXPECT_TRUE(never_recorded(image("/usr/bin/stamp", {"stamp"}, {}, lists)));
  EXPECT_TRUE(never_recorded(image("/opt/a/gen", {"gen"}, {}, lists)));
  EXPECT_FALSE(never_recorded(image("/usr/bin/gen", {"gen"}, {}, lists)));
  EXPECT_FALSE(never_recorded(image("/bin/date", {"date"}, {}, lists)));
  ImageInfo script = image("/bin/dash", {"sh", "x.never"}, {}, lists);
  EXPECT_FALSE(never_recorded(script));
  script.script = TreePath{"tools/x.never"};
  EXPECT_TRUE(never_recorded(script));
}

TEST(Lists, SessionVariablesCanBeNamed) {
  const Lists lists = with([](Lists* l) { l->session_variables = NameList({"MINE", "SES_*"}); });
  const Words env = {"MINE=1", "SES_A=2", "COLUMNS=80"};
  EXPECT_EQ(normalized_env(image("/bin/x", {"x"}, env, lists)), (Words{"COLUMNS=80"}));
  const EnvironmentReads reads = reads_of_text("echo $SES_A $MINE $COLUMNS $SES_B", lists);
  EXPECT_EQ(reads.names, (Words{"MINE", "SES_A", "SES_B"}));
  EXPECT_TRUE(key_leaves_out(image("/bin/x", {"x"}, env, lists), "SES_A"));
  EXPECT_FALSE(key_leaves_out(image("/bin/x", {"x"}, env, lists), "COLUMNS"));
}

TEST(Lists, BuiltInPatternsAreSeenInScripts) {
  const EnvironmentReads reads = reads_of_text("echo $KONSOLE_VERSION", Lists::defaults());
  EXPECT_EQ(reads.names, (Words{"KONSOLE_VERSION"}));
}

}  // namespace
}  // namespace pcache::store
