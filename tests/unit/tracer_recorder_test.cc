// From what the ledger knows to a record, and from the record to a hit.
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "store/replay.h"
#include "tracer/lookup.h"
#include "tracer/recorder.h"
#include "tracer_testing.h"

namespace pcache::tracer {
namespace {

using store::Effect;
using store::EffectKind;
using store::Record;

class RecorderTest : public LedgerTest {
 protected:
  void SetUp() override {
    LedgerTest::SetUp();
    spool_ = std::make_unique<Spool>(dir_.path());
    recorder_ = std::make_unique<Recorder>(*ledger_, *spool_);
  }
  void TearDown() override {
    recorder_.reset();
    LedgerTest::TearDown();
  }

  Execution& start(uint64_t command = 1) {
    Execution& e = open();
    e.weak.digest = {9, command};
    e.weak.command = {10, command};
    return e;
  }
  std::shared_ptr<const Record> finish(Execution& e) {
    recorder_->record(e);
    EXPECT_TRUE(e.recorded) << (e.refusals.empty() ? ""
                                                   : e.refusals[0].code + " " + e.refusals[0].path);
    return look_up_again(e);
  }
  std::shared_ptr<const Record> look_up_again(const Execution& e) {
    const auto candidates = store_->candidates(e.weak.digest);
    if (!candidates || candidates->empty()) return nullptr;
    const auto record = store_->record((*candidates)[0].strong);
    return record ? *record : nullptr;
  }
  LookupResult look_up_now(const Execution& e) {
    Process process;
    return look_up(e, process, *observer_, true);
  }
  void write_stream(Execution& e, uint32_t fd, const std::string& bytes) {
    const int64_t offset = spool_->append(bytes);
    ASSERT_GE(offset, 0);
    e.streams.push_back({fd, static_cast<uint64_t>(offset), bytes.size()});
  }
  static Names effects(const Record& record) {
    Names texts;
    for (const Effect& effect : record.effects)
      texts.push_back(std::to_string(static_cast<int>(effect.kind)) + " " + effect.path.text);
    return texts;
  }
  static std::string kind(EffectKind kind, const std::string& path) {
    return std::to_string(static_cast<int>(kind)) + " " + path;
  }

