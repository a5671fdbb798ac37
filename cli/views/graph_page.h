// A run as a page of its own, as a graph for dot(1), as JSON. Pure.
#pragma once

#include <string>

#include "cli/wire.h"

namespace pcache::cli {

// One HTML document that needs nothing else; `number` 0: the report came from a file.
std::string graph_html(const Json& report, uint64_t number);
std::string graph_dot(const Json& report);

}  // namespace pcache::cli
