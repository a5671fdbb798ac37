// The lines in which two texts differ, as `diff -U1` shows them. Pure.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace pcache::cli {

// Whether a file is worth showing: text of at most 64 KiB.
bool is_small_text(std::string_view bytes);

struct DiffLine {
  char sign;  // '-', '+', ' ' or '@' (a hunk's place)
  std::string text;
  bool operator==(const DiffLine&) const = default;
};

// At most `limit` lines, the last of which then says how many more there are. Nothing where the
// texts are too different to be worth it (more than 400 lines).
std::optional<std::vector<DiffLine>> line_diff(std::string_view before, std::string_view now,
                                               size_t limit);

}  // namespace pcache::cli
