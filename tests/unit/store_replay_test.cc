#include <sys/xattr.h>

#include <cerrno>
#include <map>
#include <set>

#include "store/journal.h"
#include "store/replay.h"
#include "store_testing.h"

namespace pcache::store {
namespace {

// A LowerTree that notes what it is told and can pretend to serve files.
class NotingTree : public LowerTree {
 public:
  using LowerTree::LowerTree;
  std::optional<Digest> served_digest(const std::string& rel) const override {
    const auto it = served.find(rel);
    return it == served.end() ? std::nullopt : std::optional<Digest>(it->second);
  }
  int stat(const std::string& rel, struct stat* st) const override {
    if (!served.contains(rel)) return LowerTree::stat(rel, st);
    *st = {};
    st->st_mode = S_IFREG | 0640;
    st->st_size = static_cast<off_t>(sizes.at(rel));
    st->st_mtim.tv_sec = 4000;
    return 0;
  }
  int publish(const std::string& rel) override {
    const auto it = served.find(rel);
    if (it == served.end()) return 0;
    write_file(root() + "/" + rel, published, 0640);
    served.erase(it);
    return 0;
  }
  bool drop_served(const std::string& rel) override { return served.erase(rel) > 0; }
  int serve(const std::string& rel, const Digest& blob, UniqueFd, uint64_t size, mode_t) override {
    if (!serves) return ENOTSUP;
    EXPECT_FALSE(std::filesystem::exists(root() + "/" + rel)) << "the name must be free";
    served[rel] = blob;
    sizes[rel] = size;
    return 0;
  }
  void invalidate(const std::string& rel) override { invalidated.insert(rel); }

  bool serves = false;
  std::map<std::string, Digest> served;
  std::map<std::string, uint64_t> sizes;
  std::set<std::string> invalidated;
  std::string published;
};

class ReplayTest : public StoreTest {
 protected:
  void SetUp() override {
    StoreTest::SetUp();
    noting_ = std::make_unique<NotingTree>(
        root_, UniqueFd(open(root_.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC)));
    observer_ = std::make_unique<Observer>(*noting_, *store_);
    umask(022);
  }

  Effect effect(EffectKind kind, const std::string& path, uint32_t mode = 0644) {
    Effect e;
    e.kind = kind;
    e.path = {path};
    e.mode = mode;
    return e;
  }
  Effect file(const std::string& path, const std::string& content, uint32_t mode = 0644) {
    Effect e = effect(EffectKind::kFile, path, mode);
    e.size = content.size();
    e.blob = put_blob(content);
    return e;
  }
  Effect in_place(const std::string& path, const std::string& content, uint32_t mode = 0644) {
    Effect e = file(path, content, mode);
    e.in_place = true;
    return e;
  }
  // Cannot be applied: its parent is a file.
  Effect impossible() {
    write_file(in_root("plain"), "");
    return file("plain/x", "y");
  }
  Result<ReplayResult> apply(std::vector<Effect> effects) {
    Record record;
    record.effects = std::move(effects);
    return apply_effects(record, *observer_);
  }
  ReplayResult apply_well(std::vector<Effect> effects) {
    Result<ReplayResult> result = apply(std::move(effects));
    EXPECT_TRUE(result) << result.error().to_string();
    return result ? *result : ReplayResult{};
  }

