// What `pcache top` shows of an answer to the request "live", cut to a screen. Pure, but for Rates.
#pragma once

#include <map>
#include <string>
#include <utility>

#include "cli/text.h"
#include "cli/wire.h"

namespace pcache::cli {

// Executions that end in a second, by session. Of the last few seconds where it was asked before,
// else since the session began.
class Rates {
 public:
  // Adds "rate" to each session of `state`, which was true at `now_s`.
  void add_to(Json& state, double now_s);

 private:
  struct Seen {
    double at_s;
    uint64_t executions;
  };
  // Sessions by pid and command: a pid may come again.
  std::map<std::pair<int64_t, std::string>, std::pair<Seen, Seen>> seen_;
};

struct Screen {
  size_t width = 100;
  size_t height = 0;  // 0: as many lines as it takes
};
// Lines that end in "\n", none wider than the screen.
std::string top_text(const Json& state, const Screen& screen, const Painter& paint);

}  // namespace pcache::cli
