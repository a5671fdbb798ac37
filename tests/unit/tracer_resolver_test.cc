#include "tracer/resolver.h"
#include "tracer_testing.h"

namespace pcache::tracer {
namespace {

using std::filesystem::create_directories;
using std::filesystem::create_symlink;
using std::filesystem::rename;

constexpr pid_t kPid = 4711;

class ResolverTest : public store::StoreTest {
 protected:
  void SetUp() override {
    StoreTest::SetUp();
    resolver_ = std::make_unique<Resolver>(*observer_);
  }
  void TearDown() override {
    resolver_.reset();
    StoreTest::TearDown();
  }
  Resolved follow(const std::string& path) { return resolver_->resolve(root_, path, true, kPid); }
  Resolved no_follow(const std::string& path) {
    return resolver_->resolve(root_, path, false, kPid);
  }
  static std::vector<std::string> links(const Resolved& resolved) {
    std::vector<std::string> texts;
    for (const CrossedLink& link : resolved.links)
      texts.push_back(link.path.text + " -> " + link.target);
    return texts;
  }
  using Texts = std::vector<std::string>;

  std::unique_ptr<Resolver> resolver_;
};

TEST_F(ResolverTest, RelativeAndAbsoluteNamesAreOnePath) {
  write_file(in_root("d/a"), "x");
  for (const std::string& name : {std::string("d/a"), std::string("./d//./a"), in_root("d/a"),
                                  in_root("d/../d/a"), std::string("../root/d/a")}) {
    const Resolved at = follow(name);
    EXPECT_EQ(at.err, 0) << name;
    EXPECT_EQ(at.path.text, "d/a") << name;
    EXPECT_TRUE(S_ISREG(at.st.st_mode)) << name;
    EXPECT_TRUE(at.links.empty()) << name;
  }
}

TEST_F(ResolverTest, StartsFromTheBaseThatIsGiven) {
  write_file(in_root("d/e/a"), "x");
  EXPECT_EQ(resolver_->resolve(in_root("d"), "e/a", true, kPid).path.text, "d/e/a");
  EXPECT_EQ(resolver_->resolve(in_root("d/e"), "../../d", true, kPid).path.text, "d");
  EXPECT_EQ(resolver_->resolve("/", "etc/passwd", true, kPid).path.text, "/etc/passwd");
}

TEST_F(ResolverTest, TheRootAndWhatLiesOutside) {
  EXPECT_EQ(follow(".").path.text, "");
  EXPECT_EQ(follow(root_ + "/").path.text, "");
  EXPECT_TRUE(S_ISDIR(follow(".").st.st_mode));
  EXPECT_EQ(follow("..").path.text, dir_.path());
  EXPECT_EQ(follow("/").path.text, "/");
  EXPECT_EQ(follow("/..").path.text, "/");
  EXPECT_EQ(follow(root_ + "x").path.text, root_ + "x");
}

TEST_F(ResolverTest, TellsTheLinksItCrossed) {
  write_file(in_root("real/a"), "x");
  create_symlink("real", in_root("dir"));
  create_symlink("dir/a", in_root("file"));
  create_symlink(in_root("file"), in_root("absolute"));
  const Resolved at = follow("absolute");
  EXPECT_EQ(at.path.text, "real/a");
  EXPECT_EQ(links(at), (Texts{"absolute -> " + in_root("file"), "file -> dir/a", "dir -> real"}));
}

TEST_F(ResolverTest, TheLastLinkIsCrossedOnlyWhereTheCallFollows) {
  write_file(in_root("real/a"), "x");
  create_symlink("real", in_root("dir"));
  create_symlink("a", in_root("real/l"));
  const Resolved at = no_follow("dir/l");
  EXPECT_EQ(at.path.text, "real/l");
  EXPECT_TRUE(S_ISLNK(at.st.st_mode));
  EXPECT_EQ(links(at), Texts{"dir -> real"});
  // Once more, with everything on the way known.
  EXPECT_EQ(follow("dir/l").path.text, "real/a");
  EXPECT_TRUE(S_ISLNK(no_follow("dir/l").st.st_mode));
  EXPECT_EQ(no_follow("dir").path.text, "dir");
  EXPECT_TRUE(S_ISLNK(no_follow("dir").st.st_mode));
}

TEST_F(ResolverTest, DotDotLeavesTheDirectoryThatALinkLedTo) {
  write_file(in_root("one/two/x"), "");
  write_file(in_root("one/a"), "x");
  create_symlink("one/two", in_root("l"));
  const Resolved at = follow("l/../a");
  EXPECT_EQ(at.path.text, "one/a");
  ASSERT_EQ(at.left_directories.size(), 1u);
  EXPECT_EQ(at.left_directories[0].text, "one/two");
}

TEST_F(ResolverTest, DotDotOfWhatIsNotThereFails) {
  write_file(in_root("a"), "x");
  EXPECT_EQ(follow("none/../a").err, ENOENT);
  EXPECT_EQ(follow("a/../a").err, ENOTDIR);
}

TEST_F(ResolverTest, AbsenceKeepsTheRestOfTheName) {
  create_directories(in_root("d"));
  const Resolved last = follow("d/none");
  EXPECT_EQ(last.err, ENOENT);
  EXPECT_EQ(last.path.text, "d/none");
  const Resolved early = follow("none/x/y");
  EXPECT_EQ(early.err, ENOENT);
  EXPECT_EQ(early.path.text, "none/x/y");
}

TEST_F(ResolverTest, AFileIsNoDirectory) {
  write_file(in_root("a"), "x");
  EXPECT_EQ(follow("a/b").err, ENOTDIR);
  EXPECT_EQ(follow("a/").err, ENOTDIR);
  EXPECT_EQ(follow("a").err, 0);
}

TEST_F(ResolverTest, ADanglingLinkIsAbsentWhereItLeads) {
  create_symlink("nowhere", in_root("l"));
  const Resolved at = follow("l");
  EXPECT_EQ(at.err, ENOENT);
  EXPECT_EQ(at.path.text, "nowhere");
  EXPECT_EQ(links(at), Texts{"l -> nowhere"});
  EXPECT_EQ(no_follow("l").err, 0);
}

TEST_F(ResolverTest, LoopsEnd) {
  create_symlink("two", in_root("one"));
  create_symlink("one", in_root("two"));
  create_symlink("self/x", in_root("self"));
  EXPECT_EQ(follow("one").err, ELOOP);
  EXPECT_EQ(follow("one/a").err, ELOOP);
  EXPECT_EQ(follow("self").err, ELOOP);
  EXPECT_EQ(no_follow("one").err, 0);
}

TEST_F(ResolverTest, FortyLinksAreNotTooMany) {
  write_file(in_root("l0"), "x");
  for (int i = 1; i <= 41; ++i)
    create_symlink("l" + std::to_string(i - 1), in_root("l" + std::to_string(i)));
  EXPECT_EQ(follow("l40").err, 0);
  EXPECT_EQ(follow("l41").err, ELOOP);
}

TEST_F(ResolverTest, ATrailingSlashFollowsALinkToADirectory) {
  create_directories(in_root("real"));
  create_symlink("real", in_root("l"));
  const Resolved at = no_follow("l/");
  EXPECT_EQ(at.path.text, "real");
  EXPECT_EQ(links(at), Texts{"l -> real"});
  EXPECT_TRUE(at.trailing_slash);
  EXPECT_EQ(no_follow("none/").err, ENOENT);
}

// lstat("l/.") is that of the directory, and depends on where the link leads.
TEST_F(ResolverTest, ATrailingDotFollowsALinkToADirectory) {
  create_directories(in_root("real"));
  create_symlink("real", in_root("l"));
  write_file(in_root("a"), "x");
  const Resolved at = no_follow("l/.");
  EXPECT_EQ(at.path.text, "real");
  EXPECT_EQ(links(at), Texts{"l -> real"});
  EXPECT_EQ(follow("a/.").err, ENOTDIR);
}

TEST_F(ResolverTest, BelowProcNothingIsResolved) {
  for (const std::string& name :
       {std::string("/proc/self/maps"), "/proc/" + std::to_string(kPid) + "/maps",
        std::string("/proc/thread-self/maps"), std::string("/proc//self/./maps")}) {
    const Resolved at = follow(name);
    EXPECT_TRUE(at.pseudo) << name;
    EXPECT_EQ(at.path.text, "/proc/self/maps") << name;
  }
  EXPECT_EQ(follow("/proc/1/maps").path.text, "/proc/1/maps");
  EXPECT_EQ(follow("/dev/fd/0").path.text, "/proc/self/fd/0");
  EXPECT_EQ(follow("/dev/stdin").path.text, "/proc/self/fd/0");
  EXPECT_EQ(links(follow("/dev/stdin")), Texts{"/dev/stdin -> /proc/self/fd/0"});
}

// `[ -d /proc ]`, as many scripts ask: the directory itself is like any other.
TEST_F(ResolverTest, ProcItselfIsADirectory) {
  const Resolved at = follow("/proc");
  EXPECT_EQ(at.path.text, "/proc");
  EXPECT_EQ(at.err, 0);
  EXPECT_TRUE(S_ISDIR(at.st.st_mode));
}

TEST_F(ResolverTest, DotDotLeavesProcAgain) {
  EXPECT_FALSE(follow("/proc/../etc/passwd").pseudo);
  EXPECT_EQ(follow("/proc/../etc/passwd").path.text, "/etc/passwd");
}

// The second time a directory's name is known to lead somewhere, or nowhere.
TEST_F(ResolverTest, TheSecondTimeIsAsTheFirst) {
  write_file(in_root("d/e/a"), "x");
  write_file(in_root("d/b"), "x");
  create_symlink("e", in_root("d/to_e"));
  create_symlink("../b", in_root("d/e/to_b"));
  create_symlink(in_root("d"), in_root("to_d"));
  create_symlink("nowhere", in_root("dangling"));
  const Texts names = {
      "d/e/a",         "d/to_e/a",    "d/to_e/to_b",     "to_d/e/../b",    "to_d/to_e/../to_e/a",
      "d/none/x/y",    "to_d/none/x", "d/e/none",        "dangling/x",     "d/b/x",
      "/etc/none/x/y", "/etc/passwd", "/proc/self/none", in_root("d/e/a"), "d/e/",
      "d/to_e",        "none",        "d/none/../b",     "../root/d/b"};
  const auto same = [&](const Resolved& one, const Resolved& other, const std::string& name) {
    EXPECT_EQ(one.path.text, other.path.text) << name;
    EXPECT_EQ(one.err, other.err) << name;
    EXPECT_EQ(one.missing.text, other.missing.text) << name;
    EXPECT_EQ(one.names_root, other.names_root) << name;
    EXPECT_EQ(one.pseudo, other.pseudo) << name;
    EXPECT_EQ(links(one), links(other)) << name;
    EXPECT_EQ(one.left_directories, other.left_directories) << name;
    if (one.err == 0 && !one.pseudo) {
      EXPECT_EQ(one.st.st_ino, other.st.st_ino) << name;
    }
  };
  const auto compare = [&] {
    for (const bool following : {true, false})
      for (const std::string& name : names) {
        Resolver fresh(*observer_);
        const Resolved expected = fresh.resolve(root_, name, following, kPid);
        for (int i = 0; i < 3; ++i)
          same(resolver_->resolve(root_, name, following, kPid), expected, name);
        // Another name in the same directory is on the same way.
        same(resolver_->resolve(root_, name + "2", following, kPid),
             Resolver(*observer_).resolve(root_, name + "2", following, kPid), name + "2");
      }
  };
  compare();
  create_directories(in_root("d/none/x"));
  compare();
  create_directories(in_root("nowhere"));
  compare();
  EXPECT_NE(follow("d/e/a").way, 0u);
  EXPECT_EQ(follow("d/e/a").way, follow("d/e/b").way);
  EXPECT_NE(follow("d/e/a").way, follow("d/to_e/a").way);
  EXPECT_EQ(follow("d/e/to_b").way, 0u) << "a link of its own is crossed";
}

TEST_F(ResolverTest, AWayThatLedNowhereLeadsSomewhereWhenItsDirectoryHasCome) {
  EXPECT_EQ(follow("none/a").err, ENOENT);
  EXPECT_EQ(follow("none/a").missing.text, "none");
  write_file(in_root("none/a"), "x");
  EXPECT_EQ(follow("none/a").err, 0);
  EXPECT_EQ(follow("none/b").missing.text, "none/b");
}

TEST_F(ResolverTest, OwnChangesDropWhatWasKnown) {
  write_file(in_root("one/a"), "x");
  write_file(in_root("two/a"), "y");
  create_symlink("one", in_root("l"));
  EXPECT_EQ(follow("l/a").path.text, "one/a");
  std::filesystem::remove(in_root("l"));
  create_symlink("two", in_root("l"));
  resolver_->changed({"l"});
  EXPECT_EQ(follow("l/a").path.text, "two/a");

  rename(in_root("two"), in_root("three"));
  resolver_->changed({"two"});
  resolver_->changed({"three"});
  EXPECT_EQ(follow("l/a").err, ENOENT);
  EXPECT_EQ(follow("three/a").err, 0);
}

TEST_F(ResolverTest, ADirectoryThatBecameALinkIsSeenWhenToldOfIt) {
  write_file(in_root("d/sub/a"), "x");
  write_file(in_root("e/sub/a"), "y");
  EXPECT_EQ(follow("d/sub/a").err, 0);
  rename(in_root("d"), in_root("old"));
  create_symlink("e", in_root("d"));
  resolver_->changed({"d"});
  const Resolved at = follow("d/sub/a");
  EXPECT_EQ(at.path.text, "e/sub/a");
  EXPECT_EQ(links(at), Texts{"d -> e"});
}

// By another session or an editor: nobody tells the resolver. What the caller sees is the new file,
// and an answer like "ELOOP" would be true again at every later look, so that nobody notices.
TEST_F(ResolverTest, ADirectoryThatSomebodyElseMadeALinkIsSeen) {
  write_file(in_root("d/sub/a"), "x");
  write_file(in_root("e/sub/a"), "y");
  EXPECT_EQ(follow("d/sub/a").err, 0);
  rename(in_root("d"), in_root("old"));
  create_symlink("e", in_root("d"));
  const Resolved at = follow("d/sub/a");
  EXPECT_EQ(at.err, 0);
  EXPECT_EQ(at.path.text, "e/sub/a");
}

TEST_F(ResolverTest, ADirectoryThatSomebodyElseRemovedIsGone) {
  write_file(in_root("d/sub/a"), "x");
  EXPECT_EQ(follow("d/sub/a").err, 0);
  std::filesystem::remove_all(in_root("d"));
  EXPECT_EQ(follow("d/sub/a").err, ENOENT);
}

}  // namespace
}  // namespace pcache::tracer
