// Pseudo-files: files below /proc and /sys, whose size and times say nothing (design rule 11).
//
// What counts of them is their content at the moment; of a few only the part that does not change
// by itself. Nothing of them is ever remembered. Thread-safe, without state.
#pragma once

#include <string>
#include <string_view>

#include "store/digest.h"

namespace pcache::store {

bool is_pseudo_file(std::string_view path);  // absolute
// Hash of the content as it counts. 0 or an errno.
int hash_pseudo_file(std::string_view path, int fd, Digest* digest);
// The part of `content` that counts: /proc/cpuinfo without the clock rates, /proc/meminfo's totals.
std::string steady_part(std::string_view path, std::string_view content);

}  // namespace pcache::store