  std::unique_ptr<NotingTree> noting_;
};

TEST_F(ReplayTest, WritesANewFileWithItsModeAndTheKernelsTime) {
  const int64_t before = realtime_ns() - 50'000'000;
  umask(077);
  const ReplayResult result = apply_well({file("a.o", "object", 0664), file("t", "tool", 0755)});
  umask(022);
  EXPECT_EQ(read_file(in_root("a.o")), "object");
  EXPECT_EQ(stat_of(in_root("a.o")).st_mode, S_IFREG | 0664u);
  EXPECT_EQ(stat_of(in_root("t")).st_mode, S_IFREG | 0755u);
  EXPECT_GE(Stamp::of(stat_of(in_root("a.o"))).mtime_ns, before);
  EXPECT_LE(Stamp::of(stat_of(in_root("a.o"))).mtime_ns, realtime_ns());
  ASSERT_EQ(result.applied.size(), 2u);
  EXPECT_TRUE(result.applied[0].present);
  EXPECT_EQ(Stamp::of(result.applied[0].st), Stamp::of(stat_of(in_root("a.o"))));
  EXPECT_EQ(result.bytes_written, 10u);
  EXPECT_EQ(noting_->invalidated, (std::set<std::string>{"a.o", "t"}));
}

TEST_F(ReplayTest, ReplacesByUnlinkingUnlessInPlace) {
  write_file(in_root("a"), "old");
  write_file(in_root("b"), "a longer old one");
  ASSERT_EQ(link(in_root("a").c_str(), in_root("a2").c_str()), 0);
  ASSERT_EQ(link(in_root("b").c_str(), in_root("b2").c_str()), 0);
  apply_well({file("a", "new"), in_place("b", "new")});
  EXPECT_EQ(read_file(in_root("a")), "new");
  EXPECT_EQ(read_file(in_root("a2")), "old");
  EXPECT_EQ(read_file(in_root("b2")), "new");
  EXPECT_EQ(stat_of(in_root("b")).st_ino, stat_of(in_root("b2")).st_ino);
}

TEST_F(ReplayTest, InPlaceCreatesWhatIsAbsent) {
  apply_well({in_place("a", "new", 0600)});
  EXPECT_EQ(read_file(in_root("a")), "new");
  EXPECT_EQ(stat_of(in_root("a")).st_mode & 07777, 0600u);
}

TEST_F(ReplayTest, ReplacesALinkItselfNotWhatItLeadsTo) {
  write_file(in_root("target"), "old");
  std::filesystem::create_symlink("target", in_root("link"));
  apply_well({file("link", "new")});
  EXPECT_EQ(read_file(in_root("target")), "old");
  EXPECT_TRUE(S_ISREG(stat_of(in_root("link")).st_mode));
}

TEST_F(ReplayTest, EveryKindOfEffect) {
  write_file(in_root("gone"), "x");
  write_file(in_root("meta"), "x", 0644);
  write_file(in_root("touched"), "x");
  std::filesystem::create_directory(in_root("gone_dir"));
  set_mtime(in_root("touched"), 1000);
  Effect link = effect(EffectKind::kSymlink, "d/link");
  link.text = "../gone";
  Effect hard = effect(EffectKind::kHardLink, "d/hard");
  hard.text = "d/file";
  Effect meta = effect(EffectKind::kMeta, "meta", 0751);
  meta.set_mode = true;
  const ReplayResult result =
      apply_well({effect(EffectKind::kMakeDir, "d", 0750), file("d/file", "f"), link, hard,
                  effect(EffectKind::kFifo, "d/fifo", 0622), effect(EffectKind::kRemove, "gone"),
                  effect(EffectKind::kRemoveDir, "gone_dir"), meta,
                  effect(EffectKind::kTouch, "touched"), effect(EffectKind::kOffset, "")});
  EXPECT_EQ(stat_of(in_root("d")).st_mode, S_IFDIR | 0750u);
  EXPECT_EQ(std::filesystem::read_symlink(in_root("d/link")), "../gone");
  EXPECT_EQ(stat_of(in_root("d/hard")).st_ino, stat_of(in_root("d/file")).st_ino);
  EXPECT_EQ(stat_of(in_root("d/fifo")).st_mode, S_IFIFO | 0622u);
  EXPECT_FALSE(std::filesystem::exists(in_root("gone")));
  EXPECT_FALSE(std::filesystem::exists(in_root("gone_dir")));
  EXPECT_EQ(stat_of(in_root("meta")).st_mode & 07777, 0751u);
  EXPECT_GT(stat_of(in_root("touched")).st_mtim.tv_sec, 1000);
  EXPECT_EQ(read_file(in_root("touched")), "x");
  ASSERT_EQ(result.applied.size(), 9u);
  EXPECT_EQ(result.applied[5].path.text, "gone");
  EXPECT_FALSE(result.applied[5].present);
  // The link count of a file changes with its second name.
  EXPECT_EQ(result.applied[1].st.st_nlink, 2u);
}

TEST_F(ReplayTest, RemovingWhatIsGoneAlreadyIsFine) {
  apply_well({effect(EffectKind::kRemove, "gone")});
}

TEST_F(ReplayTest, NeverRemovesADirectoryThatIsNotEmpty) {
  write_file(in_root("d/mine"), "x");
  EXPECT_FALSE(apply({effect(EffectKind::kRemoveDir, "d")}));
  EXPECT_FALSE(apply({effect(EffectKind::kRemove, "d")}));
  EXPECT_FALSE(apply({file("d", "x")}));
  EXPECT_EQ(read_file(in_root("d/mine")), "x");
}

TEST_F(ReplayTest, ExplicitTimesComeLastAndADirectoryAfterItsContents) {
  Effect dir = effect(EffectKind::kMakeDir, "d", 0555);
  dir.mtime_ns = 1000'000'000'001;
  Effect inner = file("d/a", "x");
  inner.mtime_ns = 2000'000'000'002;
  inner.atime_ns = 3000'000'000'003;
  apply_well({dir, inner, effect(EffectKind::kMakeDir, "d/sub", 0500), file("d/sub/b", "y")});
  EXPECT_EQ(stat_of(in_root("d")).st_mtim.tv_sec, 1000);
  EXPECT_EQ(stat_of(in_root("d")).st_mtim.tv_nsec, 1);
  EXPECT_EQ(stat_of(in_root("d")).st_mode & 07777, 0555u);
  EXPECT_EQ(stat_of(in_root("d/sub")).st_mode & 07777, 0500u);
  EXPECT_EQ(stat_of(in_root("d/a")).st_mtim.tv_sec, 2000);
  EXPECT_EQ(stat_of(in_root("d/a")).st_atim.tv_sec, 3000);
}

TEST_F(ReplayTest, TimesBefore1970) {
  Effect old = file("a", "x");
  old.mtime_ns = -1;
  apply_well({old});
  EXPECT_EQ(Stamp::of(stat_of(in_root("a"))).mtime_ns, -1);
}

TEST_F(ReplayTest, ExtendedAttributesAndOwners) {
  write_file(in_root("old"), "x");
  if (setxattr(in_root("old").c_str(), "user.gone", "v", 1, 0) != 0)
    GTEST_SKIP() << "no user attributes on the temporary file system";
  Effect made = file("a", "x", 04755);
  made.xattrs = {{"user.a", "v"}};
  made.uid = geteuid();
  made.gid = getegid();
  Effect meta = effect(EffectKind::kMeta, "old");
  meta.removed_xattrs = {"user.gone", "user.never"};
  apply_well({made, meta});
  char value[8];
  EXPECT_EQ(getxattr(in_root("a").c_str(), "user.a", value, sizeof value), 1);
  EXPECT_EQ(stat_of(in_root("a")).st_mode & 07777, 04755u);
  EXPECT_EQ(getxattr(in_root("old").c_str(), "user.gone", value, sizeof value), -1);
}

TEST_F(ReplayTest, OutputsOutsideTheTree) {
  const std::string outside = dir_.path() + "/outside";
  apply_well({file(outside, "x")});
  EXPECT_EQ(read_file(outside), "x");
  EXPECT_TRUE(noting_->invalidated.empty());
}

TEST_F(ReplayTest, ALostBlobStopsItBeforeAnythingIsChanged) {
  write_file(in_root("a"), "old");
  Effect lost = effect(EffectKind::kFile, "b");
  lost.blob = {1, 2};
  lost.size = 3;
  const Result<ReplayResult> result = apply({file("a", "new"), lost});
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().kind, ErrorKind::kNotFound);
  EXPECT_EQ(read_file(in_root("a")), "old");
  EXPECT_TRUE(noting_->invalidated.empty());

