// What becomes a fact, and of whom.
#include "tracer_testing.h"

namespace pcache::tracer {
namespace {

class LedgerFacts : public LedgerTest {};

TEST_F(LedgerFacts, TheFirstObservationCounts) {
  write_file(in_root("a"), "one");
  Execution& e = open();
  look(e, FactKind::kIdentity, "a", store::kWithMtime);
  write_file(in_root("a"), "other");
  look(e, FactKind::kIdentity, "a", store::kWithMtime);
  ASSERT_EQ(facts(e, "a").size(), 1u);
  EXPECT_EQ(facts(e, "a")[0]->value.size, 3u);
}

TEST_F(LedgerFacts, EachKindIsAFactOfItsOwn) {
  write_file(in_root("a"), "one");
  Execution& e = open();
  look(e, FactKind::kKind, "a");
  look(e, FactKind::kIdentity, "a", store::kWithMtime);
  look(e, FactKind::kAccess, "a", R_OK);
  look(e, FactKind::kAccess, "a", W_OK);
  look(e, FactKind::kAccess, "a", R_OK);
  look(e, FactKind::kLink, "a");
  look_content(e, "a");
  EXPECT_EQ(facts(e, "a").size(), 6u);
  EXPECT_EQ(fact(e, FactKind::kLink, "a")->value.err, EINVAL);
}

TEST_F(LedgerFacts, AbsenceIsAnAnswer) {
  Execution& e = open();
  look_content(e, "none");
  ASSERT_NE(fact(e, FactKind::kContent, "none"), nullptr);
  EXPECT_EQ(fact(e, FactKind::kContent, "none")->value.err, ENOENT);
  EXPECT_EQ(fact(e, FactKind::kContent, "none")->sample, nullptr);
}

TEST_F(LedgerFacts, YoungContentsAreHashedAtOnceOldOnesWhenNeeded) {
  write_file(in_root("old"), "one");
  let_stamps_age();
  write_file(in_root("young"), "two");
  Execution& e = open();
  look_content(e, "young");
  look_content(e, "old");
  EXPECT_TRUE(fact(e, FactKind::kContent, "young")->sample->hash);
  EXPECT_FALSE(fact(e, FactKind::kContent, "old")->sample->hash);
  ledger_->settle(e);
  EXPECT_TRUE(e.refusals.empty());
  EXPECT_EQ(fact(e, FactKind::kContent, "old")->value.hash, store::hash_bytes("one"));
  EXPECT_EQ(fact(e, FactKind::kContent, "young")->value.hash, store::hash_bytes("two"));
}

TEST_F(LedgerFacts, AreAppliedToEveryOpenAncestor) {
  write_file(in_root("a"), "one");
  Execution& make = open();
  Execution& shell = open(make);
  Execution& compiler = open(shell);
  look_content(compiler, "a");
  look(shell, FactKind::kIdentity, "b");
  EXPECT_NE(fact(compiler, FactKind::kContent, "a"), nullptr);
  EXPECT_NE(fact(shell, FactKind::kContent, "a"), nullptr);
  EXPECT_NE(fact(make, FactKind::kContent, "a"), nullptr);
  // One reading of the bytes for all of them.
  EXPECT_EQ(fact(make, FactKind::kContent, "a")->sample,
            fact(compiler, FactKind::kContent, "a")->sample);
  EXPECT_EQ(facts(compiler, "b").size(), 0u);
  EXPECT_EQ(facts(make, "b").size(), 1u);
}

TEST_F(LedgerFacts, TheSessionObservesNothing) {
  Execution& e = open();
  look_content(e, "a");
  create(e, "b");
  EXPECT_TRUE(ledger_->session().facts.empty());
  EXPECT_TRUE(ledger_->session().paths.empty());
}

TEST_F(LedgerFacts, WhatAnExecutionMadeItselfIsNone) {
  Execution& e = open();
  create(e, "out");
  const size_t before = facts(e, "out").size();
  look_content(e, "out");
  look(e, FactKind::kIdentity, "out", store::kWithMtime);
  look(e, FactKind::kAccess, "out", R_OK);
  EXPECT_EQ(facts(e, "out").size(), before);
}

// `cc -c a.c; cc a.o`: a.o is an input of the second compiler and none of the shell's.
TEST_F(LedgerFacts, WhatAChildMadeIsNoneOfItsParentButOfASibling) {
  Execution& shell = open();
  Execution& first = open(shell);
  create(first, "a.o");
  ledger_->forget(first);
  Execution& second = open(shell);
  look_content(second, "a.o");
  EXPECT_NE(fact(second, FactKind::kContent, "a.o"), nullptr);
  EXPECT_EQ(fact(shell, FactKind::kContent, "a.o"), nullptr);
  EXPECT_TRUE(second.refusals.empty());
}

TEST_F(LedgerFacts, WhatAnExecutionRemovedItselfIsNone) {
  write_file(in_root("a"), "one");
  Execution& e = open();
  remove(e, "a");
  look_content(e, "a");
  look(e, FactKind::kIdentity, "a", store::kWithMtime);
  EXPECT_EQ(fact(e, FactKind::kContent, "a"), nullptr);
  EXPECT_EQ(fact(e, FactKind::kIdentity, "a"), nullptr);
  // That it was there is one: rm would fail without it.
  ASSERT_NE(fact(e, FactKind::kKind, "a"), nullptr);
  EXPECT_EQ(fact(e, FactKind::kKind, "a")->value.err, 0);
}

TEST_F(LedgerFacts, ChmodThenReadKeepsTheContentAndTheModeFromBefore) {
  write_file(in_root("a"), "one", 0640);
  Execution& e = open();
  change_mode(e, "a", 0755);
  look_content(e, "a");
  look(e, FactKind::kIdentity, "a");
  const ObservedFact* content = fact(e, FactKind::kContent, "a");
  ASSERT_NE(content, nullptr);
  EXPECT_EQ(content->value.mode, S_IFREG | 0640u);
  EXPECT_EQ(fact(e, FactKind::kIdentity, "a")->value.mode, S_IFREG | 0640u);
  EXPECT_EQ(fact(e, FactKind::kKind, "a")->value.mode, S_IFREG | 0640u);
  ledger_->settle(e);
  EXPECT_TRUE(e.refusals.empty());
  EXPECT_EQ(content->value.hash, store::hash_bytes("one"));
}

TEST_F(LedgerFacts, TheTimesItSetItselfAreNone) {
  write_file(in_root("a"), "one");
  store::set_mtime(in_root("a"), 1000);
  Execution& e = open();
  change(e, ChangeKind::kTimes, "a", [&] { store::set_mtime(in_root("a"), 2000); });
  look(e, FactKind::kIdentity, "a", store::kWithMtime);
  EXPECT_EQ(fact(e, FactKind::kIdentity, "a")->value.mtime_ns, 0);
  EXPECT_EQ(fact(e, FactKind::kIdentity, "a")->value.size, 3u);
}

// `chmod +x run; ./run`: whether it may be executed follows from the own chmod.
TEST_F(LedgerFacts, AccessThatItGaveItselfIsNone) {
  write_file(in_root("run"), "#!/bin/sh\n", 0644);
  Execution& e = open();
  change_mode(e, "run", 0755);
  look(e, FactKind::kAccess, "run", X_OK);
  const ObservedFact* access = fact(e, FactKind::kAccess, "run");
  // In a fresh checkout the file is not executable again, and this must hold there.
  if (access != nullptr) {
    ASSERT_EQ(chmod(in_root("run").c_str(), 0644), 0);
    EXPECT_EQ(observe(FactKind::kAccess, "run", X_OK), access->value);
  }
}

TEST_F(LedgerFacts, AppendingKeepsTheContentFromBefore) {
  write_file(in_root("log"), "one");
  Execution& e = open();
  look_content(e, "log");  // what the interpreter does for an open without O_TRUNC
  change(e, ChangeKind::kWriteInPlace, "log", [&] { write_file(in_root("log"), "onetwo"); });
  ledger_->settle(e);
  EXPECT_TRUE(e.refusals.empty());
  EXPECT_EQ(fact(e, FactKind::kContent, "log")->value.hash, store::hash_bytes("one"));
}

TEST_F(LedgerFacts, SideFactsStayOutOfTheFacts) {
  Execution& parent = open();
  Execution& e = open(parent);
  FactValue absent;
  absent.err = ENOENT;
  ledger_->side_fact(e, {FactKey{FactKind::kKind, {"/tmp/ccX.s"}, 0, {}}, absent});
  EXPECT_TRUE(e.facts.empty());
  EXPECT_EQ(e.side_facts.size(), 1u);
  EXPECT_EQ(parent.side_facts.size(), 1u);
}

TEST_F(LedgerFacts, SideFactsEndAtTheAncestorThatMadeTheName) {
  Execution& parent = open();
  create_exclusively(parent, "tmp");
  remove(parent, "tmp");
  Execution& e = open(parent);
  FactValue absent;
  absent.err = ENOENT;
  ledger_->side_fact(e, {FactKey{FactKind::kKind, {"tmp"}, 0, {}}, absent});
  EXPECT_EQ(e.side_facts.size(), 1u);
  EXPECT_TRUE(parent.side_facts.empty());
}

TEST_F(LedgerFacts, DescriptorsAreAskedOfOneExecutionAlone) {
  Execution& parent = open();
  Execution& e = open(parent);
  FactValue value;
  value.size = 1;
  ledger_->observe_alone(e, FactKey{FactKind::kTerminal, {}, 1, {}}, value);
  ledger_->observe_alone(e, FactKey{FactKind::kTerminal, {}, 1, {}}, value);
  EXPECT_EQ(e.facts.size(), 1u);
  EXPECT_TRUE(parent.facts.empty());
}

TEST_F(LedgerFacts, BindingToTheRootReachesAncestorsAndKeepsTheFirstReason) {
  Execution& parent = open();
  Execution& e = open(parent);
  ledger_->bind_to_root(e, "pwd asked for its working directory");
  ledger_->bind_to_root(parent, "another reason");
  EXPECT_EQ(e.root_reason, "pwd asked for its working directory");
  EXPECT_EQ(parent.root_reason, "pwd asked for its working directory");
  EXPECT_TRUE(ledger_->session().root_reason.empty());
}

TEST_F(LedgerFacts, RefusalsReachAncestorsOnlyWhereTheyMust) {
  Execution& parent = open();
  Execution& e = open(parent);
  ledger_->refuse(e, "failed", "", "exit status 1", false);
  EXPECT_TRUE(parent.refusals.empty());
  ledger_->refuse(e, "network", "", "connect", true);
  ledger_->refuse(e, "network", "", "connect", true);
  EXPECT_EQ(e.refusals.size(), 2u);
  EXPECT_EQ(parent.refusals.size(), 1u);
  EXPECT_TRUE(ledger_->session().refusals.empty());
}

class Listing : public LedgerTest {};

TEST_F(Listing, HasNamesAndKinds) {
  write_file(in_root("d/a"), "");
  std::filesystem::create_directory(in_root("d/sub"));
  Execution& e = open();
  look_list(e, "d");
  EXPECT_EQ(fact(e, FactKind::kListing, "d")->value.entries, (Names{"dsub", "fa"}));
  EXPECT_TRUE(fact(e, FactKind::kListing, "d")->key.names.empty());
}

TEST_F(Listing, LeavesOutOwnNamesMadeBefore) {
  write_file(in_root("d/a"), "");
  Execution& e = open();
  create(e, "d/made");
  look_list(e, "d");
  create(e, "d/later");
  const ObservedFact* listing = fact(e, FactKind::kListing, "d");
  EXPECT_EQ(listing->value.entries, Names{"fa"});
  EXPECT_EQ(listing->key.names, Names{"made"});
  ledger_->settle(e);
  EXPECT_TRUE(e.refusals.empty());
}

TEST_F(Listing, HasOwnRemovedNamesStill) {
  write_file(in_root("d/a"), "");
  write_file(in_root("d/gone"), "");
  Execution& e = open();
  remove(e, "d/gone");
  look_list(e, "d");
  EXPECT_EQ(fact(e, FactKind::kListing, "d")->value.entries, (Names{"fa", "fgone"}));
  EXPECT_TRUE(fact(e, FactKind::kListing, "d")->key.names.empty());
  ledger_->settle(e);
  EXPECT_TRUE(e.refusals.empty());
}

TEST_F(Listing, HasTheKindThatAReplacedNameHad) {
  write_file(in_root("d/a"), "");
  Execution& e = open();
  remove(e, "d/a");
  make_dir(e, "d/a");
  look_list(e, "d");
  EXPECT_EQ(fact(e, FactKind::kListing, "d")->value.entries, Names{"fa"});
}

TEST_F(Listing, AnOverwrittenNameStays) {
  write_file(in_root("d/a"), "one");
  Execution& e = open();
  create(e, "d/a", "two");
  look_list(e, "d");
  EXPECT_EQ(fact(e, FactKind::kListing, "d")->value.entries, Names{"fa"});
  EXPECT_TRUE(fact(e, FactKind::kListing, "d")->key.names.empty());
}

// make lists after its first compiler ran, which listed before it wrote.
TEST_F(LedgerFacts, WhatAnotherFactSaysIsAskedOnce) {
  write_file(in_root("read"), "x");
  write_file(in_root("looked_at"), "x");
  std::filesystem::create_symlink("read", in_root("link"));
  let_stamps_age();
  Execution& e = open();
  for (const FactKind kind : {FactKind::kLink, FactKind::kKind, FactKind::kIdentity,
                              FactKind::kAccess, FactKind::kContent})
    look(e, kind, "none");
  look(e, FactKind::kKind, "read");
  look(e, FactKind::kLink, "read");
  look(e, FactKind::kAccess, "read", R_OK);
  look(e, FactKind::kIdentity, "read");
  look_content(e, "read");
  look(e, FactKind::kLink, "looked_at");
  look(e, FactKind::kAccess, "looked_at", R_OK);  // through a link as well
  look(e, FactKind::kLink, "link");
  look(e, FactKind::kKind, "link");
  ledger_->settle(e);
  EXPECT_TRUE(e.refusals.empty());
  EXPECT_EQ(facts(e, "none").size(), 1u);
  EXPECT_EQ(facts(e, "none")[0]->value.err, ENOENT);
  EXPECT_NE(fact(e, FactKind::kContent, "read"), nullptr);
  EXPECT_NE(fact(e, FactKind::kIdentity, "read"), nullptr) << "its time is another question";
  EXPECT_NE(fact(e, FactKind::kAccess, "read"), nullptr);
  EXPECT_EQ(fact(e, FactKind::kKind, "read"), nullptr);
  EXPECT_EQ(fact(e, FactKind::kLink, "read"), nullptr);
  EXPECT_NE(fact(e, FactKind::kLink, "looked_at"), nullptr);
  EXPECT_EQ(facts(e, "link").size(), 2u);
}

TEST_F(Listing, EachAncestorLeavesOutItsOwn) {
  write_file(in_root("d/a"), "");
  Execution& make = open();
  create(make, "d/log");
  Execution& child = open(make);
  create(child, "d/out");
  look_list(child, "d");
  EXPECT_EQ(fact(child, FactKind::kListing, "d")->value.entries, (Names{"fa", "flog"}));
  EXPECT_EQ(fact(child, FactKind::kListing, "d")->key.names, Names{"out"});
  EXPECT_EQ(fact(make, FactKind::kListing, "d")->value.entries, Names{"fa"});
  EXPECT_EQ(fact(make, FactKind::kListing, "d")->key.names, (Names{"log", "out"}));
}

TEST_F(Listing, OfAnOwnDirectoryIsNone) {
  Execution& e = open();
  make_dir(e, "d");
  create(e, "d/a");
  look_list(e, "d");
  EXPECT_EQ(fact(e, FactKind::kListing, "d"), nullptr);
}

TEST_F(Listing, OfAnAbsentDirectoryIsAnErrno) {
  Execution& e = open();
  look_list(e, "none");
  EXPECT_EQ(fact(e, FactKind::kListing, "none")->value.err, ENOENT);
}

// A hit's listing, as its parent takes it over: the child had left out what it made itself.
TEST_F(Listing, OfAHitLeavesOutWhatTheChildHadMade) {
  write_file(in_root("d/a"), "");
  Execution& parent = open();
  create(parent, "d/own");
  std::vector<store::DirEntry> now;
  ASSERT_EQ(observer_->list({"d"}, &now), 0);
  ledger_->list(parent, {"d"}, 0, now, {"child"});
  EXPECT_EQ(fact(parent, FactKind::kListing, "d")->value.entries, Names{"fa"});
  EXPECT_EQ(fact(parent, FactKind::kListing, "d")->key.names, (Names{"child", "own"}));
}

}  // namespace
}  // namespace pcache::tracer
