#include <sys/xattr.h>

#include <cerrno>
#include <thread>

#include "store/observer.h"
#include "store/pseudo_file.h"
#include "store_testing.h"

namespace pcache::store {
namespace {

using std::filesystem::create_directories;
using std::filesystem::create_symlink;

class LowerTreeTest : public StoreTest {};

TEST_F(LowerTreeTest, NeverFollowsALinkOnTheWay) {
  write_file(in_root("real/a"), "x");
  create_symlink("real", in_root("link"));
  create_symlink("/etc", in_root("out"));
  struct stat st;
  UniqueFd fd;
  std::string name;
  std::vector<DirEntry> entries;
  EXPECT_EQ(tree_->stat("real/a", &st), 0);
  EXPECT_EQ(tree_->stat("link/a", &st), ELOOP);
  EXPECT_EQ(tree_->open_read("link/a", &fd), ELOOP);
  EXPECT_EQ(tree_->open_read("link", &fd), ELOOP);
  EXPECT_EQ(tree_->open_parent("link/a", &fd, &name), ELOOP);
  EXPECT_EQ(tree_->stat("out/passwd", &st), ELOOP);
  EXPECT_EQ(tree_->list("link", &entries), ENOTDIR);
}

TEST_F(LowerTreeTest, DoesNotLeaveTheRoot) {
  struct stat st;
  EXPECT_EQ(tree_->stat("real/../../etc", &st), ENOENT);
  create_directories(in_root("real"));
  EXPECT_EQ(tree_->stat("real/../../etc", &st), EXDEV);
}

TEST_F(LowerTreeTest, StatTellsOfLinksThemselvesAndTheRoot) {
  create_symlink("nowhere", in_root("link"));
  create_directories(in_root("d"));
  create_symlink("nowhere", in_root("d/link"));
  struct stat st;
  EXPECT_EQ(tree_->stat("link", &st), 0);
  EXPECT_TRUE(S_ISLNK(st.st_mode));
  EXPECT_EQ(tree_->stat("d/link", &st), 0);
  EXPECT_TRUE(S_ISLNK(st.st_mode));
  EXPECT_EQ(tree_->stat("", &st), 0);
  EXPECT_EQ(st.st_ino, stat_of(root_).st_ino);
}

TEST_F(LowerTreeTest, AbsenceHasItsReason) {
  write_file(in_root("file"), "");
  struct stat st;
  EXPECT_EQ(tree_->stat("a", &st), ENOENT);
  EXPECT_EQ(tree_->stat("a/b", &st), ENOENT);
  EXPECT_EQ(tree_->stat("file/b", &st), ENOTDIR);
}

TEST_F(LowerTreeTest, ReadsLinks) {
  create_symlink("some/where", in_root("link"));
  write_file(in_root("file"), "");
  std::string target;
  EXPECT_EQ(tree_->read_link("link", &target), 0);
  EXPECT_EQ(target, "some/where");
  EXPECT_EQ(tree_->read_link("file", &target), EINVAL);
  EXPECT_EQ(tree_->read_link("", &target), EINVAL);
  EXPECT_EQ(tree_->read_link("none", &target), ENOENT);
}

TEST_F(LowerTreeTest, ListsWithKinds) {
  write_file(in_root("d/file"), "");
  create_directories(in_root("d/sub"));
  create_symlink("x", in_root("d/link"));
  ASSERT_EQ(mkfifo(in_root("d/fifo").c_str(), 0600), 0);
  std::vector<DirEntry> entries;
  ASSERT_EQ(tree_->list("d", &entries), 0);
  const FactValue value = Observer::listing_value(entries, {}, 0);
  EXPECT_EQ(value.entries, (std::vector<std::string>{"dsub", "ffile", "llink", "pfifo"}));
  EXPECT_EQ(tree_->list("d/file", &entries), ENOTDIR);
  EXPECT_EQ(tree_->list("", &entries), 0);
}

TEST_F(LowerTreeTest, ListsManyEntries) {
  for (int i = 0; i < 2000; ++i) write_file(in_root("d/entry" + std::to_string(i)), "");
  std::vector<DirEntry> entries;
  ASSERT_EQ(tree_->list("d", &entries), 0);
  EXPECT_EQ(entries.size(), 2000u);
}

TEST_F(LowerTreeTest, ReadsExtendedAttributes) {
  write_file(in_root("a"), "");
  if (setxattr(in_root("a").c_str(), "user.test", "value", 5, 0) != 0)
    GTEST_SKIP() << "no user attributes on the temporary file system";
  std::string value;
  EXPECT_EQ(tree_->get_xattr("a", "user.test", &value), 0);
  EXPECT_EQ(value, "value");
  EXPECT_EQ(tree_->get_xattr("a", "user.none", &value), ENODATA);
  EXPECT_EQ(tree_->list_xattr("a", &value), 0);
  EXPECT_EQ(value, std::string("user.test\0", 10));
}

TEST_F(LowerTreeTest, DoesNotServe) {
  EXPECT_EQ(tree_->serve("a", {}, UniqueFd(), 1, 0644), ENOTSUP);
  EXPECT_FALSE(tree_->served_digest("a"));
}

class ObserverTest : public StoreTest {};

TEST_F(ObserverTest, ContentIsHashKindAndPermissions) {
  write_file(in_root("a"), "hello", 0640);
  const FactValue value = observe(FactKind::kContent, "a");
  EXPECT_EQ(value.err, 0);
  EXPECT_EQ(value.mode, S_IFREG | 0640u);
  EXPECT_EQ(value.hash, hash_bytes("hello"));
  EXPECT_EQ(value.size, 0u);
  EXPECT_EQ(value.mtime_ns, 0);
  set_mtime(in_root("a"), 1000);
  EXPECT_EQ(observe(FactKind::kContent, "a"), value);
  write_file(in_root("a"), "hellO", 0640);
  EXPECT_NE(observe(FactKind::kContent, "a"), value);
}

TEST_F(ObserverTest, ContentOfOtherThings) {
  create_directories(in_root("d"));
  create_symlink("x", in_root("l"));
  ASSERT_EQ(mkfifo(in_root("p").c_str(), 0600), 0);
  FactValue directory;
  directory.mode = S_IFDIR;
  EXPECT_EQ(observe(FactKind::kContent, "d"), directory);
  EXPECT_EQ(observe(FactKind::kContent, "p").mode, static_cast<uint32_t>(S_IFIFO));
  EXPECT_EQ(observe(FactKind::kContent, "l").hash, hash_bytes("x"));
  EXPECT_EQ(observe(FactKind::kContent, "none").err, ENOENT);
  EXPECT_EQ(observe(FactKind::kContent, "/dev/null").size, stat_of("/dev/null").st_rdev);
}

TEST_F(ObserverTest, IdentityHasTheTimesThatAreAskedFor) {
  write_file(in_root("a"), "hello");
  create_directories(in_root("d"));
  set_mtime(in_root("a"), 1000, 5);
  set_mtime(in_root("d"), 2000);
  const FactValue plain = observe(FactKind::kIdentity, "a");
  EXPECT_EQ(plain.size, 5u);
  EXPECT_EQ(plain.nlink, 1u);
  EXPECT_EQ(plain.uid, geteuid());
  EXPECT_EQ(plain.mtime_ns, 0);
  EXPECT_TRUE(plain.hash.empty());
  EXPECT_EQ(observe(FactKind::kIdentity, "a", kWithMtime).mtime_ns, 1000'000'000'005);
  EXPECT_EQ(observe(FactKind::kIdentity, "d", kWithMtime).mtime_ns, 0);
  EXPECT_EQ(observe(FactKind::kIdentity, "d", kWithMtime).size, 0u);
  EXPECT_EQ(observe(FactKind::kIdentity, "d", kWithMtime).nlink, 0u);
  EXPECT_EQ(observe(FactKind::kIdentity, "d", kWithMtime | kWithDirMtime).mtime_ns,
            2000'000'000'000);
}

TEST_F(ObserverTest, KindIsKindAndMode) {
  write_file(in_root("a"), "hello", 0755);
  FactValue expected;
  expected.mode = S_IFREG | 0755;
  EXPECT_EQ(observe(FactKind::kKind, "a"), expected);
}

TEST_F(ObserverTest, AccessInTheTreeAndOutside) {
  write_file(in_root("d/plain"), "", 0644);
  const std::string outside = dir_.path() + "/outside";
  write_file(outside, "", 0644);
  for (const std::string& path : {std::string("d/plain"), outside}) {
    EXPECT_EQ(observe(FactKind::kAccess, path, F_OK), FactValue{}) << path;
    EXPECT_EQ(observe(FactKind::kAccess, path, R_OK), FactValue{}) << path;
    EXPECT_EQ(observe(FactKind::kAccess, path, X_OK).err, EACCES) << path;
    EXPECT_EQ(observe(FactKind::kAccess, path + "x", R_OK).err, ENOENT) << path;
  }
  EXPECT_EQ(observe(FactKind::kAccess, "", W_OK).err, 0);
}

TEST_F(ObserverTest, LinksOutsideTheTreeAreNotFollowedEither) {
  const std::string base = dir_.path();
  write_file(base + "/real/a", "x");
  create_symlink("real", base + "/link");
  EXPECT_EQ(observe(FactKind::kContent, base + "/real/a").hash, hash_bytes("x"));
  EXPECT_EQ(observe(FactKind::kContent, base + "/link/a").err, ELOOP);
  EXPECT_EQ(observe(FactKind::kLink, base + "/link").text, "real");
  EXPECT_EQ(observe(FactKind::kLink, base + "/real").err, EINVAL);
  EXPECT_EQ(observe(FactKind::kListing, base + "/link").err, ENOTDIR);
  EXPECT_EQ(observe(FactKind::kIdentity, "/").mode & S_IFMT, static_cast<uint32_t>(S_IFDIR));
}

TEST_F(ObserverTest, APassGivesTheSameAnswers) {
  const std::string base = dir_.path();
  write_file(base + "/real/a", "x");
  write_file(in_root("d/a"), "y");
  write_file(in_root("file"), "");
  create_symlink("real", base + "/link");
  create_symlink("a", in_root("d/link"));
  std::vector<FactKey> keys;
  for (const FactKind kind : {FactKind::kContent, FactKind::kIdentity, FactKind::kKind,
                              FactKind::kAccess, FactKind::kLink, FactKind::kListing,
                              FactKind::kReplaced, FactKind::kXattr, FactKind::kStatfs}) {
    for (const std::string& path :
         {std::string(), std::string("d"), std::string("d/a"), std::string("d/none"),
          std::string("d/link"), std::string("none/x"), std::string("none/y"),
          std::string("file/x"), std::string("/"), std::string("/usr"), base + "/real/a",
          base + "/link/a", base + "/none", base + "/real/none/x", base + "/real/a/x",
          base + "/link"}) {
      keys.push_back({kind, {path}, 0, {}});
    }
  }
  for (const FactKey& key : keys) {
    const FactValue alone = observer_->observe(key, weak_);
    const ObservationPass pass;
    for (int round = 0; round < 2; ++round) {
      EXPECT_EQ(observer_->observe(key, weak_), alone)
          << fact_kind_name(key.kind) << " " << key.path.text;
    }
  }
  const ObservationPass pass;
  for (const FactKey& key : keys) {
    const FactValue within = observer_->observe(key, weak_);
    EXPECT_EQ(within.err == 0, observer_->observe(key, weak_).err == 0);
  }
}

TEST_F(ObserverTest, APassEndsWithItsScope) {
  {
    const ObservationPass pass;
    EXPECT_EQ(observe(FactKind::kKind, "d/a").err, ENOENT);
    create_directories(in_root("d"));
    write_file(in_root("d/a"), "");
  }
  EXPECT_EQ(observe(FactKind::kKind, "d/a").err, 0);
  const ObservationPass pass;
  EXPECT_EQ(observe(FactKind::kKind, "d/a").err, 0);
}

TEST_F(ObserverTest, AListingLeavesOutWhatItIsToldTo) {
  write_file(in_root("d/a.c"), "");
  write_file(in_root("d/a.o"), "");
  EXPECT_EQ(observe(FactKind::kListing, "d", 0, {"a.o", "b.o"}).entries,
            std::vector<std::string>{"fa.c"});
}

TEST_F(ObserverTest, ProcessFactsAreTheCallers) {
  EXPECT_EQ(observe(FactKind::kTerminal, "").err, ENOSYS);
  EXPECT_EQ(observe(FactKind::kStdin, "").err, ENOSYS);
  EXPECT_EQ(observe(FactKind::kAffinity, "").err, ENOSYS);
}

TEST_F(ObserverTest, XattrAndStatfs) {
  write_file(in_root("a"), "");
  if (setxattr(in_root("a").c_str(), "user.test", "value", 5, 0) != 0)
    GTEST_SKIP() << "no user attributes on the temporary file system";
  EXPECT_EQ(observe(FactKind::kXattr, "a", 0, {"user.test"}).hash, hash_bytes("value"));
  EXPECT_EQ(observe(FactKind::kXattr, in_root("a"), 0, {"user.test"}).hash, hash_bytes("value"));
  EXPECT_EQ(observe(FactKind::kXattr, "a", 0, {"user.none"}).err, ENODATA);
  EXPECT_NE(observe(FactKind::kStatfs, "a").size, 0u);
  EXPECT_EQ(observe(FactKind::kStatfs, "a"), observe(FactKind::kStatfs, in_root("a")));
}

TEST_F(ObserverTest, AMemoIsTrustedOnceTheFileIsOldEnough) {
  write_file(in_root("a"), "hello");
  set_mtime(in_root("a"), 1000);
  std::this_thread::sleep_for(std::chrono::milliseconds(40));
  EXPECT_EQ(observe(FactKind::kContent, "a").hash, hash_bytes("hello"));
  const Stamp stamp = Stamp::of(stat_of(in_root("a")));
  EXPECT_EQ(store_->memo(stamp), hash_bytes("hello"));
  // A memo is believed without a look at the file.
  store_->remember(stamp, {7, 7}, realtime_ns());
  EXPECT_EQ(observe(FactKind::kContent, "a").hash, (Digest{7, 7}));
}

TEST_F(ObserverTest, AYoungFileIsReadEachTime) {
  write_file(in_root("a"), "hello");
  EXPECT_EQ(observe(FactKind::kContent, "a").hash, hash_bytes("hello"));
  EXPECT_FALSE(store_->memo(Stamp::of(stat_of(in_root("a")))));
}

TEST_F(ObserverTest, PseudoFilesGoByTheirContent) {
  EXPECT_NE(observe(FactKind::kContent, "/proc/cpuinfo").hash, hash_bytes(""));
  EXPECT_EQ(observe(FactKind::kContent, "/proc/filesystems"),
            observe(FactKind::kContent, "/proc/filesystems"));
  EXPECT_EQ(observe(FactKind::kContent, "/proc/meminfo"),
            observe(FactKind::kContent, "/proc/meminfo"));
  EXPECT_EQ(steady_part("/proc/cpuinfo", "model\t: x\ncpu MHz\t\t: 2000\nflags\t: a"),
            "model\t: x\nflags\t: a");
  EXPECT_EQ(steady_part("/proc/meminfo", "MemTotal: 8\nMemFree: 3\n"), "MemTotal: 8\n");
  EXPECT_EQ(steady_part("/proc/version", "MemFree: 3\n"), "MemFree: 3\n");
}

class ReplacedTest : public StoreTest {
 protected:
  FactValue replaced(uint32_t param) { return observe(FactKind::kReplaced, "out", param); }
};

TEST_F(ReplacedTest, AbsentIsAbsentUnlessBlind) {
  EXPECT_EQ(replaced(0644).err, ENOENT);
  EXPECT_EQ(replaced(0644 | kReplacedBlind).text, "replaceable");
}

TEST_F(ReplacedTest, BlindlyReplacedOnlyIfCreatingWouldGiveTheSame) {
  write_file(in_root("out"), "x", 0644);
  ASSERT_EQ(chown(in_root("out").c_str(), geteuid(), getegid()), 0);
  EXPECT_EQ(replaced(0644 | kReplacedBlind).text, "replaceable");
  EXPECT_EQ(replaced(0600 | kReplacedBlind).text, "");
  EXPECT_EQ(replaced(0600 | kReplacedBlind | kReplacedUnlinked).text, "replaceable");
  ASSERT_EQ(link(in_root("out").c_str(), in_root("other").c_str()), 0);
  EXPECT_EQ(replaced(0644 | kReplacedBlind).text, "");
  EXPECT_EQ(replaced(0644 | kReplacedBlind | kReplacedUnlinked).text, "replaceable");
}

TEST_F(ReplacedTest, ADirectoryIsNeverReplaceable) {
  create_directories(in_root("out"));
  EXPECT_EQ(replaced(0755 | kReplacedBlind | kReplacedUnlinked).text, "");
  EXPECT_EQ(replaced(0755 | kReplacedBlind).mode & S_IFMT, static_cast<uint32_t>(S_IFDIR));
}

TEST_F(ReplacedTest, AnXattrMakesADifference) {
  write_file(in_root("out"), "x", 0644);
  if (setxattr(in_root("out").c_str(), "user.test", "v", 1, 0) != 0)
    GTEST_SKIP() << "no user attributes on the temporary file system";
  EXPECT_EQ(replaced(0644 | kReplacedBlind).text, "");
}

TEST_F(ReplacedTest, OwnOnlyAsItWasLeft) {
  write_file(in_root("out"), "x", 0640);
  store_->remember_own({}, root_, "out", Stamp::of(stat_of(in_root("out"))));
  FactValue own;
  own.text = "own";
  own.mode = 0640;
  EXPECT_EQ(replaced(0644), own);
  // By whichever command: a parent's hit leaves its children's outputs too.
  EXPECT_EQ(observer_->observe({FactKind::kReplaced, {"out"}, 0644, {}}, Digest{9, 9}), own);
  write_file(in_root("out"), "yy", 0640);
  const FactValue foreign = replaced(0644);
  EXPECT_EQ(foreign.text, "");
  EXPECT_EQ(foreign.size, 2u);
  EXPECT_NE(foreign.mtime_ns, 0);
}

}  // namespace
}  // namespace pcache::store