  Record streams;
  streams.effects = {file("a", "new")};
  streams.streams = {{1, 3}};
  streams.stream_blob = {4, 5};
  EXPECT_FALSE(apply_effects(streams, *observer_));
  EXPECT_EQ(read_file(in_root("a")), "old");
}

// What a person can see of a tree: kinds, modes, owners, contents, times of files, attributes.
std::map<std::string, std::string> snapshot(const std::string& root) {
  std::map<std::string, std::string> out;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(root)) {
    const std::string path = entry.path();
    const struct stat st = stat_of(path);
    std::string text = std::to_string(st.st_mode) + " " + std::to_string(st.st_uid) + ":" +
                       std::to_string(st.st_gid) + " " + std::to_string(st.st_nlink);
    if (S_ISREG(st.st_mode)) text += " " + read_file(path);
    if (S_ISLNK(st.st_mode)) text += " " + std::filesystem::read_symlink(path).string();
    if (!S_ISDIR(st.st_mode)) text += " " + std::to_string(Stamp::of(st).mtime_ns);
    Xattrs xattrs;
    const UniqueFd fd(open(path.c_str(), O_PATH | O_NOFOLLOW));
    if (!S_ISLNK(st.st_mode)) read_xattrs(fd.get(), &xattrs);
    for (const auto& [name, value] : xattrs) text += " " + name + "=" + value;
    out[path.substr(root.size() + 1)] = text;
  }
  return out;
}

