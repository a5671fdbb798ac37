// Where a file comes from, by the records of the store: the command that left it, that command's
// inputs, and the commands that left those.
#pragma once

#include <set>
#include <string>

#include "cli/client.h"
#include "cli/text.h"

namespace pcache::cli {

class Provenance {
 public:
  explicit Provenance(const Channel& channel) : channel_(channel) {}

  // Of an absolute path. Null when no record left it. `deep`: with the makers of inputs, their
  // inputs and so on, each command once.
  Result<Json> of(const std::string& path, bool deep);

 private:
  Json command(const std::string& strong, const Json& record, bool deep);
  Json inputs(const std::string& strong, const Json& record, bool deep);
  std::vector<std::string> makers(const Json& files);

  const Channel& channel_;
  std::set<std::string> shown_;  // commands whose inputs are listed already
};

void print_provenance(const Painter& paint, const Json& file, bool tree);

}  // namespace pcache::cli
