#include "cli/views/line_diff.h"

#include <fmt/format.h>

#include <algorithm>

namespace pcache::cli {
namespace {

constexpr size_t kLargest = 64 * 1024;
constexpr int kMostEdits = 400;
constexpr size_t kContext = 1;

std::vector<std::string_view> lines_of(std::string_view text) {
  std::vector<std::string_view> lines;
  while (!text.empty()) {
    const size_t end = std::min(text.find('\n'), text.size() - 1) + 1;
    lines.push_back(text.substr(0, end));
    text.remove_prefix(end);
  }
  return lines;
}

// One step of an edit script: ' ' takes a line of both, '-' of the first, '+' of the second.
struct Step {
  char sign;
  size_t before, now;  // line numbers, from 0
};

// Myers: the shortest edit script, by the furthest reaching paths for 0, 1, 2… edits.
std::optional<std::vector<Step>> edit_script(const std::vector<std::string_view>& a,
                                             const std::vector<std::string_view>& b) {
  const int n = static_cast<int>(a.size()), m = static_cast<int>(b.size());
  const int most = std::min(n + m, kMostEdits);
  std::vector<int> reach(static_cast<size_t>(2 * most + 3), 0);
  const auto at = [&](int k) -> int& { return reach[static_cast<size_t>(k + most + 1)]; };
  std::vector<std::vector<int>> history;
  for (int edits = 0; edits <= most; ++edits) {
    history.push_back(reach);
    for (int k = -edits; k <= edits; k += 2) {
      int x = k == -edits || (k != edits && at(k - 1) < at(k + 1)) ? at(k + 1) : at(k - 1) + 1;
      while (x < n && x - k < m && x - k >= 0 &&
             a[static_cast<size_t>(x)] == b[static_cast<size_t>(x - k)])
        ++x;
      at(k) = x;
      if (x < n || x - k < m) continue;
      std::vector<Step> steps;
      int y = m;
      x = n;
      for (int d = edits; x > 0 || y > 0; --d) {
        reach = history[static_cast<size_t>(d)];
        const int diagonal = x - y;
        const bool down = diagonal == -d || (diagonal != d && at(diagonal - 1) < at(diagonal + 1));
        const int from = down ? diagonal + 1 : diagonal - 1;
        const int from_x = d == 0 ? 0 : at(from), from_y = d == 0 ? 0 : from_x - from;
        while (x > from_x + (d > 0 && !down) && y > from_y + (d > 0 && down)) {
          --x, --y;
          steps.push_back({' ', static_cast<size_t>(x), static_cast<size_t>(y)});
        }
        if (d == 0) break;
        down ? --y : --x;
        steps.push_back({down ? '+' : '-', static_cast<size_t>(x), static_cast<size_t>(y)});
      }
      std::reverse(steps.begin(), steps.end());
      return steps;
    }
  }
  return std::nullopt;
}

std::string without_newline(std::string_view line) {
  if (line.ends_with('\n')) line.remove_suffix(1);
  return std::string(line);
}

}  // namespace

bool is_small_text(std::string_view bytes) {
  return bytes.size() <= kLargest && bytes.find('\0') == std::string_view::npos;
}

std::optional<std::vector<DiffLine>> line_diff(std::string_view before, std::string_view now,
                                               size_t limit) {
  const std::vector<std::string_view> a = lines_of(before), b = lines_of(now);
  const auto steps = edit_script(a, b);
  if (!steps) return std::nullopt;
  std::vector<bool> shown(steps->size(), false);
  for (size_t i = 0; i < steps->size(); ++i) {
    if ((*steps)[i].sign == ' ') continue;
    const size_t end = std::min(i + kContext + 1, steps->size());
    for (size_t j = i < kContext ? 0 : i - kContext; j < end; ++j) shown[j] = true;
  }
  std::vector<DiffLine> out;
  for (size_t i = 0; i < steps->size(); ++i) {
    if (!shown[i]) continue;
    const Step& step = (*steps)[i];
    if (i == 0 || !shown[i - 1]) out.push_back({'@', fmt::format("line {}", step.now + 1)});
    out.push_back({step.sign, without_newline(step.sign == '+' ? b[step.now] : a[step.before])});
  }
  if (out.size() > limit) {
    const size_t more = out.size() - limit + 1;
    out.resize(limit - 1);
    out.push_back({'@', fmt::format("and {} more lines", more)});
  }
  return out;
}

}  // namespace pcache::cli
