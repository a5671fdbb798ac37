#include "cli/progress.h"

#include <unistd.h>

#include <algorithm>
#include <cstdio>

namespace pcache::cli {

ProgressBar::ProgressBar() : paint_(STDERR_FILENO) {}

void ProgressBar::show(double part, const std::string& text) {
  if (!paint_.terminal()) return;
  constexpr size_t kWidth = 30;
  const auto done = static_cast<size_t>(kWidth * std::clamp(part, 0.0, 1.0));
  std::fprintf(stderr, "\r\033[K[%s%s] %s", std::string(done, '#').c_str(),
               std::string(kWidth - done, '.').c_str(), text.c_str());
  std::fflush(stderr);
  shown_ = true;
}

void ProgressBar::clear() {
  if (shown_) std::fputs("\r\033[K", stderr);
  shown_ = false;
}

}  // namespace pcache::cli
