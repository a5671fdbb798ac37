// ProgressBar: one line on stderr for work that takes its time; nothing where that is no terminal.
#pragma once

#include <string>

#include "cli/text.h"

namespace pcache::cli {

class ProgressBar {
 public:
  ProgressBar();
  ~ProgressBar() { clear(); }
  ProgressBar(const ProgressBar&) = delete;
  ProgressBar& operator=(const ProgressBar&) = delete;

  void show(double part, const std::string& text);  // part: 0 to 1
  void clear();                                     // before anything else is written

 private:
  Painter paint_;
  bool shown_ = false;
};

}  // namespace pcache::cli
