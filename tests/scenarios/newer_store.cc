// newer_store DB: makes of a store's database one of a format that no pcache knows yet.
#include <cstdio>

#include "store/codec.h"
#include "store/database.h"

int main(int argc, char** argv) {
  if (argc != 2) return 2;
  auto database = pcache::store::Database::open(argv[1]);
  if (!database) {
    std::fprintf(stderr, "%s\n", database.error().to_string().c_str());
    return 1;
  }
  pcache::store::Batch batch;
  batch.put(pcache::store::Column::kMeta, "format", pcache::store::encode_u64(999));
  const auto written = (*database)->write(batch);
  if (!written) std::fprintf(stderr, "%s\n", written.error().to_string().c_str());
  return written ? 0 : 1;
}
