// The log of a watched command for people: one line an event (cli/daemon/event_stream.h). Pure.
#pragma once

#include <optional>
#include <set>
#include <string>

#include "cli/wire.h"

namespace pcache::cli {

// Which events are told, and as what.
class TraceLog {
 public:
  explicit TraceLog(bool all) : all_(all) {}

  // Nothing for what is left out without --all: failures, looks, and all but the first read and
  // write of a file by a process.
  bool wants(const Json& event);
  static std::string line(const Json& event);

 private:
  const bool all_;
  std::set<std::string> told_;
};

}  // namespace pcache::cli
