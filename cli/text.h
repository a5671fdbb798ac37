// How pcache writes to people: colours only on terminals, sizes in KiB, MiB and GiB, aligned
// columns.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace pcache::cli {

std::string format_bytes(uint64_t bytes);  // "12 B", "3.4 MiB"
// "20G", "500 MiB", "1.5t", "4096"; units are powers of 1024.
std::optional<uint64_t> parse_bytes(const std::string& text);
// "30d", "12 h", "90m", "45s", "2w", in seconds.
std::optional<double> parse_duration(const std::string& text);
std::string format_seconds(double seconds);  // "4.1 s", "12 ms", "1 h 02 min"
std::string counted(uint64_t n, std::string_view singular, std::string_view plural);  // "1 miss"

// A command line as a shell would take it, cut to `width` characters.
std::string command_text(const std::vector<std::string>& argv, size_t width);
// The same bytes with control characters made visible: for names in messages.
std::string printable(std::string_view text);

enum class Colour { kNone, kBold, kDim, kRed, kGreen, kYellow };

// Paints for one descriptor: does nothing when it is no terminal, under NO_COLOR or TERM=dumb.
class Painter {
 public:
  explicit Painter(int fd);
  std::string operator()(Colour colour, const std::string& text) const;
  bool terminal() const { return terminal_; }

 private:
  bool terminal_ = false;
  bool colours_ = false;
};

size_t terminal_width(int fd);  // 100 when it is no terminal

// Where long lines are to be broken: at the terminal's width; 0, nowhere, when it is no terminal.
size_t wrap_width(int fd);

// Rows with columns aligned two blanks apart; trailing blanks are dropped. Where a row is wider
// than `width` (0: no matter how wide) its last column goes on in the next line, below its
// beginning.
std::string aligned(const std::vector<std::vector<std::string>>& rows, const std::string& indent,
                    size_t width = 0);
// The same, row by row, each with its newlines.
std::vector<std::string> aligned_rows(const std::vector<std::vector<std::string>>& rows,
                                      const std::string& indent, size_t width = 0);

}  // namespace pcache::cli
