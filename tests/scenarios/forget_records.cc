// forget_records PCACHE_DIR: evicts the records of the commands that standard input names, one a
// line, as their arguments with a space between. No daemon may have the store open.
#include <fmt/format.h>

#include <cstdio>
#include <iostream>
#include <string>
#include <unordered_set>

#include "store/store.h"

using pcache::store::EvictOptions;
using pcache::store::Record;
using pcache::store::Store;

int main(int argc, char** argv) {
  if (argc != 2) return 2;
  std::unordered_set<std::string> commands;
  for (std::string line; std::getline(std::cin, line);) commands.insert(line);
  const auto store = Store::open(argv[1], {});
  if (!store) {
    std::fprintf(stderr, "%s\n", store.error().to_string().c_str());
    return 1;
  }
  EvictOptions options;
  options.chosen = [&](const Record& record) {
    return commands.contains(fmt::format("{}", fmt::join(record.argv, " ")));
  };
  const auto evicted = (*store)->evict(options);
  if (!evicted) {
    std::fprintf(stderr, "%s\n", evicted.error().to_string().c_str());
    return 1;
  }
  std::printf("%llu\n", static_cast<unsigned long long>(evicted->records));
  return 0;
}
