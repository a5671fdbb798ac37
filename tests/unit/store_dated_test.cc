// What explain warns of: text that tells when, or how long, its run was.
#include <gtest/gtest.h>

#include <cstdlib>
#include <ctime>

#include "store/dated.h"

namespace pcache::store {
namespace {

constexpr int64_t kSecond = 1'000'000'000;
constexpr int64_t kNoon = 1795867200;  // Sat Nov 28 12:00:00 2026, UTC

std::optional<DatedLine> find(const std::string& text, double seconds = 2) {
  return find_dated(
      text, {kNoon * kSecond, kNoon * kSecond + static_cast<int64_t>(seconds * 1e9), seconds});
}
bool tells_when(const std::string& text) {
  const auto found = find(text);
  return found && !found->duration;
}
bool tells_how_long(const std::string& text) {
  const auto found = find(text);
  return found && found->duration;
}

TEST(Dated, DatesOfTheRun) {
  for (const char* text :
       {"DATE  Sat Nov 28 12:00:01 2026", "# Date:            Sat Nov 28 12:00:01 2026",
        "made 2026-11-28", "2026-11-28T12:00:01Z", "2026/11/28", "2026.11.28", "28.11.2026",
        "11/28/2026", "28/11/2026", "v20261128", "28 Nov 2026", "28-Nov-2026", "Nov 28, 2026",
        "November 28, 2026", "28 November 2026", "-rw-r--r-- 1 x x 3 Nov 28 12:00 a",
        "Fri Nov 27 23:59:59 PST 2026", "29 Nov 2026"})
    EXPECT_TRUE(tells_when(text)) << text;
}

TEST(Dated, OtherDatesAreOfTheWork) {
  for (const char* text :
       {"2026-11-20", "2025-11-28", "Copyright (C) 1991-2026", "Nov 28, 2025", "28 Oct 2026",
        "version 11.28.2", "1.2.3", "may 28 12", "10.0.0.28", "20261120", "Nov 20 12:00"})
    EXPECT_FALSE(find(text)) << text;
}

TEST(Dated, TimesOfTheDayWithinTheRun) {
  EXPECT_TRUE(tells_when("[12:00:01] begun"));
  EXPECT_TRUE(tells_when("at 11:59:59,123"));
  EXPECT_FALSE(find("[12:00:30] begun"));
  EXPECT_FALSE(find("[09:00:01]"));
  EXPECT_TRUE(find("12:00:30", 60));
  EXPECT_FALSE(find("fe80::12:00:1"));
}

TEST(Dated, LocalTimesOfTheDay) {
  ::setenv("TZ", "XYZ-5:30", 1);
  ::tzset();
  EXPECT_TRUE(tells_when("[17:30:01]"));
  EXPECT_TRUE(tells_when("[12:00:01]"));
  EXPECT_FALSE(find("[18:00:01]"));
  ::unsetenv("TZ");
  ::tzset();
}

TEST(Dated, SecondsSince1970) {
  EXPECT_TRUE(tells_when("mothur.1795867201.logfile"));
  EXPECT_TRUE(tells_when("t=1795867201.25"));
  EXPECT_TRUE(tells_when("{\"ts\": 1795867201250}"));
  EXPECT_FALSE(find("1795867300"));
  EXPECT_FALSE(find("17958672012"));
}

TEST(Dated, HowLongItTook) {
  for (const char* text :
       {"# CPU time: 0.02u 0.00s 00:00:00.02 Elapsed: 00:00:00.01",
        "Overall execution time: 0.123456 secs", "It took 0 secs to read 12 sequences.",
        "[main] Real time: 0.012 sec; CPU: 0.010 sec", "Ran 3 tests in 0.003s", "5 passed in 1.20s",
        "Inference[0]: Time 0.071 GAMMA", "took 350 ms"})
    EXPECT_TRUE(tells_how_long(text)) << text;
}

TEST(Dated, NoDurationsOfTheRun) {
  for (const char* text :
       {"It took 40 secs", "time and again", "3 times as much", "score 0.25", "0.5s",
        "waits 300 s in the queue", "timeout = 0.5", "at the time of 12 men"})
    EXPECT_FALSE(find(text)) << text;
}

TEST(Dated, ADateIsToldBeforeADuration) {
  const auto found = find("a\nin 0.1 s it took\n2026-11-28\n");
  ASSERT_TRUE(found);
  EXPECT_EQ(found->line, 3u);
  EXPECT_EQ(found->text, "2026-11-28");
  EXPECT_FALSE(found->duration);
}

TEST(Dated, OnlyText) {
  EXPECT_FALSE(find(std::string("2026-11-28\0", 11)));
  EXPECT_FALSE(find(""));
  EXPECT_TRUE(find("99999999999999999999999999 2026-11-28"));
}

}  // namespace
}  // namespace pcache::store
