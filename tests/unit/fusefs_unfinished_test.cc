#include <fcntl.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "fusefs/unfinished.h"

namespace pcache::fusefs {
namespace {

namespace fs = std::filesystem;

class UnfinishedTest : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string name = (fs::temp_directory_path() / "pcache-unfinished-XXXXXX").string();
    ASSERT_NE(::mkdtemp(name.data()), nullptr);
    dir_ = name;
    fs::create_directory(dir_ / "tree");
    for (const char* file : {"cut", "whole", "other"}) std::ofstream(dir_ / "tree" / file) << file;
    tree_ = std::make_unique<store::LowerTree>(
        (dir_ / "tree").string(),
        UniqueFd(::open((dir_ / "tree").c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC)));
  }
  void TearDown() override { fs::remove_all(dir_); }

  struct stat stat(const char* name) {
    struct stat st {};
    EXPECT_EQ(tree_->stat(name, &st), 0);
    return st;
  }
  bool there(const char* name) { return fs::exists(dir_ / "tree" / name); }

  fs::path dir_;
  std::unique_ptr<store::LowerTree> tree_;
};

TEST_F(UnfinishedTest, WhatWasBeingWrittenIsRemovedAndNothingElse) {
  const std::string notes = dir_ / "notes" / "1", kept = dir_ / "kept";
  {
    UnfinishedFiles files(notes);
    files.end(files.begin("whole", stat("whole")));
    EXPECT_GE(files.begin("cut", stat("cut")), 0);
    struct stat replaced = stat("other");
    replaced.st_ino += 1;  // another file has taken its name
    EXPECT_GE(files.begin("other", replaced), 0);
    EXPECT_GE(files.begin("gone", replaced), 0);
    fs::copy(notes, kept);  // as a killed daemon leaves it
  }
  EXPECT_FALSE(fs::exists(notes));
  EXPECT_EQ(UnfinishedFiles::mend(kept, *tree_), std::vector<std::string>{"cut"});
  EXPECT_FALSE(there("cut"));
  EXPECT_TRUE(there("whole") && there("other"));
  EXPECT_FALSE(fs::exists(kept));
}

TEST_F(UnfinishedTest, SlotsAreUsedAgain) {
  UnfinishedFiles files(dir_ / "1");
  const int slot = files.begin("cut", stat("cut"));
  files.end(slot);
  EXPECT_EQ(files.begin("whole", stat("whole")), slot);
}

TEST_F(UnfinishedTest, WithoutAPlaceNothingIsNoted) {
  UnfinishedFiles files("");
  EXPECT_EQ(files.begin("cut", stat("cut")), -1);
  files.end(-1);
  EXPECT_TRUE(UnfinishedFiles::mend("", *tree_).empty());
  EXPECT_TRUE(there("cut"));
}

TEST_F(UnfinishedTest, DamagedNotesRemoveNothing) {
  std::ofstream(dir_ / "1") << std::string(10000, '\1');
  EXPECT_TRUE(UnfinishedFiles::mend(dir_ / "1", *tree_).empty());
  EXPECT_TRUE(there("cut") && there("whole") && there("other"));
}

}  // namespace
}  // namespace pcache::fusefs