TEST_F(ReplayTest, AFailureHalfWayIsUndoneCompletely) {
  const Effect last = impossible();
  const std::string large(300 * 1024, 'l');
  write_file(in_root("replaced"), "old content", 0751);
  write_file(in_root("linked"), "linked", 0604);
  ASSERT_EQ(link(in_root("linked").c_str(), in_root("linked2").c_str()), 0);
  write_file(in_root("rewritten"), large, 0640);
  write_file(in_root("removed"), "removed");
  write_file(in_root("touched"), "touched");
  write_file(in_root("meta"), "meta", 0600);
  (void)setxattr(in_root("meta").c_str(), "user.keep", "v", 1, 0);
  (void)setxattr(in_root("replaced").c_str(), "user.keep", "v", 1, 0);
  std::filesystem::create_directory(in_root("removed_dir"));
  ASSERT_EQ(chmod(in_root("removed_dir").c_str(), 0711), 0);
  std::filesystem::create_symlink("somewhere", in_root("link"));
  ASSERT_EQ(mkfifo(in_root("fifo").c_str(), 0620), 0);
  int64_t time = 1000;
  for (const char* name :
       {"replaced", "linked", "rewritten", "removed", "touched", "meta", "link", "fifo"}) {
    set_mtime(in_root(name), ++time, 17);
  }
  const auto before = snapshot(root_);
  const ino_t inode = stat_of(in_root("linked2")).st_ino;

  Effect meta = effect(EffectKind::kMeta, "meta", 0644);
  meta.set_mode = true;
  meta.mtime_ns = 5;
  meta.xattrs = {{"user.new", "w"}, {"user.keep", "changed"}};
  Effect link = effect(EffectKind::kSymlink, "link");
  link.text = "elsewhere";
  Effect hard = effect(EffectKind::kHardLink, "hard");
  hard.text = "touched";
  const Result<ReplayResult> result =
      apply({file("replaced", "new"), file("linked", "new"), in_place("rewritten", "new", 0600),
             effect(EffectKind::kRemove, "removed"), effect(EffectKind::kTouch, "touched"), meta,
             link, hard, file("fifo", "no fifo any more"), effect(EffectKind::kMakeDir, "new_dir"),
             file("new_dir/new", "x"), effect(EffectKind::kRemoveDir, "removed_dir"),
             effect(EffectKind::kMakeDir, "removed_dir"), file("removed_dir/x", "x"), last});
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().sys_errno, ENOTDIR);
  EXPECT_NE(result.error().to_string().find("plain/x"), std::string::npos);
  EXPECT_EQ(snapshot(root_), before);
  EXPECT_EQ(stat_of(in_root("linked")).st_ino, inode);
  EXPECT_TRUE(noting_->invalidated.contains("replaced"));
}

