// What the store's tests share: a temporary directory with a tree and a store in it.
#pragma once

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <memory>
#include <sstream>
#include <string>

#include "store/observer.h"
#include "store/store.h"
#include "store/tree.h"

namespace pcache::store {

class TempDir {
 public:
  TempDir() {
    std::string pattern = std::filesystem::temp_directory_path() / "pcache-test-XXXXXX";
    path_ = std::filesystem::canonical(mkdtemp(pattern.data()));
  }
  ~TempDir() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  TempDir(const TempDir&) = delete;
  TempDir& operator=(const TempDir&) = delete;
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

inline void write_file(const std::string& path, const std::string& content, mode_t mode = 0644) {
  std::filesystem::create_directories(std::filesystem::path(path).parent_path());
  std::ofstream(path, std::ios::binary | std::ios::trunc) << content;
  chmod(path.c_str(), mode);
}

inline std::string read_file(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  std::stringstream out;
  out << in.rdbuf();
  return out.str();
}

inline struct stat stat_of(const std::string& path) {
  struct stat st {};
  EXPECT_EQ(lstat(path.c_str(), &st), 0) << path;
  return st;
}

inline void set_mtime(const std::string& path, int64_t seconds, int64_t ns = 0) {
  const struct timespec times[2] = {{seconds, ns}, {seconds, ns}};
  ASSERT_EQ(utimensat(AT_FDCWD, path.c_str(), times, AT_SYMLINK_NOFOLLOW), 0);
}

// A tree (root/) and a store (cache/) in one temporary directory.
class StoreTest : public ::testing::Test {
 protected:
  void SetUp() override {
    root_ = dir_.path() + "/root";
    std::filesystem::create_directory(root_);
    tree_ = std::make_unique<LowerTree>(
        root_, UniqueFd(open(root_.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC)));
    reopen();
  }
  void TearDown() override { observer_.reset(); }

  void reopen(StoreOptions options = {}) {
    observer_.reset();
    store_.reset();
    Result<std::unique_ptr<Store>> opened = Store::open(cache(), options);
    ASSERT_TRUE(opened) << opened.error().to_string();
    store_ = std::move(*opened);
    observer_ = std::make_unique<Observer>(*tree_, *store_);
  }

  std::string cache() const { return dir_.path() + "/cache"; }
  std::string in_root(const std::string& rel) const { return root_ + "/" + rel; }
  FactValue observe(FactKind kind, const std::string& path, uint32_t param = 0,
                    std::vector<std::string> names = {}) {
    return observer_->observe({kind, {path}, param, std::move(names)}, weak_);
  }
  Digest put_blob(const std::string& bytes) {
    Result<Digest> digest = store_->blobs().put_bytes(bytes);
    EXPECT_TRUE(digest);
    return digest.value_or(Digest{});
  }

  TempDir dir_;
  std::string root_;
  Digest weak_{1, 2};
  std::unique_ptr<LowerTree> tree_;
  std::unique_ptr<Store> store_;
  std::unique_ptr<Observer> observer_;
};

}  // namespace pcache::store
