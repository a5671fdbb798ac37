#include <gtest/gtest.h>

#include <cerrno>

#include "tracer/import_watch.h"

namespace pcache::tracer {
namespace {

using store::TreePath;

constexpr pid_t kTid = 7;
const TreePath kScripts{"scripts"}, kLibrary{"/usr/lib/python3.11"};

class ImportWatchTest : public ::testing::Test {
 protected:
  // As the finder does; true where importable names will do.
  bool finder_lists(const TreePath& dir, int64_t mtime = 1) {
    stat_dir(dir);
    return lists(dir, mtime);
  }
  void stat_dir(const TreePath& dir) { add(watch_.on_stat(kTid, dir, 0, true)); }
  void stat(const char* path, int err = 0) {
    add(watch_.on_stat(kTid, TreePath{path}, err, false));
  }
  void open(const char* path) { add(watch_.on_open(kTid, TreePath{path}, false)); }
  bool lists(const TreePath& dir, int64_t mtime = 1) {
    add(watch_.on_open(kTid, dir, true));
    ImportWatch::Listings full;
    const bool import = watch_.on_list(kTid, {dir, 0, {{'f', "data.txt"}}}, mtime, &full);
    add(std::move(full));
    return import;
  }
  void ends() { add(watch_.on_end()); }
  std::vector<std::string> full() {
    std::vector<std::string> names;
    for (const ImportWatch::Listing& listing : full_) names.push_back(listing.dir.text);
    full_.clear();
    return names;
  }
  void add(ImportWatch::Listings listings) {
    for (auto& listing : listings) full_.push_back(std::move(listing));
  }
  using Names = std::vector<std::string>;

  ImportWatch watch_{{kScripts}};
  ImportWatch::Listings full_;
};

TEST_F(ImportWatchTest, AModuleFoundInTheNextDirectoryIsAnImport) {
  EXPECT_TRUE(finder_lists(kScripts));
  EXPECT_TRUE(finder_lists(kLibrary));
  stat("/usr/lib/python3.11/json/__init__.abi3.so", ENOENT);
  stat("/usr/lib/python3.11/json/__init__.py");
  open("/usr/lib/python3.11/json/__pycache__/__init__.cpython-311.pyc");
  ends();
  EXPECT_EQ(full(), Names{});
}

TEST_F(ImportWatchTest, AMissingArchiveOfTheLibraryBelongsToIt) {
  EXPECT_TRUE(finder_lists(kScripts));
  stat("/usr/lib/python311.zip", ENOENT);
  stat_dir(TreePath{"/usr/lib"});
  EXPECT_TRUE(finder_lists(kLibrary));
  open("/usr/lib/python3.11/__pycache__/json.cpython-311.pyc");
  EXPECT_EQ(full(), Names{});
}

TEST_F(ImportWatchTest, AListingWithoutTheFindersStatIsTheProgramsOwn) {
  EXPECT_FALSE(lists(kScripts));
  EXPECT_EQ(full(), Names{"scripts"});
}

TEST_F(ImportWatchTest, ADirectoryThatIsNotSearchedIsTheProgramsOwn) {
  EXPECT_FALSE(finder_lists(TreePath{"data"}));
  EXPECT_EQ(full(), Names{"data"});
}

TEST_F(ImportWatchTest, WhatIsOpenedAfterwardsTells) {
  EXPECT_TRUE(finder_lists(kScripts));
  open("scripts/data.txt");
  EXPECT_EQ(full(), Names{"scripts"});
}

TEST_F(ImportWatchTest, SeveralNamesInTurnAreNoImport) {
  EXPECT_TRUE(finder_lists(kScripts));
  stat("scripts/a.py");
  EXPECT_EQ(full(), Names{});
  stat("scripts/b.py");
  EXPECT_EQ(full(), Names{"scripts"});
}

TEST_F(ImportWatchTest, NothingAfterwardsIsNoImport) {
  EXPECT_TRUE(finder_lists(kScripts));
  ends();
  EXPECT_EQ(full(), Names{"scripts"});
}

// isdir(d), listdir(d), import json: the finder lists d once more.
TEST_F(ImportWatchTest, AnImportRightAfterAnOwnListingDoesNotHideIt) {
  EXPECT_TRUE(finder_lists(kScripts));
  EXPECT_FALSE(finder_lists(kScripts));
  EXPECT_EQ(full(), (Names{"scripts", "scripts"}));
}

TEST_F(ImportWatchTest, TheFinderListsAgainOnlyWhatHasChanged) {
  EXPECT_TRUE(finder_lists(kScripts, 1));
  open("scripts/__pycache__/m.cpython-311.pyc");
  EXPECT_FALSE(finder_lists(kScripts, 1));
  EXPECT_EQ(full(), Names{"scripts"});
  EXPECT_TRUE(finder_lists(kScripts, 2));
}

TEST_F(ImportWatchTest, ModulesOfAPackageAreLookedForInIt) {
  stat("scripts/pkg/__init__.py");
  open("scripts/pkg/__pycache__/__init__.cpython-311.pyc");
  EXPECT_TRUE(finder_lists(TreePath{"scripts/pkg"}));
  stat("scripts/pkg/mod.py");
  open("scripts/pkg/__pycache__/mod.cpython-311.pyc");
  EXPECT_EQ(full(), Names{});
}

TEST_F(ImportWatchTest, ThreadsAreApart) {
  EXPECT_TRUE(finder_lists(kScripts));
  add(watch_.on_open(kTid + 1, TreePath{"scripts/data.txt"}, false));
  EXPECT_EQ(full(), Names{});
}

}  // namespace
}  // namespace pcache::tracer
