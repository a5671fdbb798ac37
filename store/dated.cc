#include "store/dated.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <ctime>
#include <vector>

namespace pcache::store {
namespace {

constexpr int64_t kSecond = 1'000'000'000;
constexpr int kDay = 24 * 3600;
// What rounds to seconds, or was asked for by another process just before.
constexpr int kSlackS = 1;
constexpr size_t kLongestLine = 200;  // of what is shown

struct Date {
  int year = 0, month = 0, day = 0;
  bool operator==(const Date&) const = default;
};

// A run of letters or of digits.
struct Token {
  std::string_view text;
  bool number = false;
  int64_t value = -1;    // of a number of up to 19 digits
  char before = '\0';    // what stands right before it; '\0': the line's beginning
  bool adjacent = true;  // nothing but `before` is between it and the token before it
};

bool is_digit(char c) { return std::isdigit(static_cast<unsigned char>(c)) != 0; }
bool is_letter(char c) { return std::isalpha(static_cast<unsigned char>(c)) != 0; }

std::vector<Token> tokens_of(std::string_view line) {
  std::vector<Token> tokens;
  size_t last_end = 0;
  for (size_t at = 0; at < line.size();) {
    if (!is_digit(line[at]) && !is_letter(line[at])) {
      ++at;
      continue;
    }
    Token token;
    token.number = is_digit(line[at]);
    size_t end = at;
    while (end < line.size() && (token.number ? is_digit(line[end]) : is_letter(line[end]))) ++end;
    token.text = line.substr(at, end - at);
    token.before = at == 0 ? '\0' : line[at - 1];
    token.adjacent = at - last_end <= 1;
    if (token.number && token.text.size() <= 19) {
      token.value = 0;
      for (const char digit : token.text)
        if (__builtin_mul_overflow(token.value, int64_t{10}, &token.value) ||
            __builtin_add_overflow(token.value, int64_t{digit - '0'}, &token.value)) {
          token.value = -1;
          break;
        }
    }
    tokens.push_back(token);
    at = last_end = end;
  }
  return tokens;
}

std::string lower(std::string_view word) {
  std::string out(word);
  for (char& c : out) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  return out;
}

int month_of(std::string_view word) {
  static constexpr std::array<std::string_view, 12> kMonths = {
      "january", "february", "march",     "april",   "may",      "june",
      "july",    "august",   "september", "october", "november", "december"};
  const std::string name = lower(word);
  for (size_t i = 0; i < kMonths.size(); ++i)
    if (name == kMonths[i] || name == kMonths[i].substr(0, 3)) return static_cast<int>(i) + 1;
  return 0;
}

class Finder {
 public:
  explicit Finder(const RunTimes& run) : run_(run) {
    begin_s_ = run.began_ns / kSecond - kSlackS;
    end_s_ = run.ended_ns / kSecond + kSlackS;
    // From UTC-12 to UTC+14.
    for (int64_t at = begin_s_ - kDay / 2; at <= end_s_ + kDay * 14 / 24; at += kDay / 24)
      add_date(at);
    add_date(end_s_ + kDay * 14 / 24);
    const time_t end = end_s_;
    std::tm local{};
    ::localtime_r(&end, &local);
    local_offset_s_ = local.tm_gmtoff;
  }

  bool tells_when(const std::vector<Token>& line) const {
    for (size_t i = 0; i < line.size(); ++i) {
      if (line[i].number ? number_tells_when(line, i) : month_tells_when(line, i)) return true;
    }
    return false;
  }

  bool tells_how_long(const std::vector<Token>& line) const {
    static constexpr std::array<std::string_view, 9> kWords = {
        "time", "took", "elapsed", "runtime", "walltime", "cpu", "real", "user", "sys"};
    static constexpr std::array<std::string_view, 8> kUnits = {"s",       "sec", "secs", "second",
                                                               "seconds", "u",   "ms",   "msec"};
    const bool spoken_of = std::any_of(line.begin(), line.end(), [](const Token& token) {
      return !token.number &&
             std::find(kWords.begin(), kWords.end(), lower(token.text)) != kWords.end();
    });
    for (size_t i = 0; i < line.size(); ++i) {
      if (!line[i].number || line[i].value < 0 || follows(line, i, '.')) continue;
      const bool fraction = next_is(line, i, '.');
      const size_t after = i + (fraction ? 2 : 1);
      std::string unit = after < line.size() && !line[after].number && line[after].adjacent
                             ? lower(line[after].text)
                             : "";
      if (std::find(kUnits.begin(), kUnits.end(), unit) == kUnits.end()) unit.clear();
      const bool in = i > 0 && !line[i - 1].number && lower(line[i - 1].text) == "in";
      if (!(spoken_of && (fraction || !unit.empty())) && !(in && !unit.empty())) continue;
      const double scale = unit.starts_with("ms") ? 1e-3 : 1;
      if (static_cast<double>(line[i].value) * scale <= run_.longest_s + kSlackS) return true;
    }
    return false;
  }

