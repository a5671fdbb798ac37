// What a change says about what was there before (design rule 2), and what must not be recorded
// (rules 6, 9 and 10).
#include "tracer_testing.h"

namespace pcache::tracer {
namespace {

class Replaced : public LedgerTest {
 protected:
  const ObservedFact* replaced(const Execution& e, const std::string& path) {
    return fact(e, FactKind::kReplaced, path);
  }
  static bool blind(const ObservedFact* fact) {
    return (fact->key.param & store::kReplacedBlind) != 0;
  }
};

// `echo x > out`
TEST_F(Replaced, FirstSeenByItsOwnCreatingOpenItIsBlind) {
  Execution& e = open();
  create(e, "out");
  ASSERT_NE(replaced(e, "out"), nullptr);
  EXPECT_TRUE(blind(replaced(e, "out")));
  EXPECT_EQ(replaced(e, "out")->key.param & 07777, 0644u);
  EXPECT_EQ(replaced(e, "out")->value.text, "replaceable");
  EXPECT_EQ(facts(e, "out").size(), 1u);
}

TEST_F(Replaced, AbsentAndExistingAreOneAnswer) {
  Execution& first = open();
  create(first, "out");
  const FactValue absent = replaced(first, "out")->value;
  ledger_->forget(first);
  Execution& again = open();
  create(again, "out", "something else");
  EXPECT_EQ(replaced(again, "out")->value, absent);
}

// `echo x > out; tar xf out`: what it is then is what it would be, had it been made.
TEST_F(Replaced, ItsKindIsNoQuestionAfterwards) {
  write_file(in_root("out"), "old");
  Execution& e = open();
  create(e, "out");
  look(e, FactKind::kKind, "out");
  look(e, FactKind::kIdentity, "out", store::kWithMtime);
  EXPECT_EQ(facts(e, "out").size(), 1u);
  write_file(in_root("other"), "old", 0600);
  create(e, "other");
  look(e, FactKind::kKind, "other");
  EXPECT_NE(fact(e, FactKind::kKind, "other"), nullptr);
}

// The inode stays, and with it the mode: not what creating it would give.
TEST_F(Replaced, AnotherModeIsAnotherAnswer) {
  write_file(in_root("out"), "old", 0600);
  Execution& e = open();
  create(e, "out");
  EXPECT_TRUE(blind(replaced(e, "out")));
  EXPECT_NE(replaced(e, "out")->value.text, "replaceable");
}

// `[ -f config ] || cp default config`
TEST_F(Replaced, WhatWasLookedForFirstIsNotBlind) {
  Execution& e = open();
  look(e, FactKind::kIdentity, "out", store::kWithMtime);
  create(e, "out");
  ASSERT_NE(replaced(e, "out"), nullptr);
  EXPECT_FALSE(blind(replaced(e, "out")));
  EXPECT_EQ(replaced(e, "out")->value.err, ENOENT);
  EXPECT_EQ(fact(e, FactKind::kIdentity, "out")->value.err, ENOENT);
}

TEST_F(Replaced, WhatWasListedFirstIsNotBlind) {
  Execution& e = open();
  look_list(e, "");
  create(e, "out");
  EXPECT_FALSE(blind(replaced(e, "out")));
}

TEST_F(Replaced, AnImageThatOverwritesBlindlyMayLookFirst) {
  Execution& e = open(ledger_->session(), "gcc");
  look(e, FactKind::kKind, "a.o", 0, Asker::kBlind);
  look(e, FactKind::kAccess, "a.o", W_OK, Asker::kBlind);
  change(
      e, ChangeKind::kCreateOrTruncate, "a.o", [&] { write_file(in_root("a.o"), "o"); }, true);
  EXPECT_EQ(facts(e, "a.o").size(), 1u);
  EXPECT_TRUE(blind(replaced(e, "a.o")));
}

TEST_F(Replaced, AParentThatLookedItselfKeepsItsFact) {
  Execution& make = open();
  look(make, FactKind::kIdentity, "a.o", store::kWithMtime);
  Execution& compiler = open(make, "gcc");
  look(compiler, FactKind::kKind, "a.o", 0, Asker::kBlind);
  change(
      compiler, ChangeKind::kCreateOrTruncate, "a.o", [&] { write_file(in_root("a.o"), "o"); },
      true);
  EXPECT_EQ(facts(compiler, "a.o").size(), 1u);
  ASSERT_NE(fact(make, FactKind::kIdentity, "a.o"), nullptr);
  EXPECT_EQ(fact(make, FactKind::kIdentity, "a.o")->value.err, ENOENT);
}

// A blind image looked, then the shell did: what the shell saw counts.
TEST_F(Replaced, ABlindFactIsOneOnceSomebodyElseAsks) {
  Execution& shell = open();
  Execution& compiler = open(shell, "gcc");
  look(compiler, FactKind::kKind, "a.o", 0, Asker::kBlind);
  look(shell, FactKind::kKind, "a.o", 0);
  change(
      compiler, ChangeKind::kCreateOrTruncate, "a.o", [&] { write_file(in_root("a.o"), "o"); },
      true);
  EXPECT_EQ(fact(compiler, FactKind::kKind, "a.o"), nullptr);
  ASSERT_NE(fact(shell, FactKind::kKind, "a.o"), nullptr);
  EXPECT_EQ(fact(shell, FactKind::kKind, "a.o")->value.err, ENOENT);
}

// as and ld: unlink, then create. Absent before and there before must be one record.
TEST_F(Replaced, UnlinkThenCreateByABlindImageForgetsWhatWasUnlinked) {
  write_file(in_root("a.o"), "old", 0600);
  Execution& e = open(ledger_->session(), "as");
  look(e, FactKind::kKind, "a.o", 0, Asker::kBlind);
  remove(e, "a.o", true);
  Change change;
  change.kind = ChangeKind::kCreateOrTruncate;
  change.path = {"a.o"};
  change.before = ledger_->before_change(e, {"a.o"});
  change.blind = change.unlinks = true;
  change.create_mode = 0644;
  write_file(in_root("a.o"), "new");
  ledger_->change(e, change);
  ASSERT_EQ(facts(e, "a.o").size(), 1u);
  ASSERT_NE(replaced(e, "a.o"), nullptr);
  EXPECT_TRUE(blind(replaced(e, "a.o")));
  EXPECT_EQ(replaced(e, "a.o")->value.text, "replaceable");
  EXPECT_TRUE(e.paths[{"a.o"}].unlinked);
}

TEST_F(Replaced, UnlinkThenCreateByOthersKeepsWhatWasUnlinked) {
  write_file(in_root("out"), "old");
  Execution& e = open();
  remove(e, "out");
  create(e, "out");
  ASSERT_NE(replaced(e, "out"), nullptr);
  EXPECT_FALSE(blind(replaced(e, "out")));
  EXPECT_EQ(replaced(e, "out")->value.size, 3u);
}

TEST_F(Replaced, AnOwnOutputOfEarlierIsKnownByItsStamp) {
  write_file(in_root("out"), "old");
  Execution& e = open();
  // By any command: what replaces it cannot tell which one made it.
  store_->remember_own({}, root_, "out", store::Stamp::of(store::stat_of(in_root("out"))));
  look(e, FactKind::kIdentity, "out", store::kWithMtime);
  create(e, "out");
  EXPECT_EQ(replaced(e, "out")->value.text, "own");
}

TEST_F(Replaced, TruncatingWithoutCreatingTellsWhatWasThere) {
  write_file(in_root("out"), "old");
  Execution& e = open();
  change(e, ChangeKind::kTruncate, "out", [&] { write_file(in_root("out"), "new"); });
  ASSERT_NE(replaced(e, "out"), nullptr);
  EXPECT_FALSE(blind(replaced(e, "out")));
}

TEST_F(Replaced, CreatedExclusivelyItWasAbsent) {
  Execution& e = open();
  create_exclusively(e, "tmp");
  EXPECT_EQ(replaced(e, "tmp"), nullptr);
  ASSERT_NE(fact(e, FactKind::kKind, "tmp"), nullptr);
  EXPECT_EQ(fact(e, FactKind::kKind, "tmp")->value.err, ENOENT);
  EXPECT_TRUE(e.paths[{"tmp"}].exclusive);
}

TEST_F(Replaced, OnlyTheFirstStateCounts) {
  write_file(in_root("out"), "old");
  Execution& e = open();
  create(e, "out", "one");
  create(e, "out", "two");
  EXPECT_EQ(facts(e, "out").size(), 1u);
  remove(e, "out");
  create(e, "out", "three");
  EXPECT_TRUE(blind(replaced(e, "out")));
  EXPECT_EQ(replaced(e, "out")->value.text, "replaceable");
  EXPECT_EQ(e.paths[{"out"}].before.err, 0);
  EXPECT_EQ(e.paths[{"out"}].before.st.st_size, 3);
}

// sed -i, `sort -o in in`: what it held is a fact, and says more than what was there.
TEST_F(Replaced, WhatWasReadFirstIsItsContent) {
  write_file(in_root("a"), "one");
  Execution& e = open();
  look_content(e, "a");
  create(e, "a", "two");
  EXPECT_EQ(replaced(e, "a"), nullptr);
  EXPECT_NE(fact(e, FactKind::kContent, "a"), nullptr);
}

// mv and cp look at their target only because they are about to replace it.
TEST_F(Replaced, LooksOfAnImageThatReplacesAreForgottenOnesOfOthersAreNot) {
  write_file(in_root("b"), "old");
  Execution& shell = open();
  Execution& mv = open(shell, "mv");
  look(mv, FactKind::kIdentity, "b", store::kWithMtime, Asker::kReplacing);
  Change change;
  change.kind = ChangeKind::kMoveOnto;
  change.path = {"b"};
  change.before = ledger_->before_change(mv, {"b"});
  change.looks_first = true;
  write_file(in_root("b"), "new");
  ledger_->change(mv, change);
  EXPECT_EQ(fact(mv, FactKind::kIdentity, "b"), nullptr);
  EXPECT_NE(replaced(mv, "b"), nullptr);
  EXPECT_EQ(fact(shell, FactKind::kIdentity, "b"), nullptr);

  write_file(in_root("c"), "old");
  look(shell, FactKind::kIdentity, "c", store::kWithMtime);
  change.path = {"c"};
  change.before = ledger_->before_change(mv, {"c"});
  ledger_->change(mv, change);
  EXPECT_NE(fact(shell, FactKind::kIdentity, "c"), nullptr);
}

class Temporary : public LedgerTest {};

TEST_F(Temporary, AnAncestorsExclusiveNameIsTemporary) {
  Execution& driver = open();
  create_exclusively(driver, "cc1.s");
  create(driver, "plain.s");
  Execution& assembler = open(driver);
  EXPECT_TRUE(ledger_->is_temporary_of_ancestor(assembler, {"cc1.s"}));
  EXPECT_FALSE(ledger_->is_temporary_of_ancestor(assembler, {"plain.s"}));
  EXPECT_FALSE(ledger_->is_temporary_of_ancestor(assembler, {"none"}));
  Execution& stranger = open();
  EXPECT_FALSE(ledger_->is_temporary_of_ancestor(stranger, {"cc1.s"}));
  make_dir(driver, "dir");
  EXPECT_FALSE(ledger_->is_temporary_of_ancestor(assembler, {"dir"}));
}

class Conflicts : public LedgerTest {
 protected:
  void SetUp() override {
    LedgerTest::SetUp();
    make_ = &open();
    one_ = &open(*make_);
    two_ = &open(*make_);
  }
  Execution *make_, *one_, *two_;
};

TEST_F(Conflicts, TwoWritersAreBothRefusedTheirAncestorIsNot) {
  Execution& below = open(*two_);
  create(*one_, "out");
  create(below, "out", "again");
  EXPECT_TRUE(refused(*one_, "raced"));
  EXPECT_TRUE(refused(below, "raced"));
  EXPECT_TRUE(refused(*two_, "raced"));
  EXPECT_TRUE(make_->refusals.empty());
}

TEST_F(Conflicts, OneAfterTheOtherIsNone) {
  create(*one_, "out");
  ledger_->forget(*one_);
  create(*two_, "out", "again");
  look_content(*two_, "out");
  EXPECT_TRUE(two_->refusals.empty());
}

TEST_F(Conflicts, AReaderWhileTheWriterIsOpenIsRefusedTheWriterIsNot) {
  create(*one_, "out");
  Execution& below = open(*two_);
  look_content(below, "out");
  EXPECT_TRUE(refused(below, "raced"));
  EXPECT_TRUE(refused(*two_, "raced"));
  EXPECT_TRUE(one_->refusals.empty());
  EXPECT_TRUE(make_->refusals.empty());
}

TEST_F(Conflicts, AReaderOfWhatIsChangedAfterwardsIsRefused) {
  write_file(in_root("a"), "one");
  look_content(*one_, "a");
  create(*two_, "a", "two");
  EXPECT_TRUE(refused(*one_, "raced"));
  EXPECT_TRUE(two_->refusals.empty());
}

TEST_F(Conflicts, ALookForWhatASiblingThenMakesIsRefused) {
  look(*one_, FactKind::kIdentity, "out", store::kWithMtime);
  create(*two_, "out");
  EXPECT_TRUE(refused(*one_, "raced"));
}

TEST_F(Conflicts, ParentsAndChildrenDoNotRace) {
  create(*make_, "out");
  look_content(*one_, "out");
  create(*one_, "out", "more");
  look_content(*make_, "out");
  EXPECT_TRUE(make_->refusals.empty());
  EXPECT_TRUE(one_->refusals.empty());
}

TEST_F(Conflicts, AChildWhoseOutputItsParentChangesMeanwhileIsRefusedTheParentIsNot) {
  create(*one_, "out");
  create(*make_, "out", "more");
  EXPECT_TRUE(refused(*one_, "raced"));
  EXPECT_TRUE(make_->refusals.empty());
}

TEST_F(Conflicts, AListingThatASiblingChangesIsRefused) {
  write_file(in_root("d/a"), "");
  look_list(*one_, "d");
  create(*two_, "d/new");
  EXPECT_TRUE(refused(*one_, "raced"));
  EXPECT_TRUE(two_->refusals.empty());
}

TEST_F(Conflicts, RewritingAListedFileInPlaceChangesNoListing) {
  write_file(in_root("d/a"), "");
  look_list(*one_, "d");
  create(*two_, "d/a", "more");
  EXPECT_TRUE(one_->refusals.empty());
}

TEST_F(Conflicts, ChmodAndWritingAreDifferentThings) {
  write_file(in_root("a"), "one");
  change_mode(*one_, "a", 0600);
  change(*two_, ChangeKind::kTimes, "a", [&] { store::set_mtime(in_root("a"), 1000); });
  // Both looked at it (its kind), and one of them changed it after the other's look.
  EXPECT_TRUE(refused(*one_, "raced"));
}

// An editor, or another session: the mount has seen it.
TEST_F(Conflicts, WhatAStrangerChangesSpoilsWhoSawOrMadeIt) {
  write_file(in_root("a"), "one");
  look_content(*one_, "a");
  create(*two_, "out");
  ledger_->changed_outside({"elsewhere"});
  EXPECT_TRUE(one_->refusals.empty());
  ledger_->changed_outside({"a"});
  EXPECT_TRUE(refused(*one_, "input-changed"));
  EXPECT_TRUE(two_->refusals.empty());
  ledger_->changed_outside({"out"});
  EXPECT_TRUE(refused(*two_, "input-changed"));
  EXPECT_TRUE(refused(*make_, "input-changed"));
}

class Settle : public LedgerTest {};

TEST_F(Settle, FindsAnInputThatSomebodyElseChanged) {
  write_file(in_root("a"), "one");
  let_stamps_age();
  Execution& e = open();
  look_content(e, "a");
  write_file(in_root("a"), "two");
  ledger_->settle(e);
  EXPECT_TRUE(refused(e, "input-changed"));
  ASSERT_FALSE(e.refusals.empty());
  EXPECT_EQ(e.refusals[0].path, "a");
}

TEST_F(Settle, FindsAYoungInputThatSomebodyElseChanged) {
  write_file(in_root("a"), "one");
  Execution& e = open();
  look_content(e, "a");
  write_file(in_root("a"), "two");  // same size; perhaps in the same tick of the clock
  ledger_->settle(e);
  EXPECT_TRUE(refused(e, "input-changed"));
}

TEST_F(Settle, FindsAnAbsentNameThatAppeared) {
  Execution& e = open();
  look(e, FactKind::kIdentity, "none", store::kWithMtime);
  write_file(in_root("none"), "");
  ledger_->settle(e);
  EXPECT_TRUE(refused(e, "input-changed"));
}

TEST_F(Settle, FindsALinkThatLeadsElsewhere) {
  std::filesystem::create_symlink("one", in_root("l"));
  Execution& e = open();
  look(e, FactKind::kLink, "l");
  std::filesystem::remove(in_root("l"));
  std::filesystem::create_symlink("two", in_root("l"));
  ledger_->settle(e);
  EXPECT_TRUE(refused(e, "input-changed"));
}

TEST_F(Settle, FindsAForeignNameInAListing) {
  write_file(in_root("d/a"), "");
  Execution& e = open();
  look_list(e, "d");
  create(e, "d/own");
  write_file(in_root("d/foreign"), "");
  ledger_->settle(e);
  EXPECT_TRUE(refused(e, "input-changed"));
}

TEST_F(Settle, OwnNamesChangeNoListing) {
  write_file(in_root("d/a"), "");
  Execution& e = open();
  look_list(e, "d");
  create(e, "d/own");
  remove(e, "d/a");
  ledger_->settle(e);
  EXPECT_TRUE(e.refusals.empty());
}

TEST_F(Settle, FindsAChangeBeforeAnOwnOne) {
  write_file(in_root("a"), "one");
  let_stamps_age();
  Execution& e = open();
  look_content(e, "a");
  write_file(in_root("a"), "two");  // somebody else
  create(e, "a", "three");
  ledger_->settle(e);
  EXPECT_TRUE(refused(e, "input-changed"));
}

TEST_F(Settle, AnOwnChangeAfterTheLookIsNone) {
  write_file(in_root("a"), "one");
  let_stamps_age();
  Execution& e = open();
  look_content(e, "a");
  create(e, "a", "two");
  ledger_->settle(e);
  EXPECT_TRUE(e.refusals.empty());
  EXPECT_EQ(fact(e, FactKind::kContent, "a")->value.hash, store::hash_bytes("one"));
}

// `ls -l; touch new`: the directory's time is an input only as far as others changed it.
TEST_F(Settle, OwnOutputsChangeTheirDirectorysTime) {
  write_file(in_root("d/a"), "");
  Execution& e = open();
  look(e, FactKind::kIdentity, "d", store::kWithMtime | store::kWithDirMtime);
  let_stamps_age();
  create(e, "d/own");
  ledger_->settle(e);
  EXPECT_TRUE(e.refusals.empty());
}

// `ln a b`: the link count of `a` is two now, by its own doing.
TEST_F(Settle, AnOwnHardLinkChangesTheCountOfItsSource) {
  write_file(in_root("a"), "one");
  Execution& e = open();
  look_content(e, "a");
  look(e, FactKind::kIdentity, "a", store::kWithMtime);
  Change change;
  change.kind = ChangeKind::kMoveOnto;
  change.path = {"b"};
  change.before = ledger_->before_change(e, {"b"});
  change.link_source = "a";
  std::filesystem::create_hard_link(in_root("a"), in_root("b"));
  ledger_->change(e, change);
  ledger_->relinked(e, store::stat_of(in_root("a")), 1);
  ledger_->settle(e);
  EXPECT_TRUE(e.refusals.empty());
}

TEST_F(Settle, AnOwnUnlinkChangesTheCountOfTheOtherNames) {
  write_file(in_root("a"), "one");
  std::filesystem::create_hard_link(in_root("a"), in_root("b"));
  Execution& e = open();
  look(e, FactKind::kIdentity, "a", store::kWithMtime);
  remove(e, "b");
  ledger_->relinked(e, store::stat_of(in_root("a")), 2);
  ledger_->settle(e);
  EXPECT_TRUE(e.refusals.empty());
}

TEST_F(Settle, SomebodyElsesHardLinkIsFound) {
  write_file(in_root("a"), "one");
  Execution& e = open();
  look(e, FactKind::kIdentity, "a", store::kWithMtime);
  std::filesystem::create_hard_link(in_root("a"), in_root("b"));
  ledger_->settle(e);
  EXPECT_TRUE(refused(e, "input-changed"));
}

}  // namespace
}  // namespace pcache::tracer
