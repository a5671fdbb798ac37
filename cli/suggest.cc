#include "cli/suggest.h"

#include <algorithm>
#include <optional>

namespace pcache::cli {
namespace {

constexpr size_t kLeftOut = 4;

// Every letter of `typed` stands in `word`, in this order, the first of each being the same.
bool only_lacks_letters(std::string_view typed, std::string_view word) {
  if (typed.size() < 3 || word.empty() || typed[0] != word[0]) return false;
  size_t at = 0;
  for (const char c : word)
    if (at < typed.size() && typed[at] == c) ++at;
  return at == typed.size() && word.size() - typed.size() <= kLeftOut;
}

}  // namespace

size_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<size_t> before(b.size() + 1), last(b.size() + 1), now(b.size() + 1);
  for (size_t j = 0; j <= b.size(); ++j) last[j] = j;
  for (size_t i = 1; i <= a.size(); ++i) {
    now[0] = i;
    for (size_t j = 1; j <= b.size(); ++j) {
      now[j] =
          std::min({last[j] + 1, now[j - 1] + 1, last[j - 1] + (a[i - 1] == b[j - 1] ? 0 : 1)});
      if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
        now[j] = std::min(now[j], before[j - 2] + 1);
    }
    before.swap(last);
    last.swap(now);
  }
  return last[b.size()];
}

std::vector<std::string> nearest(const std::string& typed, const std::vector<std::string>& known) {
  std::vector<std::string> words;
  std::optional<size_t> best;
  const size_t allowed = typed.size() < 6 ? 1 : 2;
  for (const std::string& word : known) {
    const size_t distance = edit_distance(typed, word);
    if ((distance > allowed && !only_lacks_letters(typed, word)) || distance >= word.size())
      continue;
    if (best && distance > *best) continue;
    if (best && distance < *best) words.clear();
    best = distance;
    words.push_back(word);
  }
  return words;
}

std::string any_of_them(const std::vector<std::string>& words) {
  std::string out;
  for (size_t i = 0; i < words.size(); ++i)
    out += (i == 0 ? "" : i + 1 == words.size() ? " or " : ", ") + words[i];
  return out;
}

}  // namespace pcache::cli
