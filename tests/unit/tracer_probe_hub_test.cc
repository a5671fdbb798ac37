// The eBPF hub, where this machine lets it be loaded: the events of one's own calls.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <functional>
#include <thread>

#include "tracer/probe_hub.h"

namespace pcache::tracer {
namespace {

pid_t own_tid() { return static_cast<pid_t>(::syscall(SYS_gettid)); }

class ProbeHubTest : public testing::Test {
 protected:
  void SetUp() override {
    Result<std::unique_ptr<ProbeHub>> hub = ProbeHub::create();
    if (!hub) GTEST_SKIP() << "SKIPPED, no eBPF here: " << hub.error().to_string();
    hub_ = std::move(*hub);
  }
  static std::vector<CallEvent> drain(ProbeHub::Feed& feed) {
    std::vector<CallEvent> events;
    EXPECT_TRUE(feed.drain(&events));
    return events;
  }

  std::unique_ptr<ProbeHub> hub_;
};

TEST_F(ProbeHubTest, TellsPathResultAndOrder) {
  const auto feed = hub_->open();
  ASSERT_NE(feed, nullptr);
  ASSERT_TRUE(feed->watch(own_tid(), 0));
  struct stat st {};
  ::stat("/no/such/thing", &st);
  const int fd = ::open("/dev/null", O_RDONLY | O_CLOEXEC);
  ::access("/", R_OK);
  feed->forget(own_tid());
  ::access("/etc", R_OK);
  ::close(fd);

  const std::vector<CallEvent> events = drain(*feed);
  ASSERT_EQ(events.size(), 3u);
  EXPECT_EQ(events[0].first, "/no/such/thing");
  EXPECT_EQ(events[0].result, -ENOENT);
  EXPECT_EQ(events[0].row->meaning, Meaning::kStat);
  EXPECT_EQ(events[1].first, "/dev/null");
  EXPECT_EQ(events[1].result, fd);
  EXPECT_EQ(events[2].row->meaning, Meaning::kAccess);
  EXPECT_LE(events[0].time_ns, events[1].time_ns);
  EXPECT_TRUE(std::all_of(events.begin(), events.end(),
                          [](const CallEvent& e) { return e.tid.value == own_tid(); }));
}

// The filter stops these: the hub must not tell them a second time.
TEST_F(ProbeHubTest, LeavesChangesAndDescriptorsToTheFilter) {
  const auto feed = hub_->open();
  ASSERT_NE(feed, nullptr);
  const int root = ::open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  ASSERT_TRUE(feed->watch(own_tid(), 0));
  struct stat st {};
  ::fstatat(root, "etc", &st, 0);
  ::fstat(root, &st);
  ::close(::open("/dev/null", O_WRONLY | O_CLOEXEC));
  ::close(::openat(root, "dev/null", O_RDONLY | O_CLOEXEC));
  feed->forget(own_tid());
  ::close(root);
  EXPECT_TRUE(drain(*feed).empty());
}

TEST_F(ProbeHubTest, TellsSessionsApart) {
  const auto one = hub_->open(), other = hub_->open();
  ASSERT_TRUE(one && other);
  ASSERT_TRUE(one->watch(own_tid(), 0));
  ::access("/one", R_OK);
  std::thread([&] {
    EXPECT_TRUE(other->watch(own_tid(), 0));
    ::access("/other", R_OK);
    other->forget(own_tid());
  }).join();
  one->forget(own_tid());
  const std::vector<CallEvent> of_other = drain(*other), of_one = drain(*one);
  const auto tells = [](const std::vector<CallEvent>& events, std::string_view path) {
    return std::any_of(events.begin(), events.end(),
                       [&](const CallEvent& e) { return e.first == path; });
  };
  EXPECT_TRUE(tells(of_one, "/one"));
  EXPECT_FALSE(tells(of_one, "/other"));
  EXPECT_TRUE(tells(of_other, "/other"));
}

TEST_F(ProbeHubTest, SaysWhenEventsWereLost) {
  const Result<std::unique_ptr<ProbeHub>> small = ProbeHub::create(16 << 10);
  ASSERT_TRUE(small);
  const auto feed = (*small)->open();
  ASSERT_NE(feed, nullptr);
  ASSERT_TRUE(feed->watch(own_tid(), 0));
  for (int i = 0; i < 1000; ++i) ::access("/some path", R_OK);
  feed->forget(own_tid());
  std::vector<CallEvent> events;
  EXPECT_FALSE(feed->drain(&events));
  events.clear();
  EXPECT_TRUE(feed->drain(&events));
  EXPECT_TRUE(events.empty());
}

// Until something is changed, that it was is known; what is relative, and other scopes, are told.
TEST_F(ProbeHubTest, TellsAgainOnlyWhatMayBeAnother) {
  const auto feed = hub_->open();
  ASSERT_NE(feed, nullptr);
  ASSERT_TRUE(feed->watch(own_tid(), 7));
  const auto told = [&](const std::function<void()>& look) {
    look();
    return drain(*feed).size();
  };
  const auto look = [] { ::access("/no/such/thing", R_OK); };
  struct stat st {};
  EXPECT_EQ(told(look), 1u);
  EXPECT_EQ(told(look), 0u);
  EXPECT_EQ(told([] { ::access("/no/such/thinG", R_OK); }), 1u);
  EXPECT_EQ(told([] { ::access("/no/such/thing", W_OK); }), 1u);
  EXPECT_EQ(told([&] { ::stat("/no/such/thing", &st); }), 1u);
  EXPECT_EQ(told([&] { ::lstat("/no/such/thing", &st); }), 1u);
  EXPECT_EQ(told([] { ::access("no", R_OK); }), 1u);
  EXPECT_EQ(told([] { ::access("no", R_OK); }), 1u);
  EXPECT_EQ(told([] { ::close(::open("/dev/null", O_RDONLY | O_CLOEXEC)); }), 1u);
  EXPECT_EQ(told([] { ::close(::open("/dev/null", O_RDONLY | O_CLOEXEC)); }), 1u);
  const std::string longer = "/" + std::string(200, 'x') + "/", longest = longer + longer;
  EXPECT_EQ(told([&] { ::access((longer + "a").c_str(), R_OK); }), 1u);
  EXPECT_EQ(told([&] { ::access((longer + "b").c_str(), R_OK); }), 1u);
  EXPECT_EQ(told([&] { ::access((longer + "b").c_str(), R_OK); }), 0u);
  EXPECT_EQ(told([&] { ::access(longest.c_str(), R_OK); }), 1u);
  EXPECT_EQ(told([&] { ::access(longest.c_str(), R_OK); }), 1u);

  ::umask(::umask(022));  // says nothing of any path
  EXPECT_EQ(told(look), 0u);
  EXPECT_EQ(told([] { ::rename("/no/such/thing", "/nor/this"); }), 0u);
  EXPECT_EQ(told(look), 0u);
  EXPECT_EQ(told([] {
              ::mkdir("looks", 0700);
              ::rmdir("looks");
            }),
            0u);
  EXPECT_EQ(told(look), 1u);
  feed->changed();
  EXPECT_EQ(told(look), 1u);
  EXPECT_EQ(told(look), 0u);
  ASSERT_TRUE(feed->watch(own_tid(), 8));
  EXPECT_EQ(told(look), 1u);
  feed->forget(own_tid());
}

// No path can be read where the kernel could not either.
TEST_F(ProbeHubTest, IgnoresWhatTheKernelCouldNotRead) {
  const auto feed = hub_->open();
  ASSERT_NE(feed, nullptr);
  ASSERT_TRUE(feed->watch(own_tid(), 0));
  ::syscall(SYS_access, 8, R_OK);
  feed->forget(own_tid());
  EXPECT_TRUE(drain(*feed).empty());
}

}  // namespace
}  // namespace pcache::tracer