  std::unique_ptr<Spool> spool_;
  std::unique_ptr<Recorder> recorder_;
};

// What is newer than another file, as make compares them, is newer again.
TEST_F(RecorderTest, AFileComesWhenItWasWrittenNotWhenItsModeWasSet) {
  Execution& e = start();
  create(e, "first", "1");
  let_stamps_age();
  create(e, "second", "2");
  change_mode(e, "first", 0755);
  const auto record = finish(e);
  ASSERT_NE(record, nullptr);
  EXPECT_EQ(effects(*record),
            (Names{kind(EffectKind::kFile, "first"), kind(EffectKind::kFile, "second")}));
}

// It was written elsewhere before its directory was made, and was renamed.
TEST_F(RecorderTest, AFileComesAfterItsDirectory) {
  Execution& e = start();
  create(e, "temporary", "1");
  let_stamps_age();
  make_dir(e, "made");
  remove(e, "temporary");
  change(e, ChangeKind::kMoveOnto, "made/file", [&] {
    write_file(in_root("made/file"), "1");
    const timespec old[2] = {{1'000'000'000, 0}, {1'000'000'000, 0}};
    ::utimensat(AT_FDCWD, in_root("made/file").c_str(), old, 0);
  });
  const auto record = finish(e);
  ASSERT_NE(record, nullptr);
  EXPECT_EQ(effects(*record),
            (Names{kind(EffectKind::kMakeDir, "made"), kind(EffectKind::kFile, "made/file")}));
}

TEST_F(RecorderTest, ACommandHitsAgainAndLeavesTheSame) {
  write_file(in_root("in"), "input");
  let_stamps_age();
  Execution& e = start();
  look_content(e, "in");
  create(e, "out", "output");
  write_stream(e, 1, "done\n");
  e.status = 3 << 8;
  const auto record = finish(e);
  ASSERT_NE(record, nullptr);
  EXPECT_EQ(record->exit_status, 3);
  EXPECT_EQ(record->stream_bytes, "done\n");
  EXPECT_EQ(effects(*record), Names{kind(EffectKind::kFile, "out")});

  std::filesystem::remove(in_root("out"));
  const LookupResult hit = look_up_now(e);
  ASSERT_NE(hit.record, nullptr);
  ASSERT_TRUE(store::apply_effects(*hit.record, *observer_));
  EXPECT_EQ(read_file(in_root("out")), "output");
}

TEST_F(RecorderTest, AMissSaysWhatChanged) {
  write_file(in_root("in"), "input");
  Execution& e = start();
  look_content(e, "in");
  look(e, FactKind::kIdentity, "none", store::kWithMtime);
  finish(e);
  write_file(in_root("in"), "other");
  write_file(in_root("none"), "");
  const LookupResult miss = look_up_now(e);
  EXPECT_EQ(miss.record, nullptr);
  ASSERT_EQ(miss.reasons.size(), 2u);
  EXPECT_EQ(miss.reasons[0].code, "content-changed");
  EXPECT_EQ(miss.reasons[0].path, "in");
  EXPECT_EQ(miss.reasons[1].code, "appeared");
  EXPECT_EQ(miss.reasons[1].path, "none");
}

TEST_F(RecorderTest, WhatIsRefusedIsNotRecorded) {
  Execution& e = start();
  create(e, "out");
  ledger_->refuse(e, "failed", "", "exit status 1", false);
  recorder_->record(e);
  EXPECT_FALSE(e.recorded);
  EXPECT_EQ(look_up_again(e), nullptr);
}

// gcc's /tmp/cc*.s: made exclusively and gone at the end.
TEST_F(RecorderTest, TemporaryNamesAreSideFactsAndNoEffects) {
  write_file(in_root("in"), "input");
  Execution& e = start();
  look_content(e, "in");
  create_exclusively(e, "tmp1");
  remove(e, "tmp1");
  const auto record = finish(e);
  EXPECT_TRUE(record->effects.empty());
  ASSERT_EQ(record->facts.size(), 1u);
  EXPECT_EQ(record->facts[0].key.path.text, "in");
  ASSERT_EQ(record->side_facts.size(), 1u);
  EXPECT_EQ(record->side_facts[0].key.path.text, "tmp1");
  EXPECT_EQ(record->side_facts[0].value.err, ENOENT);

  EXPECT_NE(look_up_now(e).record, nullptr);
  write_file(in_root("tmp1"), "in the way");
  EXPECT_EQ(look_up_now(e).record, nullptr);
}

TEST_F(RecorderTest, AnotherTemporaryNameIsNoOtherPathSet) {
  write_file(in_root("in"), "input");
  Execution& first = start();
  look_content(first, "in");
  create_exclusively(first, "tmp1");
  remove(first, "tmp1");
  const store::Digest strong = finish(first)->strong;
  Execution& second = start();
  look_content(second, "in");
  create_exclusively(second, "tmp2");
  remove(second, "tmp2");
  EXPECT_EQ(finish(second)->strong, strong);
}

// make compares them: the one written last must be the newer one after a replay, too.
TEST_F(RecorderTest, OutputsAreInTheOrderTheyWereLastWritten) {
  Execution& e = start();
  create(e, "library");
  let_stamps_age();
  create(e, "object");
  let_stamps_age();
  change(e, ChangeKind::kWriteInPlace, "library", [&] { write_file(in_root("library"), "more"); });
  const auto record = finish(e);
  EXPECT_EQ(effects(*record),
            (Names{kind(EffectKind::kFile, "object"), kind(EffectKind::kFile, "library")}));
}

TEST_F(RecorderTest, ADirectoryComesBeforeWhatItHolds) {
  Execution& e = start();
  make_dir(e, "d");
  make_dir(e, "d/e");
  create(e, "d/e/out");
  const auto record = finish(e);
  EXPECT_EQ(effects(*record),
            (Names{kind(EffectKind::kMakeDir, "d"), kind(EffectKind::kMakeDir, "d/e"),
                   kind(EffectKind::kFile, "d/e/out")}));
  std::filesystem::remove_all(in_root("d"));
  ASSERT_TRUE(store::apply_effects(*record, *observer_));
  EXPECT_EQ(read_file(in_root("d/e/out")), "new");
}

TEST_F(RecorderTest, ADirectoryThatIsReplacedByItsLike) {
  write_file(in_root("d/old"), "old");
  Execution& e = start();
  look_list(e, "d");
  remove(e, "d/old");
  remove(e, "d");
  make_dir(e, "d");
  create(e, "d/new");
  const auto record = finish(e);
  std::filesystem::remove_all(in_root("d"));
  write_file(in_root("d/old"), "old");
  ASSERT_TRUE(store::apply_effects(*record, *observer_));
  EXPECT_TRUE(std::filesystem::exists(in_root("d/new")));
  EXPECT_FALSE(std::filesystem::exists(in_root("d/old")));
}

TEST_F(RecorderTest, TwoOwnNamesOfOneInodeAreOneFileAndALink) {
  Execution& e = start();
  create(e, "a", "one");
  Change change;
  change.kind = ChangeKind::kMoveOnto;
  change.path = {"b"};
  change.before = ledger_->before_change(e, {"b"});
  change.link_source = "a";
  std::filesystem::create_hard_link(in_root("a"), in_root("b"));
  ledger_->change(e, change);
  // Written after it was linked, by either name.
  this->change(e, ChangeKind::kWriteInPlace, "a", [&] { write_file(in_root("a"), "more"); });
  const auto record = finish(e);
  EXPECT_EQ(effects(*record),
            (Names{kind(EffectKind::kFile, "a"), kind(EffectKind::kHardLink, "b")}));
  std::filesystem::remove(in_root("a"));
  std::filesystem::remove(in_root("b"));
  ASSERT_TRUE(store::apply_effects(*record, *observer_));
  EXPECT_EQ(read_file(in_root("b")), "more");
  EXPECT_EQ(store::stat_of(in_root("a")).st_ino, store::stat_of(in_root("b")).st_ino);
}

TEST_F(RecorderTest, ARemovalIsAnEffect) {
  write_file(in_root("a"), "one");
  Execution& e = start();
  remove(e, "a");
  const auto record = finish(e);
  EXPECT_EQ(effects(*record), Names{kind(EffectKind::kRemove, "a")});
  write_file(in_root("a"), "two");
  EXPECT_NE(look_up_now(e).record, nullptr);  // rm does not care what it held
}

TEST_F(RecorderTest, AModeAloneIsMeta) {
  write_file(in_root("a"), "one");
  Execution& e = start();
  change_mode(e, "a", 0755);
  const auto record = finish(e);
  ASSERT_EQ(effects(*record), Names{kind(EffectKind::kMeta, "a")});
  EXPECT_TRUE(record->effects[0].set_mode);
  EXPECT_EQ(record->effects[0].mode, 0755u);
}

TEST_F(RecorderTest, ATouchIsATouch) {
  write_file(in_root("a"), "one");
  store::set_mtime(in_root("a"), 1000);
  Execution& e = start();
  change(e, ChangeKind::kTimes, "a",
         [&] { ASSERT_EQ(utimensat(AT_FDCWD, in_root("a").c_str(), nullptr, 0), 0); });
  EXPECT_EQ(effects(*finish(e)), Names{kind(EffectKind::kTouch, "a")});
}

TEST_F(RecorderTest, OpenedForWritingAndLeftAloneIsNoEffect) {
  write_file(in_root("a"), "one");
  let_stamps_age();
  Execution& e = start();
  look_content(e, "a");
  change(e, ChangeKind::kWriteInPlace, "a", [] {});
  EXPECT_TRUE(finish(e)->effects.empty());
}

TEST_F(RecorderTest, LongStreamsAreABlobShortOnesAreNot) {
  Execution& e = start();
  const std::string out(10'000, 'o'), err(10'000, 'e');
  write_stream(e, 1, out);
  write_stream(e, 2, err);
  write_stream(e, 2, "!");
  const auto record = finish(e);
  EXPECT_TRUE(record->stream_bytes.empty());
  ASSERT_EQ(record->streams.size(), 2u);
  EXPECT_EQ(record->streams[1].size, 10'001u);
  const auto blob = store_->blobs().open(record->stream_blob, 20'001);
  ASSERT_TRUE(blob);
  std::string bytes(20'001, '\0');
  ASSERT_EQ(pread(blob->get(), bytes.data(), bytes.size(), 0), 20'001);
  EXPECT_EQ(bytes, out + err + "!");
}

TEST_F(RecorderTest, WhatNamesTheRootHoldsForThisRootOnly) {
  Execution& quiet = start(1);
  create(quiet, "quiet", "no names");
  EXPECT_EQ(finish(quiet)->root, "");

  Execution& output = start(2);
  create(output, "output", "prefix=" + root_ + "/usr");
  EXPECT_EQ(finish(output)->root, root_);
  EXPECT_EQ(look_up_again(output)->root_reason, "output names the root");

  Execution& stream = start(3);
  write_stream(stream, 1, "Entering " + root_ + "\n");
  EXPECT_EQ(finish(stream)->root, root_);

  Execution& link = start(4);
  change(link, ChangeKind::kMoveOnto, "link",
         [&] { std::filesystem::create_symlink(root_ + "/quiet", in_root("link")); });
  EXPECT_EQ(finish(link)->root, root_);
}

TEST_F(RecorderTest, AnInputThatChangedMeanwhileIsNotRecorded) {
  write_file(in_root("in"), "input");
  let_stamps_age();
  Execution& e = start();
  look_content(e, "in");
  create(e, "out");
  write_file(in_root("in"), "other");
  recorder_->record(e);
  EXPECT_FALSE(e.recorded);
  EXPECT_TRUE(refused(e, "input-changed"));
}

TEST_F(RecorderTest, AnOutputThatSomebodyElseChangedBeforeTheParentEndedIsNotRecorded) {
  Execution& parent = start(1);
  Execution& child = open(parent);
  create(child, "out", "child's");
  recorder_->record(child);
  ASSERT_TRUE(child.recorded);
  ledger_->forget(child);
  let_stamps_age();
  write_file(in_root("out"), "an editor's");
  ledger_->changed_outside(TreePath{"out"});  // as the mount tells
  recorder_->record(parent);
  EXPECT_FALSE(parent.recorded);
}

}  // namespace
}  // namespace pcache::tracer
