// What explain, why and graph ask of the store: reports, records, who made what. Nothing is worked
// out here; pcache itself renders the answers.
#pragma once

#include "cli/wire.h"
#include "store/store.h"

namespace pcache::cli {

bool is_query(const std::string& op);

//   report    run N (0: the last)                -> run (JSON text), number, kept [N]
//   run_with  text                               -> number (0: in none)
//   record    strong                             -> record {argv, cwd, facts, effects…}
//   blob      digest                             -> bytes, where at most 256 KiB
//   producer  path (absolute)                    -> root, path, strong, hit, when_s
//   makers    files [[path, digest]]             -> makers [strong or ""]
// An answer that there is none has "ok": true and lacks the field.
Json answer_query(store::Store& store, const Message& request);

}  // namespace pcache::cli