 private:
  void add_date(int64_t at_s) {
    const time_t at = at_s;
    std::tm tm{};
    ::gmtime_r(&at, &tm);
    const Date date{tm.tm_year + 1900, tm.tm_mon + 1, tm.tm_mday};
    if (std::find(dates_.begin(), dates_.end(), date) == dates_.end()) dates_.push_back(date);
  }

  bool is_date(int64_t year, int64_t month, int64_t day) const {
    return std::any_of(dates_.begin(), dates_.end(), [&](const Date& date) {
      return date.year == year && date.month == month && date.day == day;
    });
  }

  static bool follows(const std::vector<Token>& line, size_t at, char separator) {
    return at > 0 && line[at].adjacent && line[at].before == separator && line[at - 1].number;
  }
  static bool next_is(const std::vector<Token>& line, size_t at, char separator) {
    return at + 1 < line.size() && line[at + 1].number && line[at + 1].adjacent &&
           line[at + 1].before == separator;
  }

  bool is_time(int64_t hour, int64_t minute, int64_t second) const {
    const int64_t told_s = hour * 3600 + minute * 60 + second;
    for (const int64_t offset_s : {int64_t{0}, local_offset_s_}) {
      const int64_t since_begin_s = (told_s - (begin_s_ + offset_s)) % kDay;
      if ((since_begin_s + kDay) % kDay <= end_s_ - begin_s_) return true;
    }
    return false;
  }

  bool is_epoch(const Token& token) const {
    static constexpr std::array<std::pair<size_t, int64_t>, 4> kScales = {
        {{10, 1}, {13, 1'000}, {16, 1'000'000}, {19, kSecond}}};
    return std::any_of(kScales.begin(), kScales.end(), [&](const auto& scale) {
      return token.text.size() == scale.first && token.value / scale.second >= begin_s_ &&
             token.value / scale.second <= end_s_;
    });
  }

  bool number_tells_when(const std::vector<Token>& line, size_t i) const {
    const Token& token = line[i];
    if (token.value < 0) return false;
    if (token.text.size() == 8 &&
        is_date(token.value / 10000, token.value / 100 % 100, token.value % 100))
      return true;
    if (is_epoch(token)) return true;
    if (i + 2 >= line.size()) return false;
    for (const char separator : {'-', '/', '.'}) {
      if (!next_is(line, i, separator) || !next_is(line, i + 1, separator)) continue;
      const int64_t a = token.value, b = line[i + 1].value, c = line[i + 2].value;
      if (is_date(a, b, c) || is_date(c, b, a) || is_date(c, a, b)) return true;
    }
    return token.text.size() <= 2 && token.before != ':' && next_is(line, i, ':') &&
           next_is(line, i + 1, ':') && line[i + 1].text.size() == 2 &&
           line[i + 2].text.size() == 2 &&
           is_time(token.value, line[i + 1].value, line[i + 2].value);
  }

  // "Nov 28 13:30:44 2026", "28 Nov 2026", "Nov 28 13:30".
  bool month_tells_when(const std::vector<Token>& line, size_t i) const {
    const int month = month_of(line[i].text);
    if (month == 0) return false;
    const auto with_year = [&](int64_t day, size_t from) {
      for (size_t at = from; at < std::min(line.size(), from + 6); ++at)
        if (line[at].text.size() == 4 && is_date(line[at].value, month, day)) return true;
      return false;
    };
    const auto this_year = [&](int64_t day) {
      return std::any_of(dates_.begin(), dates_.end(),
                         [&](const Date& date) { return date.month == month && date.day == day; });
    };
    if (i > 0 && line[i - 1].number && with_year(line[i - 1].value, i + 1)) return true;
    if (i + 1 >= line.size() || !line[i + 1].number) return false;
    const int64_t day = line[i + 1].value;
    return with_year(day, i + 2) || (this_year(day) && i + 3 < line.size() && line[i + 2].number &&
                                     next_is(line, i + 2, ':'));
  }

  const RunTimes& run_;
  int64_t begin_s_ = 0, end_s_ = 0, local_offset_s_ = 0;
  std::vector<Date> dates_;
};

}  // namespace

std::optional<DatedLine> find_dated(std::string_view text, const RunTimes& run) {
  if (text.find('\0') != std::string_view::npos) return std::nullopt;
  const Finder finder(run);
  std::optional<DatedLine> duration;
  size_t number = 0;
  for (size_t begin = 0; begin < text.size();) {
    size_t end = text.find('\n', begin);
    if (end == std::string_view::npos) end = text.size();
    const std::string_view line = text.substr(begin, end - begin);
    begin = end + 1;
    ++number;
    const std::vector<Token> tokens = tokens_of(line);
    const auto found = [&](bool how_long) {
      return DatedLine{number, std::string(line.substr(0, kLongestLine)), how_long};
    };
    if (finder.tells_when(tokens)) return found(false);
    if (!duration && finder.tells_how_long(tokens)) duration = found(true);
  }
  return duration;
}

}  // namespace pcache::store
