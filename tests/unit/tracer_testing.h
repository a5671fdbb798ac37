// What the tracer's tests share: a ledger over a real tree and store in a temporary directory.
#pragma once

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "store_testing.h"
#include "tracer/ledger.h"

namespace pcache::tracer {

using store::FactKey;
using store::FactKind;
using store::FactValue;
using store::Observer;
using store::read_file;
using store::write_file;

// Until no stamp is so young that a later write could leave it as it is.
inline void let_stamps_age() { std::this_thread::sleep_for(std::chrono::milliseconds(40)); }

class LedgerTest : public store::StoreTest {
 protected:
  void SetUp() override {
    StoreTest::SetUp();
    ledger_ = std::make_unique<Ledger>(*observer_);
  }
  void TearDown() override {
    ledger_.reset();
    StoreTest::TearDown();
  }

  Execution& open(Execution& parent, const std::string& image = "sh") {
    Execution& e = ledger_->open(parent, next_pid_++);
    e.image_name = image;
    e.weak.digest = {7, e.id};
    e.cwd = root_;
    return e;
  }
  Execution& open() { return open(ledger_->session()); }

  // --- observing, as the interpreter does it ---
  void look_content(Execution& e, const std::string& path, Asker asker = Asker::kOther) {
    struct stat st {};
    const int err = observer_->stat({path}, &st);
    ledger_->observe_content(e, {path}, err, st, asker);
  }
  void look(Execution& e, FactKind kind, const std::string& path, uint32_t param = 0,
            Asker asker = Asker::kOther) {
    const FactKey key{kind, {path}, param, {}};
    ledger_->observe(e, key, observer_->observe(key, e.weak.digest), asker);
  }
  void look_list(Execution& e, const std::string& path) {
    std::vector<store::DirEntry> entries;
    const int err = observer_->list({path}, &entries);
    ledger_->list(e, {path}, err, entries);
  }

  // --- changing: `act` is what the program does between the two stops ---
  template <class Act>
  void change(Execution& e, ChangeKind kind, const std::string& path, Act act, bool blind = false) {
    Change change;
    change.kind = kind;
    change.path = {path};
    change.before = ledger_->before_change(e, {path});
    change.blind = blind;
    change.create_mode = 0644;
    act();
    ledger_->change(e, change);
  }
  void create(Execution& e, const std::string& path, const std::string& bytes = "new") {
    change(e, ChangeKind::kCreateOrTruncate, path, [&] { write_file(in_root(path), bytes); });
  }
  void create_exclusively(Execution& e, const std::string& path) {
    change(e, ChangeKind::kCreateExclusive, path, [&] { write_file(in_root(path), "new"); });
  }
  void make_dir(Execution& e, const std::string& path) {
    change(e, ChangeKind::kCreateExclusive, path,
           [&] { std::filesystem::create_directory(in_root(path)); });
  }
  void remove(Execution& e, const std::string& path, bool blind = false) {
    change(
        e, ChangeKind::kRemove, path, [&] { std::filesystem::remove(in_root(path)); }, blind);
  }
  void change_mode(Execution& e, const std::string& path, mode_t mode) {
    Change change;
    change.kind = ChangeKind::kAttributes;
    change.path = {path};
    change.before = ledger_->before_change(e, {path});
    change.mode_set = true;
    ASSERT_EQ(chmod(in_root(path).c_str(), mode), 0);
    ledger_->change(e, change);
  }

  // --- what is known ---
  static std::vector<const ObservedFact*> facts(const Execution& e, const std::string& path) {
    std::vector<const ObservedFact*> found;
    for (const ObservedFact& fact : e.facts)
      if (!fact.removed && fact.key.path.text == path) found.push_back(&fact);
    return found;
  }
  static const ObservedFact* fact(const Execution& e, FactKind kind, const std::string& path) {
    for (const ObservedFact* fact : facts(e, path))
      if (fact->key.kind == kind) return fact;
    return nullptr;
  }
  static bool refused(const Execution& e, const std::string& code) {
    return std::any_of(e.refusals.begin(), e.refusals.end(),
                       [&](const store::Reason& r) { return r.code == code; });
  }
  using Names = std::vector<std::string>;

  std::unique_ptr<Ledger> ledger_;
  pid_t next_pid_ = 1000;
};

}  // namespace pcache::tracer
