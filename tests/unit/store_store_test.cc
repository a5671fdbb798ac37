#include "store/store.h"

#include <sys/mount.h>
#include <sys/wait.h>

#include <cerrno>
#include <csignal>
#include <thread>

#include "store/codec.h"
#include "store/database.h"
#include "store/file_io.h"
#include "store_testing.h"

namespace pcache::store {
namespace {

Record record_of(const Digest& weak, const std::string& path, uint64_t content) {
  Record record;
  record.weak = weak;
  FactValue value;
  value.mode = S_IFREG | 0644;
  value.hash = {content, content};
  record.facts = {{{FactKind::kContent, {path}}, value}};
  record.exit_status = static_cast<int>(content);
  return record;
}

Digest strong_of(const Record& record) {
  PathSet keys;
  std::vector<FactValue> values;
  for (const Fact& fact : record.facts) {
    keys.push_back(fact.key);
    values.push_back(fact.value);
  }
  return strong_key(record.weak, path_set_digest(keys), values, record.root);
}

std::vector<Digest> strongs(Store& store, const Digest& weak) {
  std::vector<Digest> out;
  const auto candidates = store.candidates(weak);
  EXPECT_TRUE(candidates);
  for (const Candidate& candidate : *candidates) out.push_back(candidate.strong);
  return out;
}

// Some 33 KB that do not compress.
Record large_record(uint64_t i) {
  Record record = record_of({i, i}, "a.c", i);
  for (uint64_t j = 0; j < 1024; ++j) {
    Hasher h;
    record.facts[0].value.entries.push_back(h.add(i).add(j).finish().hex());
  }
  return record;
}

class StoreBasics : public StoreTest {};

TEST_F(StoreBasics, TwoPhaseLookupFindsWhatWasPut) {
  const Record record = record_of(weak_, "a.c", 1);
  ASSERT_TRUE(store_->put(record));
  for (int round = 0; round < 2; ++round) {
    const auto candidates = store_->candidates(weak_);
    ASSERT_TRUE(candidates);
    ASSERT_EQ(candidates->size(), 1u);
    const auto keys = store_->path_set(candidates->at(0).path_set);
    ASSERT_TRUE(keys);
    ASSERT_EQ((*keys)->size(), 1u);
    EXPECT_EQ((*keys)->at(0), record.facts[0].key);
    const Digest strong =
        strong_key(weak_, candidates->at(0).path_set, {record.facts[0].value}, record.root);
    EXPECT_EQ(strong, candidates->at(0).strong);
    const auto found = store_->record(strong);
    ASSERT_TRUE(found);
    EXPECT_EQ((*found)->exit_status, 1);
    EXPECT_EQ((*found)->strong, strong);
    reopen();  // the second time out of the database
  }
}

TEST_F(StoreBasics, WhatWasNeverPutIsNotFound) {
  EXPECT_TRUE(strongs(*store_, {5, 5}).empty());
  EXPECT_EQ(store_->record({5, 5}).error().kind, ErrorKind::kNotFound);
  EXPECT_EQ(store_->path_set({5, 5}).error().kind, ErrorKind::kNotFound);
}

TEST_F(StoreBasics, TheLatestComesFirstAndTouchBringsToTheFront) {
  const Record a = record_of(weak_, "a.c", 1), b = record_of(weak_, "a.c", 2);
  ASSERT_TRUE(store_->put(a));
  ASSERT_TRUE(store_->put(b));
  EXPECT_EQ(strongs(*store_, weak_), (std::vector<Digest>{strong_of(b), strong_of(a)}));
  store_->touch(weak_, strong_of(a));
  EXPECT_EQ(strongs(*store_, weak_), (std::vector<Digest>{strong_of(a), strong_of(b)}));
  store_->touch(weak_, {7, 7});
  ASSERT_TRUE(store_->flush());
  reopen();
  EXPECT_EQ(strongs(*store_, weak_), (std::vector<Digest>{strong_of(a), strong_of(b)}));
}

TEST_F(StoreBasics, PuttingAgainKeepsOneCandidate) {
  ASSERT_TRUE(store_->put(record_of(weak_, "a.c", 1)));
  ASSERT_TRUE(store_->put(record_of(weak_, "a.c", 1)));
  EXPECT_EQ(strongs(*store_, weak_).size(), 1u);
  EXPECT_EQ(store_->stats().records, 1u);
}

TEST_F(StoreBasics, AtMost256CandidatesTheOldestDropped) {
  for (uint64_t i = 1; i <= 260; ++i) ASSERT_TRUE(store_->put(record_of(weak_, "a.c", i)));
  const std::vector<Digest> found = strongs(*store_, weak_);
  ASSERT_EQ(found.size(), 256u);
  EXPECT_EQ(found.front(), strong_of(record_of(weak_, "a.c", 260)));
  EXPECT_EQ(found.back(), strong_of(record_of(weak_, "a.c", 5)));
  EXPECT_EQ(store_->stats().records, 256u);
  reopen();
  EXPECT_FALSE(store_->record(strong_of(record_of(weak_, "a.c", 4))));
  EXPECT_TRUE(store_->record(strong_of(record_of(weak_, "a.c", 5))));
}

TEST_F(StoreBasics, ARecordNeverNamesABlobThatIsNotThere) {
  Record record = record_of(weak_, "a.c", 1);
  Effect effect;
  effect.path = {"a.o"};
  effect.blob = hash_bytes("object");
  effect.size = 6;
  record.effects = {effect};
  EXPECT_EQ(store_->put(record).error().kind, ErrorKind::kNotFound);
  EXPECT_TRUE(strongs(*store_, weak_).empty());
  EXPECT_EQ(put_blob("object"), effect.blob);
  EXPECT_TRUE(store_->put(record));
  EXPECT_EQ(store_->maker("a.o", effect.blob), strong_of(record));
  EXPECT_FALSE(store_->maker("b.o", effect.blob));
  EXPECT_FALSE(store_->maker("a.o", hash_bytes("another object")));
}

// make runs cc, which leaves a.o; make's own record leaves it too, and ends later.
TEST_F(StoreBasics, TheInnermostCommandMadeAFile) {
  Effect effect;
  effect.path = {"a.o"};
  effect.blob = put_blob("object");
  effect.size = 6;
  Record cc = record_of(weak_, "a.c", 1), make = record_of({7, 7}, "Makefile", 2);
  cc.effects = make.effects = {effect};
  const int64_t now = realtime_ns();
  cc.created_ns = now - 1000;
  make.created_ns = now;
  cc.wall_ns = 500;
  make.wall_ns = 5000;
  ASSERT_TRUE(store_->put(cc));
  ASSERT_TRUE(store_->put(make));
  EXPECT_EQ(store_->maker("a.o", effect.blob), strong_of(cc));
  // Another command leaves the same contents later.
  Record copy = record_of({8, 8}, "b.o", 3);
  copy.effects = {effect};
  copy.created_ns = now + 10000;
  copy.wall_ns = 100;
  ASSERT_TRUE(store_->put(copy));
  EXPECT_EQ(store_->maker("a.o", effect.blob), strong_of(copy));
}

// make runs once more, and cc in it hits.
TEST_F(StoreBasics, TheInnermostCommandMadeAFileAlsoWhereItHit) {
  Effect effect;
  effect.path = {"a.o"};
  effect.blob = put_blob("object");
  effect.size = 6;
  Record cc = record_of(weak_, "a.c", 1), make = record_of({7, 7}, "Makefile", 2);
  cc.effects = make.effects = {effect};
  cc.created_ns = realtime_ns() - 1'000'000'000;
  ASSERT_TRUE(store_->put(cc));
  const int64_t began = realtime_ns();
  store_->note_output("/one", "a.o", strong_of(cc), true, began);
  make.created_ns = realtime_ns();
  make.wall_ns = static_cast<uint64_t>(make.created_ns - began);
  ASSERT_TRUE(store_->put(make));
  store_->note_output("/one", "a.o", strong_of(make), false, began);
  EXPECT_EQ(store_->maker("a.o", effect.blob), strong_of(cc));
  reopen();
  EXPECT_EQ(store_->maker("a.o", effect.blob), strong_of(cc));
  // What make makes itself is its own from then on.
  make.created_ns = realtime_ns();
  make.wall_ns = 1;
  ASSERT_TRUE(store_->put(make));
  EXPECT_EQ(store_->maker("a.o", effect.blob), strong_of(make));
}

TEST_F(StoreBasics, WhoLeftAPathIsKnownByCheckoutAndAfterHits) {
  const Digest cc{1, 1}, make{2, 2};
  const int64_t began = realtime_ns();
  store_->note_output("/one", "a.o", cc, false, began);
  store_->note_output("/one", "a.o", make, false, began);  // cc ended inside it
  ASSERT_TRUE(store_->producer("/one", "a.o"));
  EXPECT_EQ(store_->producer("/one", "a.o")->strong, cc);
  EXPECT_FALSE(store_->producer("/two", "a.o"));
  store_->note_output("/two", "a.o", make, true, realtime_ns());
  reopen();
  EXPECT_FALSE(store_->producer("/one", "a.o")->hit);
  EXPECT_TRUE(store_->producer("/two", "a.o")->hit);
  store_->note_output("/one", "a.o", make, true, realtime_ns());
  EXPECT_EQ(store_->producer("/one", "a.o")->strong, make);
  store_->note_output("/one", "/tmp/x", cc, false, realtime_ns());
  EXPECT_TRUE(store_->producer("/two", "/tmp/x"));  // outside: of no checkout
}

TEST_F(StoreBasics, RunsAreFoundByNumberAndByWhatTheyHold) {
  for (int i = 1; i <= 25; ++i)
    ASSERT_TRUE(store_->put_run("run <" + std::to_string(i) + ">", 0, 0, 0, 0, 0));
  const std::vector<uint64_t> runs = store_->runs();
  ASSERT_EQ(runs.size(), 20u);
  EXPECT_EQ(runs.back(), 25u);
  EXPECT_EQ(store_->run(25), "run <25>");
  EXPECT_FALSE(store_->run(1));
  EXPECT_EQ(store_->run_with("<7>"), 7u);
  EXPECT_EQ(store_->run_with("run <"), 25u);
  EXPECT_FALSE(store_->run_with("<26>"));
}

TEST_F(StoreBasics, ReadOnlyHitsButNeverRecords) {
  ASSERT_TRUE(store_->put(record_of(weak_, "a.c", 1)));
  reopen({.read_only = true});
  EXPECT_EQ(strongs(*store_, weak_).size(), 1u);
  EXPECT_FALSE(store_->put(record_of(weak_, "a.c", 2)));
  EXPECT_EQ(strongs(*store_, weak_).size(), 1u);
}

TEST_F(StoreBasics, MemosOwnOutputsAndPartsOutliveTheStore) {
  const Stamp stamp{1, 2, 3, 4, 5};
  store_->remember(stamp, {6, 6}, realtime_ns());
  store_->remember_own(weak_, "/r", "a.o", stamp);
  store_->remember_parts({8, 8}, {{"argv", "cc"}});
  for (int round = 0; round < 2; ++round) {
    EXPECT_EQ(store_->memo(stamp), (Digest{6, 6}));
    EXPECT_EQ(store_->own(weak_, "/r", "a.o"), stamp);
    EXPECT_FALSE(store_->own(weak_, "/other", "a.o"));
    EXPECT_FALSE(store_->own({9, 9}, "/r", "a.o"));
    EXPECT_EQ(store_->parts({8, 8}), (Store::KeyParts{{"argv", "cc"}}));
    reopen();
  }
}

TEST_F(StoreBasics, AStampOfJustNowIsNotRemembered) {
  const int64_t now = realtime_ns();
  const Stamp young{1, 2, 3, now - 5'000'000, now - 5'000'000};
  const Stamp future{1, 2, 4, now + 1'000'000'000, now - 1'000'000'000};
  const Stamp changed{1, 2, 5, now - 1'000'000'000, now - 5'000'000};
  for (const Stamp& stamp : {young, future, changed}) {
    EXPECT_TRUE(stamp.young(now));
    store_->remember(stamp, {1, 1}, now);
    EXPECT_FALSE(store_->memo(stamp));
  }
  EXPECT_FALSE(young.young(now + 20'000'000));
}

TEST_F(StoreBasics, HashFileNoticesAChange) {
  write_file(in_root("a"), std::string(1 << 20, 'x'));
  const UniqueFd fd(open(in_root("a").c_str(), O_RDONLY));
  struct stat st = stat_of(in_root("a"));
  EXPECT_EQ(store_->hash_file(fd.get(), st), hash_bytes(std::string(1 << 20, 'x')));
  write_file(in_root("a"), "short");
  EXPECT_EQ(store_->hash_file(fd.get(), st).error().kind, ErrorKind::kBusy);
}

TEST_F(StoreBasics, RunsAddUpAndTheLastTwentyAreKept) {
  for (int i = 1; i <= 25; ++i) {
    ASSERT_TRUE(store_->put_run("{\"run\": " + std::to_string(i) + "}", 2, 1, 3, 100, 1000));
  }
  reopen();
  EXPECT_EQ(store_->last_run(), "{\"run\": 25}");
  const StoreStats stats = store_->stats();
  EXPECT_EQ(stats.runs, 25u);
  EXPECT_EQ(stats.hits, 50u);
  EXPECT_EQ(stats.misses, 25u);
  EXPECT_EQ(stats.uncacheable, 75u);
  EXPECT_EQ(stats.saved_ns, 2500u);
  EXPECT_EQ(stats.bytes_served, 25000u);
  store_->zero_stats();
  EXPECT_EQ(store_->stats().hits, 0u);
}

TEST_F(StoreBasics, ClearRemovesAllButTheStatistics) {
  put_blob("content");
  ASSERT_TRUE(store_->put(record_of(weak_, "a.c", 1)));
  ASSERT_TRUE(store_->put_run("{}", 1, 0, 0, 0, 0));
  store_->remember({1, 2, 3, 4, 5}, {6, 6}, realtime_ns());
  ASSERT_TRUE(store_->clear());
  for (int round = 0; round < 2; ++round) {
    EXPECT_TRUE(strongs(*store_, weak_).empty());
    EXPECT_FALSE(store_->record(strong_of(record_of(weak_, "a.c", 1))));
    EXPECT_FALSE(store_->last_run());
    EXPECT_FALSE(store_->memo({1, 2, 3, 4, 5}));
    EXPECT_FALSE(store_->blobs().has(hash_bytes("content"), 7));
    EXPECT_EQ(store_->stats().hits, 1u);
    EXPECT_EQ(store_->stats().records, 0u);
    EXPECT_EQ(store_->stats().blobs, 0u);
    reopen();
  }
  ASSERT_TRUE(store_->put(record_of(weak_, "a.c", 1)));
  EXPECT_EQ(strongs(*store_, weak_).size(), 1u);
}

TEST_F(StoreBasics, ANewerFormatIsRefusedWithTheRemedy) {
  store_.reset();
  {
    auto db = Database::open(cache() + "/store/db");
    ASSERT_TRUE(db);
    Batch batch;
    batch.put(Column::kMeta, "format", encode_u64(kFormatVersion + 1));
    ASSERT_TRUE((*db)->write(batch));
  }
  const auto opened = Store::open(cache(), {});
  ASSERT_FALSE(opened);
  const std::string text = opened.error().to_string();
  EXPECT_NE(text.find(cache()), std::string::npos) << text;
  EXPECT_NE(text.find("pcache clear"), std::string::npos) << text;
  EXPECT_NE(text.find("newer pcache"), std::string::npos) << text;
}

TEST_F(StoreBasics, TheDirectoryIsPrivate) {
  EXPECT_EQ(stat_of(cache()).st_mode & 07777, 0700u);
  EXPECT_EQ(stat_of(cache() + "/store").st_mode & 07777, 0700u);
}

TEST_F(StoreBasics, ASecondOpenerIsToldSo) {
  const auto second = Store::open(cache(), {});
  ASSERT_FALSE(second);
  EXPECT_EQ(second.error().kind, ErrorKind::kBusy);
  EXPECT_NE(second.error().to_string().find("another pcached"), std::string::npos);
}

TEST_F(StoreBasics, ADirectoryThatCannotBeOneIsNamed) {
  write_file(dir_.path() + "/file", "");
  const auto opened = Store::open(dir_.path() + "/file/cache", {});
  ASSERT_FALSE(opened);
  EXPECT_NE(opened.error().to_string().find(dir_.path() + "/file"), std::string::npos);
}

TEST_F(StoreBasics, ADamagedTableIsAnErrorNotARecord) {
  for (uint64_t i = 1; i <= 200; ++i) ASSERT_TRUE(store_->put(large_record(i)));
  observer_.reset();
  store_.reset();
  int damaged = 0;
  for (const auto& entry : std::filesystem::directory_iterator(cache() + "/store/db")) {
    if (entry.path().extension() != ".sst") continue;
    std::string bytes = read_file(entry.path());
    for (size_t i = 0; i < bytes.size() / 2; i += 64) bytes[i] = static_cast<char>(~bytes[i]);
    write_file(entry.path(), bytes);
    ++damaged;
  }
  ASSERT_GT(damaged, 0);
  const auto opened = Store::open(cache(), {});
  if (!opened) return;  // noticed at once
  for (uint64_t i = 1; i <= 200; ++i) {
    const Record expected = large_record(i);
    const auto found = (*opened)->record(strong_of(expected));
    if (found) {
      EXPECT_EQ((*found)->facts, expected.facts);
    }
  }
}

TEST_F(StoreBasics, AKilledDaemonLosesNoRecord) {
  observer_.reset();
  store_.reset();
  Record record = record_of(weak_, "a.c", 1);
  Effect effect;
  effect.path = {"a.o"};
  effect.blob = hash_bytes("object");
  effect.size = 6;
  record.effects = {effect};
  const pid_t child = fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    Result<std::unique_ptr<Store>> opened = Store::open(cache(), {});
    const bool done = opened && (*opened)->blobs().put_bytes("object") && (*opened)->put(record);
    if (done) raise(SIGKILL);
    _exit(1);
  }
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  ASSERT_TRUE(WIFSIGNALED(status));
  reopen();
  ASSERT_EQ(strongs(*store_, weak_).size(), 1u);
  EXPECT_TRUE(store_->record(strong_of(record)));
  EXPECT_TRUE(store_->blobs().open(effect.blob, 6));
  EXPECT_EQ(store_->stats().records, 1u);
  EXPECT_EQ(store_->stats().blobs, 1u);
}

TEST_F(StoreBasics, ManyThreads) {
  std::vector<std::thread> threads;
  for (uint64_t t = 0; t < 4; ++t) {
    threads.emplace_back([this, t] {
      for (uint64_t i = 0; i < 100; ++i) {
        const Digest weak{i % 7, 1};
        put_blob("blob " + std::to_string(i));
        EXPECT_TRUE(store_->put(record_of(weak, "a.c", t * 1000 + i)));
        store_->touch(weak, strong_of(record_of(weak, "a.c", i)));
        store_->remember({t, i, 0, 0, 0}, {i, t}, realtime_ns());
        store_->remember_own(weak, "/r", std::to_string(i), {t, i, 0, 0, 0});
        EXPECT_TRUE(store_->candidates(weak));
        (void)store_->stats();
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(store_->stats().records, 400u);
  EXPECT_EQ(store_->stats().blobs, 100u);
}

class BlobTest : public StoreTest {
 protected:
  std::string blob_path(const Digest& digest) const {
    return cache() + "/store/blobs/" + digest.hex().substr(0, 2) + "/" + digest.hex();
  }
  std::string content(const Digest& digest, uint64_t size) {
    const Result<UniqueFd> fd = store_->blobs().open(digest, size);
    if (!fd) return "<" + fd.error().to_string() + ">";
    std::string bytes(size, '\0');
    EXPECT_EQ(pread(fd->get(), bytes.data(), size, 0), static_cast<ssize_t>(size));
    return bytes;
  }
};

TEST_F(BlobTest, BytesAndFilesComeBack) {
  for (const size_t size : {size_t{0}, size_t{5}, size_t{1} << 20, (size_t{3} << 20) + 17}) {
    std::string bytes(size, 'x');
    for (size_t i = 0; i < size; i += 1000) bytes[i] = static_cast<char>(i / 1000);
    write_file(in_root("file"), bytes);
    const UniqueFd fd(open(in_root("file").c_str(), O_RDONLY));
    const Result<Digest> digest = store_->blobs().put_file(fd.get(), size);
    ASSERT_TRUE(digest);
    EXPECT_EQ(*digest, hash_bytes(bytes));
    EXPECT_EQ(lseek(fd.get(), 0, SEEK_CUR), 0);
    EXPECT_EQ(content(*digest, size), bytes);
    EXPECT_EQ(put_blob(bytes), *digest);
    EXPECT_EQ(stat_of(blob_path(*digest)).st_mode & 07777, 0400u);
  }
  EXPECT_EQ(store_->stats().blobs, 4u);
  EXPECT_EQ(store_->blobs().total_bytes(), 5u + (1u << 20) + (3u << 20) + 17u);
  reopen();
  EXPECT_EQ(store_->stats().blobs, 4u);
  EXPECT_TRUE(std::filesystem::is_empty(cache() + "/store/tmp"));
}

TEST_F(BlobTest, AFileThatBecameShorterIsBusy) {
  write_file(in_root("file"), "short");
  const UniqueFd fd(open(in_root("file").c_str(), O_RDONLY));
  EXPECT_EQ(store_->blobs().put_file(fd.get(), 6).error().kind, ErrorKind::kBusy);
  EXPECT_EQ(store_->blobs().put_file(fd.get(), 5 << 20).error().kind, ErrorKind::kBusy);
  EXPECT_TRUE(std::filesystem::is_empty(cache() + "/store/tmp"));
}

TEST_F(BlobTest, LostOnesAreNotFound) {
  const Digest digest = put_blob("content");
  ASSERT_EQ(unlink(blob_path(digest).c_str()), 0);
  EXPECT_FALSE(store_->blobs().has(digest, 7));
  EXPECT_EQ(store_->blobs().open(digest, 7).error().kind, ErrorKind::kNotFound);
  EXPECT_EQ(store_->blobs().open({1, 1}, 7).error().kind, ErrorKind::kNotFound);
}

TEST_F(BlobTest, AnotherSizeIsNotFoundAndTheBlobStays) {
  const Digest digest = put_blob("content");
  EXPECT_EQ(store_->blobs().open(digest, 8).error().kind, ErrorKind::kNotFound);
  EXPECT_EQ(content(digest, 7), "content");
}

TEST_F(BlobTest, AChangedModeIsCheckedAndForgiven) {
  const Digest digest = put_blob("content");
  ASSERT_EQ(chmod(blob_path(digest).c_str(), 0600), 0);
  EXPECT_TRUE(store_->blobs().has(digest, 7));
  EXPECT_EQ(content(digest, 7), "content");
}

TEST_F(BlobTest, AChangedContentIsNeverGivenOut) {
  const Digest digest = put_blob("content");
  for (const bool again : {false, true}) {
    const std::string path = blob_path(digest);
    const struct stat st = stat_of(path);
    chmod(path.c_str(), 0600);
    write_file(path, "CONTENT", 0400);
    const struct timespec times[2] = {st.st_atim, st.st_mtim};
    utimensat(AT_FDCWD, path.c_str(), times, 0);
    if (again) reopen();
    EXPECT_EQ(store_->blobs().open(digest, 7).error().kind, ErrorKind::kNotFound);
    EXPECT_FALSE(store_->blobs().has(digest, 7));
    EXPECT_FALSE(std::filesystem::exists(path));
    EXPECT_EQ(put_blob("content"), digest);
    EXPECT_EQ(content(digest, 7), "content");
  }
}

// The disk is full after `space` bytes; nothing can be renamed when `rename_fails`.
class FullDisk : public FileIo {
 public:
  ssize_t write(int fd, const void* data, size_t size) override {
    if (space < size) {
      errno = ENOSPC;
      return -1;
    }
    space -= size;
    return FileIo::write(fd, data, size);
  }
  int rename(const char* from, const char* to) override {
    if (!rename_fails) return FileIo::rename(from, to);
    errno = EDQUOT;
    return -1;
  }
  size_t space = 1 << 30;
  bool rename_fails = false;
};

TEST_F(BlobTest, AFullDiskIsAnErrorAndLeavesNothingBehind) {
  FullDisk disk;
  reopen({.io = &disk});
  const Digest before = put_blob("before");
  disk.space = 3;
  EXPECT_EQ(store_->blobs().put_bytes("content").error().kind, ErrorKind::kNoSpace);
  write_file(in_root("file"), std::string(2 << 20, 'x'));
  const UniqueFd fd(open(in_root("file").c_str(), O_RDONLY));
  disk.space = 1 << 20;
  EXPECT_EQ(store_->blobs().put_file(fd.get(), 2 << 20).error().kind, ErrorKind::kNoSpace);
  disk.space = 1 << 30;
  disk.rename_fails = true;
  EXPECT_EQ(store_->blobs().put_bytes("content").error().kind, ErrorKind::kNoSpace);
  EXPECT_TRUE(std::filesystem::is_empty(cache() + "/store/tmp"));
  EXPECT_EQ(content(before, 6), "before");
  EXPECT_EQ(store_->stats().blobs, 1u);
  disk.rename_fails = false;
  EXPECT_EQ(content(put_blob("content"), 7), "content");
  reopen();
}

// A small tmpfs that is really full: RocksDB must answer with errors, not abort.
TEST_F(BlobTest, ADatabaseOnAFullDiskGivesErrors) {
  const std::string small = dir_.path() + "/small";
  ASSERT_EQ(mkdir(small.c_str(), 0700), 0);
  if (mount("none", small.c_str(), "tmpfs", 0, "size=8m") != 0) GTEST_SKIP() << "needs root";
  {
    Result<std::unique_ptr<Store>> opened = Store::open(small + "/cache", {});
    ASSERT_TRUE(opened) << opened.error().to_string();
    Store& store = **opened;
    bool failed = false;
    for (uint64_t i = 1; i <= 400 && !failed; ++i) {
      const auto put = store.put(large_record(i));
      failed = !put;
    }
    EXPECT_TRUE(failed);
    EXPECT_TRUE(store.candidates({1, 1}));
    EXPECT_TRUE(store.record(strongs(store, {1, 1}).at(0)));
    (void)store.flush();
  }
  EXPECT_EQ(umount2(small.c_str(), MNT_DETACH), 0);
}

}  // namespace
}  // namespace pcache::store
