// Names of variables whose values are nobody's to see: they are hashed, never stored or shown.
#pragma once

#include <string_view>

namespace pcache::store {

bool looks_secret(std::string_view name);  // of weak_key.cc

}  // namespace pcache::store
