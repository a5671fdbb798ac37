// The reason codes of reports, each with what it means and what a person can do about it.
//
// docs/cli.md lists the same codes, and a test holds the two and the sources together. Pure.
#pragma once

#include <span>
#include <string_view>

namespace pcache::cli {

struct ReasonRow {
  std::string_view code;
  bool never;                // it keeps a command from being recorded; else a record did not fit
  std::string_view meaning;  // in half a sentence
  std::string_view remedy;   // what changes it; "" where there is nothing to change
};

std::span<const ReasonRow> reason_rows();
// A row with an empty meaning for a code that is not known here.
const ReasonRow& reason_row(std::string_view code);

}  // namespace pcache::cli