TEST_F(ReplayTest, LargeOutputsAreServed) {
  noting_->serves = true;
  const std::string large((1 << 20) + 1, 'x');
  write_file(in_root("large"), "old");
  write_file(in_root("in_place"), "old");
  Effect timed = file("timed", large);
  timed.mtime_ns = 5;
  const ReplayResult result =
      apply_well({file("large", large), in_place("in_place", large), timed, file("small", "x")});
  EXPECT_EQ(result.bytes_served, large.size());
  EXPECT_EQ(result.bytes_written, 2 * large.size() + 1);
  EXPECT_TRUE(noting_->served.contains("large"));
  EXPECT_EQ(read_file(in_root("in_place")), large);
  EXPECT_EQ(read_file(in_root("timed")), large);
  EXPECT_TRUE(result.applied[0].present);
}

TEST_F(ReplayTest, ServesOnceASkipHasWrittenEnough) {
  noting_->serves = true;
  std::vector<Effect> effects;
  for (int i = 0; i < 6; ++i) {
    effects.push_back(
        file("f" + std::to_string(i), std::string(1 << 20, static_cast<char>('a' + i))));
  }
  const ReplayResult result = apply_well(effects);
  EXPECT_EQ(result.bytes_written, 4u << 20);
  EXPECT_EQ(result.bytes_served, 2u << 20);
}

TEST_F(ReplayTest, WritesAtOnceWhatCannotBeServed) {
  const std::string large(3 << 20, 'x');
  const ReplayResult result = apply_well({file("large", large)});
  EXPECT_EQ(read_file(in_root("large")), large);
  EXPECT_EQ(result.bytes_written, large.size());
}

TEST_F(ReplayTest, ServedNamesAreDroppedOrPublishedFirst) {
  noting_->serves = true;
  noting_->published = "published";
  for (const char* name : {"replaced", "removed", "meta", "source"}) {
    noting_->served[name] = put_blob("published");
    noting_->sizes[name] = 9;
  }
  Effect meta = effect(EffectKind::kMeta, "meta", 0600);
  meta.set_mode = true;
  Effect hard = effect(EffectKind::kHardLink, "hard");
  hard.text = "source";
  apply_well({file("replaced", "new"), effect(EffectKind::kRemove, "removed"), meta, hard});
  EXPECT_TRUE(noting_->served.empty());
  EXPECT_EQ(read_file(in_root("replaced")), "new");
  EXPECT_FALSE(std::filesystem::exists(in_root("removed")));
  EXPECT_EQ(stat_of(in_root("meta")).st_mode & 07777, 0600u);
  EXPECT_EQ(read_file(in_root("hard")), "published");
}

TEST_F(ReplayTest, UndoBringsServedFilesBackAndTakesNewOnesAway) {
  noting_->serves = true;
  noting_->published = "published";
  noting_->served["replaced"] = put_blob("published");
  noting_->sizes["replaced"] = 9;
  const std::string large((1 << 20) + 1, 'x');
  EXPECT_FALSE(apply({file("replaced", "new"), file("large", large), impossible()}));
  EXPECT_TRUE(noting_->served.empty());
  EXPECT_EQ(read_file(in_root("replaced")), "published");
  EXPECT_EQ(stat_of(in_root("replaced")).st_mtim.tv_sec, 4000);
  EXPECT_FALSE(std::filesystem::exists(in_root("large")));
}

TEST_F(ReplayTest, ManyOutputsInManyDirectories) {
  std::vector<Effect> effects;
  for (int d = 0; d < 100; ++d) {
    const std::string dir = "d" + std::to_string(d);
    effects.push_back(effect(EffectKind::kMakeDir, dir, 0755));
    for (int f = 0; f < 5; ++f) {
      effects.push_back(file(dir + "/f" + std::to_string(f), dir + std::to_string(f)));
    }
  }
  apply_well(effects);
  EXPECT_EQ(read_file(in_root("d99/f4")), "d994");
  // Again, over what is there: nothing may be left open.
  const auto descriptors = [] {
    return std::distance(std::filesystem::directory_iterator("/proc/self/fd"), {});
  };
  std::erase_if(effects, [](const Effect& e) { return e.kind == EffectKind::kMakeDir; });
  const auto open_before = descriptors();
  apply_well(effects);
  EXPECT_EQ(descriptors(), open_before);
}

}  // namespace
}  // namespace pcache::store
