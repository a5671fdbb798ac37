#include <dirent.h>

#include <thread>

#include "store/codec.h"
#include "store/database.h"
#include "store_testing.h"

namespace pcache::store {
namespace {

constexpr uint64_t kSize = 100'000;

class Eviction : public StoreTest {
 protected:
  // A record of its own weak key with one output of kSize bytes, used one after the other.
  Digest put(uint64_t number, const std::string& contents) {
    Record record;
    record.weak = {number, number};
    FactValue value;
    value.mode = S_IFREG | 0644;
    value.hash = {number, 1};
    record.facts = {{{FactKind::kContent, {"a.c"}}, value}};
    Effect effect;
    effect.path = {"a.o"};
    effect.blob = put_blob(contents);
    effect.size = contents.size();
    record.effects = {effect};
    EXPECT_TRUE(store_->put(record));
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
    return effect.blob;
  }
  static std::string text(char c) { return std::string(kSize, c); }
  bool has_record(uint64_t number) {
    const auto candidates = store_->candidates({number, number});
    return candidates && !candidates->empty() && store_->record((*candidates)[0].strong);
  }
  bool has_blob(const Digest& digest) { return store_->blobs().has(digest, kSize); }
};

TEST_F(Eviction, TheLeastRecentlyUsedGoFirstWithTheirBlobs) {
  const Digest a = put(1, text('a')), b = put(2, text('b')), c = put(3, text('c'));
  const auto evicted = store_->evict({.max_bytes = store_->disk_bytes() - kSize});
  ASSERT_TRUE(evicted) << evicted.error().to_string();
  EXPECT_EQ(evicted->records, 1u);
  EXPECT_EQ(evicted->blobs, 1u);
  EXPECT_EQ(evicted->bytes, kSize);
  EXPECT_FALSE(has_record(1) || has_blob(a));
  EXPECT_TRUE(has_record(2) && has_blob(b) && has_record(3) && has_blob(c));
  EXPECT_EQ(store_->stats().records, 2u);
  EXPECT_EQ(store_->blobs().total_bytes(), 2 * kSize);
}

TEST_F(Eviction, ASharedBlobStaysAsLongAsARecordNamesIt) {
  const Digest shared = put(1, text('s'));
  const int64_t between = realtime_ns();
  put(2, text('s'));
  const auto evicted = store_->evict({.used_before_ns = between});
  ASSERT_TRUE(evicted);
  EXPECT_FALSE(has_record(1));
  EXPECT_TRUE(has_record(2) && has_blob(shared));
}

TEST_F(Eviction, WhatIsChosenGoesHoweverLatelyItWasUsed) {
  const Digest shared = put(1, text('s'));
  const Digest alone = put(2, text('a'));
  put(3, text('s'));
  const auto evicted =
      store_->evict({.chosen = [](const Record& record) { return record.weak.high != 1; }});
  ASSERT_TRUE(evicted) << evicted.error().to_string();
  EXPECT_EQ(evicted->records, 2u);
  EXPECT_TRUE(has_record(1) && has_blob(shared));
  EXPECT_FALSE(has_record(2) || has_record(3) || has_blob(alone));
}

TEST_F(Eviction, BlobsOfNoRecordGo) {
  const Digest loose = put_blob(text('x'));
  const Digest kept = put(1, text('k'));
  ASSERT_TRUE(store_->evict({}));
  EXPECT_FALSE(has_blob(loose));
  EXPECT_TRUE(has_blob(kept) && has_record(1));
}

TEST_F(Eviction, ADryRunOnlyCounts) {
  const Digest a = put(1, text('a'));
  const auto evicted = store_->evict({.max_bytes = 1, .dry_run = true});
  ASSERT_TRUE(evicted);
  EXPECT_EQ(evicted->records, 1u);
  EXPECT_EQ(evicted->bytes, kSize);
  EXPECT_TRUE(has_record(1) && has_blob(a));
}

TEST_F(Eviction, WhatIsEvictedStaysAwayAfterARestart) {
  const Digest a = put(1, text('a'));
  ASSERT_TRUE(store_->evict({.max_bytes = 1}));
  reopen();
  EXPECT_FALSE(has_record(1) || has_blob(a));
  EXPECT_EQ(store_->stats().blob_bytes, 0u);
}

TEST_F(Eviction, PastTheLimitIsSeenAndMended) {
  reopen({.limits = {.max_bytes = 3 * kSize, .min_free = 0}});
  for (uint64_t i = 0; i < 5; ++i) put(i, text(static_cast<char>('a' + i)));
  EXPECT_TRUE(store_->over_limit());
  ASSERT_TRUE(store_->evict_to_limits());
  EXPECT_FALSE(store_->over_limit());
  EXPECT_TRUE(has_record(4));
}

TEST_F(Eviction, TheLastPartOfTheDiskIsNotTaken) {
  reopen({.limits = {.min_free = 0.9999}});
  const auto put = store_->blobs().put_bytes("x");
  ASSERT_FALSE(put);
  EXPECT_EQ(put.error().kind, ErrorKind::kNoSpace);
  EXPECT_NE(put.error().to_string().find("nearly full"), std::string::npos);
}

TEST_F(Eviction, PutsMeanwhileKeepTheirBlobs) {
  std::atomic<bool> stop{false};
  std::thread evictor([&] {
    while (!stop) EXPECT_TRUE(store_->evict({.used_before_ns = 1}));
  });
  for (uint64_t i = 0; i < 60; ++i) {
    const std::string contents = text('m') + std::to_string(i);
    const Digest blob = store_->blobs().put_bytes(contents).value_or(Digest{});
    Record record;
    record.weak = {i, 7};
    Effect effect;
    effect.path = {"o"};
    effect.blob = blob;
    effect.size = contents.size();
    record.effects = {effect};
    // Refused where its blob went before it was named; never a record without its blob.
    if (store_->put(record)) {
      EXPECT_TRUE(store_->blobs().has(blob, contents.size())) << i;
    }
  }
  stop = true;
  evictor.join();
}

// A power cut leaves a name without its bytes, of the right size and with the stamp that was noted.
class AfterAPowerCut : public Eviction {
 protected:
  void write_meta(const char* key, const std::string& value) {
    Result<std::unique_ptr<Database>> database = Database::open(cache() + "/store/db");
    ASSERT_TRUE(database);
    Batch batch;
    batch.put(Column::kMeta, key, value);
    ASSERT_TRUE((*database)->write(batch));
  }
  std::string path_of(const Digest& digest) {
    const std::string hex = digest.hex();
    return cache() + "/store/blobs/" + hex.substr(0, 2) + "/" + hex;
  }
  // Other bytes under the noted stamp: as if they had never been written.
  void lose_bytes(const Digest& digest, const std::string& bytes) {
    const std::string path = path_of(digest);
    chmod(path.c_str(), 0600);
    write_file(path, bytes, 0400);
    const struct stat st = stat_of(path);
    store_.reset();
    observer_.reset();
    Result<std::unique_ptr<Database>> database = Database::open(cache() + "/store/db");
    ASSERT_TRUE(database);
    Batch batch;
    batch.put(Column::kBlob, digest.bytes(), encode_stamp(Stamp::of(st)));
    ASSERT_TRUE((*database)->write(batch));
  }
};

TEST_F(AfterAPowerCut, BlobsOfBeforeAreVerifiedOnFirstUse) {
  const Digest good = put_blob(text('g')), lost = put_blob(text('l'));
  ASSERT_TRUE(store_->flush());
  lose_bytes(lost, std::string(kSize, '\0'));
  write_meta("boot", "another boot");
  write_meta("clean", "0");
  std::this_thread::sleep_for(std::chrono::milliseconds(20));
  reopen();
  EXPECT_TRUE(has_blob(good));
  EXPECT_FALSE(has_blob(lost));
  reopen();  // what was verified need not be again; what was not is still distrusted
  EXPECT_TRUE(has_blob(good));
}

TEST_F(AfterAPowerCut, ACleanStopIsTrusted) {
  const Digest blob = put_blob(text('l'));
  ASSERT_TRUE(store_->flush());
  lose_bytes(blob, std::string(kSize, '\0'));
  write_meta("boot", "another boot");
  write_meta("clean", "1");
  reopen();
  EXPECT_TRUE(has_blob(blob));  // nobody looks: the stamp is the noted one
}

}  // namespace
}  // namespace pcache::store
