#include <gtest/gtest.h>

#include "store/tree_path.h"

namespace pcache::store {
namespace {

TEST(TreePath, ParentAndName) {
  EXPECT_EQ(TreePath{"src/a.c"}.parent().text, "src");
  EXPECT_EQ(TreePath{"src/a.c"}.name(), "a.c");
  EXPECT_EQ(TreePath{"a.c"}.parent().text, "");
  EXPECT_EQ(TreePath{"a.c"}.name(), "a.c");
  EXPECT_EQ(TreePath{"/usr"}.parent().text, "/");
  EXPECT_EQ(TreePath{"/usr/bin"}.parent().text, "/usr");
  EXPECT_EQ(TreePath{"/"}.name(), "");
  EXPECT_EQ(TreePath{""}.name(), "");
}

TEST(TreePath, Child) {
  EXPECT_EQ(TreePath{""}.child("a").text, "a");
  EXPECT_EQ(TreePath{"/"}.child("a").text, "/a");
  EXPECT_EQ(TreePath{"x"}.child("a").text, "x/a");
}

TEST(TreePath, IsBelowGoesByComponents) {
  EXPECT_TRUE(TreePath{"src/a"}.is_below({"src"}));
  EXPECT_FALSE(TreePath{"src2/a"}.is_below({"src"}));
  EXPECT_FALSE(TreePath{"src"}.is_below({"src"}));
  EXPECT_TRUE(TreePath{"src"}.is_below({""}));
  EXPECT_FALSE(TreePath{"/usr"}.is_below({""}));
  EXPECT_TRUE(TreePath{"/usr"}.is_below({"/"}));
  EXPECT_FALSE(TreePath{"src"}.is_below({"/"}));
}

TEST(TreePath, AnchorsAtTheRoot) {
  EXPECT_EQ(TreePath::from_absolute("/home/x/p/a.c", "/home/x/p").text, "a.c");
  EXPECT_EQ(TreePath::from_absolute("/home/x/p", "/home/x/p").text, "");
  EXPECT_EQ(TreePath::from_absolute("/home/x/p2/a.c", "/home/x/p").text, "/home/x/p2/a.c");
  EXPECT_EQ(TreePath{"a.c"}.absolute("/home/x/p"), "/home/x/p/a.c");
  EXPECT_EQ(TreePath{""}.absolute("/home/x/p"), "/home/x/p");
  EXPECT_EQ(TreePath{"/usr"}.absolute("/home/x/p"), "/usr");
}

}  // namespace
}  // namespace pcache::store
