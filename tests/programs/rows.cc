// The table as text, for check.py: number, name, what it means to pcache, and the code it is
// refused with.
#include <cstdio>

#include "tracer/syscall_table.h"

int main() {
  using pcache::tracer::Meaning;
  for (const auto& row : pcache::tracer::syscall_table()) {
    const char* meaning = row.meaning == Meaning::kHarmless || row.meaning == Meaning::kClock
                              ? "harmless"
                          : row.meaning == Meaning::kRefused ? "refused"
                                                             : "followed";
    std::printf("%d %.*s %s %.*s\n", row.number, static_cast<int>(row.name.size()), row.name.data(),
                meaning, static_cast<int>(row.why.size()), row.why.data());
  }
}
