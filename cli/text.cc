#include "cli/text.h"

#include <fmt/format.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cctype>
#include <cmath>
#include <cstdlib>

namespace pcache::cli {
namespace {

// Columns a UTF-8 text takes, counting each code point as one, and colours (ESC [ ... m) as none.
size_t columns(std::string_view text) {
  size_t count = 0;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '\033') {
      i = std::min(text.find('m', i), text.size());
    } else if ((text[i] & 0xC0) != 0x80) {
      ++count;
    }
  }
  return count;
}

// Words of `text` as lines of `width` columns; those after the first are led by `begin` blanks.
std::string broken(const std::string& text, size_t width, size_t begin) {
  std::string out;
  size_t used = 0;
  for (size_t at = 0; at < text.size();) {
    const size_t end = std::min(text.find(' ', at), text.size());
    const std::string_view word(text.data() + at, end - at);
    const size_t needed = columns(word);
    if (used > 0 && used + 1 + needed > width) {
      out += '\n' + std::string(begin, ' ');
      used = 0;
    } else if (at > 0) {
      out += ' ';
      ++used;
    }
    out += word;
    used += needed;
    at = end + 1;
  }
  return out;
}

}  // namespace

std::string format_bytes(uint64_t bytes) {
  static constexpr const char* kUnits[] = {"B", "KiB", "MiB", "GiB", "TiB"};
  double value = static_cast<double>(bytes);
  size_t unit = 0;
  while (value >= 1024 && unit + 1 < std::size(kUnits)) {
    value /= 1024;
    ++unit;
  }
  return unit == 0 ? fmt::format("{} B", bytes) : fmt::format("{:.1f} {}", value, kUnits[unit]);
}

std::optional<uint64_t> parse_bytes(const std::string& text) {
  char* end = nullptr;
  double value = std::strtod(text.c_str(), &end);
  if (end == text.c_str() || !(value >= 0)) return std::nullopt;
  std::string unit;
  for (; *end != '\0'; ++end)
    if (*end != ' ') unit += static_cast<char>(std::toupper(static_cast<unsigned char>(*end)));
  static constexpr std::string_view kUnits = "KMGT";
  if (!unit.empty() && unit != "B") {
    const size_t power = kUnits.find(unit[0]);
    const std::string rest = unit.substr(1);
    if (power == std::string_view::npos || (rest != "" && rest != "B" && rest != "IB"))
      return std::nullopt;
    for (size_t i = 0; i <= power; ++i) value *= 1024;
  }
  if (value >= 9e18) return std::nullopt;
  return static_cast<uint64_t>(value);
}

std::optional<double> parse_duration(const std::string& text) {
  char* end = nullptr;
  const double value = std::strtod(text.c_str(), &end);
  if (end == text.c_str() || !(value >= 0) || value > 1e9) return std::nullopt;
  while (*end == ' ') ++end;
  const std::string_view unit = end;
  if (unit == "s") return value;
  if (unit == "m" || unit == "min") return value * 60;
  if (unit == "h") return value * 3600;
  if (unit == "d") return value * 86400;
  if (unit == "w") return value * 7 * 86400;
  return std::nullopt;
}

std::string format_seconds(double seconds) {
  if (seconds < 0.0005) return "0 s";
  if (seconds < 0.1) return fmt::format("{:.0f} ms", seconds * 1000);
  if (seconds < 120) return fmt::format("{:.1f} s", seconds);
  const auto whole = static_cast<uint64_t>(std::llround(seconds));
  if (whole < 7200) return fmt::format("{} min {:02} s", whole / 60, whole % 60);
  return fmt::format("{} h {:02} min", whole / 3600, whole / 60 % 60);
}

std::string counted(uint64_t n, std::string_view singular, std::string_view plural) {
  return fmt::format("{} {}", n, n == 1 ? singular : plural);
}

std::string printable(std::string_view text) {
  std::string out;
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte < 0x20 || byte == 0x7f) {
      out += fmt::format("\\x{:02x}", byte);
    } else {
      out += c;
    }
  }
  return out;
}

std::string command_text(const std::vector<std::string>& argv, size_t width) {
  static constexpr std::string_view kPlain =
      "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-+=./:,@%^";
  std::string out;
  for (const std::string& word : argv) {
    if (!out.empty()) out += ' ';
    if (!word.empty() && word.find_first_not_of(kPlain) == std::string::npos) {
      out += word;
    } else {
      out += '\'';
      for (const char c : word) c == '\'' ? out += "'\\''" : out += c;
      out += '\'';
    }
    if (out.size() > 4 * width) break;
  }
  out = printable(out);
  if (columns(out) <= width || width < 4) return out;
  size_t end = 0;
  for (size_t shown = 0; end < out.size() && shown + 3 < width; ++shown) {
    do {
      ++end;
    } while (end < out.size() && (out[end] & 0xC0) == 0x80);
  }
  return out.substr(0, end) + "...";
}

Painter::Painter(int fd) {
  terminal_ = ::isatty(fd) == 1;
  const char* no_color = std::getenv("NO_COLOR");
  const char* term = std::getenv("TERM");
  colours_ = terminal_ && (no_color == nullptr || *no_color == '\0') &&
             (term == nullptr || std::string_view(term) != "dumb");
}

std::string Painter::operator()(Colour colour, const std::string& text) const {
  if (!colours_ || colour == Colour::kNone) return text;
  const char* code = colour == Colour::kBold    ? "1"
                     : colour == Colour::kDim   ? "2"
                     : colour == Colour::kRed   ? "31"
                     : colour == Colour::kGreen ? "32"
                                                : "33";
  return fmt::format("\033[{}m{}\033[0m", code, text);
}

size_t terminal_width(int fd) {
  struct winsize size {};
  if (::ioctl(fd, TIOCGWINSZ, &size) == 0 && size.ws_col >= 40) return size.ws_col;
  return 100;
}

size_t wrap_width(int fd) { return ::isatty(fd) == 1 ? terminal_width(fd) : 0; }

std::vector<std::string> aligned_rows(const std::vector<std::vector<std::string>>& rows,
                                      const std::string& indent, size_t width) {
  constexpr size_t kNarrowest = 24;  // of what is broken into lines
  std::vector<size_t> widths;
  for (const auto& row : rows) {
    widths.resize(std::max(widths.size(), row.size()));
    for (size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], columns(row[i]));
  }
  std::vector<std::string> out;
  for (const auto& row : rows) {
    std::string line = indent;
    for (size_t i = 0; i + 1 < row.size(); ++i) {
      line += row[i];
      line.append(widths[i] - columns(row[i]) + 2, ' ');
    }
    const std::string& last = row.empty() ? std::string() : row.back();
    const size_t begin = columns(line);
    if (width == 0 || begin + columns(last) <= width) {
      line += last;
    } else if (begin + kNarrowest <= width) {
      line += broken(last, width - begin, begin);
    } else {
      line.erase(line.find_last_not_of(' ') + 1);
      const size_t hang = std::min(indent.size() + 4, width / 2);
      line += '\n' + std::string(hang, ' ') + broken(last, width - hang, hang);
    }
    line.erase(line.find_last_not_of(' ') + 1);
    out.push_back(line + '\n');
  }
  return out;
}

std::string aligned(const std::vector<std::vector<std::string>>& rows, const std::string& indent,
                    size_t width) {
  std::string out;
  for (const std::string& row : aligned_rows(rows, indent, width)) out += row;
  return out;
}

}  // namespace pcache::cli
