// What `explain` tells of an execution beyond its report: the record that its reasons compare with,
// the lines in which a file differs, what a person can do about each reason.
//
// The reasons are those of the report, as they were found when it ran; none is worked out here.
#pragma once

#include <string>

#include "cli/text.h"
#include "cli/views/runs.h"

namespace pcache::cli {

class Explainer {
 public:
  Explainer(const Channel& channel, RunView run) : channel_(channel), run_(std::move(run)) {}

  const RunView& run() const { return run_; }
  // The execution's report with "compared_with", "dated" outputs, and with "remedy" and "diff" in
  // its reasons.
  Json explain(const Json& execution);

 private:
  void add_diff(Json& reason, const Json& nearest, const Json& own);
  std::string contents(const std::string& digest) const;  // of a blob, "" where there is none
  Json dated_outputs(const std::string& record) const;
  Json near_command(const Json& execution);

  const Channel& channel_;
  const RunView run_;
  std::vector<RunView> earlier_;  // read when they are first needed
  bool earlier_read_ = false;
};

void print_explained(const Painter& paint, const Json& execution);
// Every reason code with its meaning and remedy.
void print_reason_codes(const Painter& paint);
Json reason_codes_json();

}  // namespace pcache::cli
