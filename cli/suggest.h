// What somebody meant who typed a command or an option a bit wrong. Pure.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace pcache::cli {

// Letters put in, left out, replaced or exchanged with their neighbour until `a` is `b`.
size_t edit_distance(std::string_view a, std::string_view b);

// Those of `known` that are nearest to what was typed; none where none is near. Near is a letter or
// two of difference, or a word that only lacks letters (mnt, cfg).
std::vector<std::string> nearest(const std::string& typed, const std::vector<std::string>& known);

// "a", "a or b", "a, b or c"
std::string any_of_them(const std::vector<std::string>& words);

}  // namespace pcache::cli
