// Whether a text tells when, or how long, the run lasted that wrote it. A hit brings such a text
// back as it was recorded; explain says so.
//
// A rule of thumb, read from the text alone: a line is dated where it holds
//   - the date of the run, wherever on Earth: 2026-11-28 (also with / or .), 28.11.2026,
//     11/28/2026, 20261128, Nov 28 2026, 28-Nov-2026, Sat Nov 28 13:30:44 2026, Nov 28 13:30;
//   - a time of day (13:30:44) within the run, in UTC or local time;
//   - the run's time in seconds since 1970, also in ms, µs or ns.
// It tells a duration where it holds a word for it (time, took, elapsed, runtime, CPU, real, user,
// sys, or "in" before the number) and a number of seconds that the run lasted at least.
// What was dated by other means (binary, compressed, in other calendars) is not found, and what
// holds today's date for another reason is.
//
// Pure, any thread.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace pcache::store {

struct RunTimes {
  int64_t began_ns = 0, ended_ns = 0;  // CLOCK_REALTIME
  double longest_s = 0;                // of its wall and processor time
};

struct DatedLine {
  size_t line = 0;  // from 1
  std::string text;
  bool duration = false;  // how long, else when
};

// The first line that tells when; where none does, the first that tells how long. Nothing for what
// is no text.
std::optional<DatedLine> find_dated(std::string_view text, const RunTimes& run);

}  // namespace pcache::store
