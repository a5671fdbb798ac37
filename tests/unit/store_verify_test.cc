#include <atomic>
#include <thread>

#include "store/codec.h"
#include "store/database.h"
#include "store_testing.h"

namespace pcache::store {
namespace {

class Verify : public StoreTest {
 protected:
  // A record of its own weak key, with one output.
  Digest put(uint64_t number, const std::string& contents) {
    Record record;
    record.weak = {number, number};
    FactValue value;
    value.mode = S_IFREG | 0644;
    value.hash = {number, 1};
    record.facts = {{{FactKind::kContent, {"in" + std::to_string(number)}}, value}};
    Effect effect;
    effect.path = {"out"};
    effect.blob = put_blob(contents);
    effect.size = contents.size();
    record.effects = {effect};
    EXPECT_TRUE(store_->put(record));
    return effect.blob;
  }
  bool has_record(uint64_t number) {
    const auto candidates = store_->candidates({number, number});
    return candidates && !candidates->empty() && store_->record((*candidates)[0].strong) &&
           store_->path_set((*candidates)[0].path_set);
  }
  std::string path_of(const Digest& digest) {
    const std::string hex = digest.hex();
    return cache() + "/store/blobs/" + hex.substr(0, 2) + "/" + hex;
  }
  // Other bytes of the same length.
  void damage(const Digest& digest) {
    const std::string path = path_of(digest);
    std::string bytes = read_file(path);
    bytes[0] = static_cast<char>(bytes[0] ^ 1);
    chmod(path.c_str(), 0600);
    write_file(path, bytes, 0400);
  }
  Verified verify(double sample = 1) {
    Result<Verified> found = store_->verify(sample, {});
    EXPECT_TRUE(found) << (found ? "" : found.error().to_string());
    return found ? *found : Verified{};
  }
  // Changes the database behind a closed store.
  void edit(const std::function<void(Database&, Batch*)>& change) {
    observer_.reset();
    store_.reset();
    {
      Result<std::unique_ptr<Database>> database = Database::open(cache() + "/store/db");
      ASSERT_TRUE(database);
      Batch batch;
      change(**database, &batch);
      ASSERT_TRUE((*database)->write(batch));
    }
    reopen();
  }
};

TEST_F(Verify, AWholeStoreStaysAsItIs) {
  put(1, "one");
  put(2, "two");
  const Verified found = verify();
  EXPECT_EQ(found.blobs, 2u);
  EXPECT_EQ(found.bytes, 6u);
  EXPECT_EQ(found.records, 2u);
  EXPECT_TRUE(found.damaged.empty());
  EXPECT_TRUE(has_record(1) && has_record(2));
}

TEST_F(Verify, DamagedContentsGoWithTheRecordsThatNameThem) {
  const Digest bad = put(1, "one"), good = put(2, "two");
  damage(bad);
  const Verified found = verify();
  ASSERT_EQ(found.damaged.size(), 2u);
  EXPECT_EQ(found.damaged[0].what, "contents");
  EXPECT_EQ(found.damaged[0].name, bad.hex());
  EXPECT_EQ(found.damaged[1].what, "record");
  EXPECT_FALSE(has_record(1));
  EXPECT_TRUE(has_record(2) && store_->blobs().has(good, 3));
  EXPECT_EQ(store_->stats().records, 1u);
  EXPECT_TRUE(verify().damaged.empty());
  reopen();
  EXPECT_FALSE(has_record(1));
  EXPECT_TRUE(has_record(2));
  put(1, "one");  // and it can come again
  EXPECT_TRUE(has_record(1));
}

TEST_F(Verify, ARecordWithoutItsContentsGoes) {
  const Digest lost = put(1, "one");
  ASSERT_EQ(unlink(path_of(lost).c_str()), 0);
  const Verified found = verify();
  ASSERT_EQ(found.damaged.size(), 1u);
  EXPECT_EQ(found.damaged[0].what, "record");
  EXPECT_FALSE(has_record(1));
}

TEST_F(Verify, RecordsAndQuestionsThatCannotBeReadGo) {
  put(1, "one");
  put(2, "two");
  put(3, "three");
  std::string strong, set;
  {
    const auto one = store_->candidates({1, 1}), two = store_->candidates({2, 2});
    strong = (*one)[0].strong.bytes();
    set = (*two)[0].path_set.bytes();
  }
  edit([&](Database& database, Batch* batch) {
    std::string record = **database.get(Column::kRecord, strong);
    record.pop_back();
    batch->put(Column::kRecord, strong, record);
    batch->put(Column::kPathSet, set, "garbage");
  });
  const Verified found = verify();
  ASSERT_EQ(found.damaged.size(), 2u);
  EXPECT_EQ(found.damaged[0].what, "questions");
  EXPECT_EQ(found.damaged[1].what, "record");
  EXPECT_FALSE(has_record(1) || has_record(2));
  EXPECT_TRUE(has_record(3));
  EXPECT_EQ(store_->stats().records, 1u);
}

TEST_F(Verify, ASampleHashesItsPart) {
  for (uint64_t i = 0; i < 10; ++i) put(i, "contents " + std::to_string(i));
  EXPECT_EQ(verify(0.3).blobs, 3u);
  EXPECT_EQ(verify(0.01).blobs, 1u);
  EXPECT_EQ(verify(0.3).records, 10u);
}

TEST_F(Verify, ItCanBeGivenUp) {
  put(1, "one");
  int asked = 0;
  const auto found = store_->verify(1, [&](uint64_t, uint64_t total) {
    ++asked;
    EXPECT_EQ(total, 3u);
    return false;
  });
  EXPECT_FALSE(found);
  EXPECT_EQ(asked, 1);
  EXPECT_TRUE(has_record(1));
}

TEST_F(Verify, PutsMeanwhileAreKept) {
  std::atomic<bool> stop{false};
  std::thread verifier([&] {
    while (!stop) EXPECT_TRUE(verify().damaged.empty());
  });
  for (uint64_t i = 0; i < 100; ++i) put(i, "contents " + std::to_string(i));
  stop = true;
  verifier.join();
  for (uint64_t i = 0; i < 100; ++i) EXPECT_TRUE(has_record(i)) << i;
}

}  // namespace
}  // namespace pcache::store
