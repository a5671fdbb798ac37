// Record: what one execution observed (facts) and left behind (effects, streams, exit status).
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "store/digest.h"
#include "store/fact.h"
#include "store/tree_path.h"

namespace pcache::store {

enum class EffectKind : uint8_t {
  kFile = 1,       // content: blob, mode; see `in_place`
  kRemove = 2,     // unlink of a file, link, fifo… that was there before
  kRemoveDir = 3,  // rmdir of an empty directory
  kMakeDir = 4,    // mode
  kSymlink = 5,    // text: target
  kHardLink = 6,   // text: TreePath text of the existing name
  kMeta = 7,       // mode, owner, xattrs of something that stays; applied where the field is set
  kTouch = 8,      // "modified now", content unchanged (UTIME_NOW)
  kOffset = 9,     // offset of inherited descriptor `mode` becomes `size`
  kFifo = 10,      // mknod(S_IFIFO): mode
};

struct Effect {
  EffectKind kind = EffectKind::kFile;
  TreePath path;
  uint32_t mode = 0;      // permission bits (kFile, kMakeDir, kMeta, kFifo)
  bool set_mode = false;  // kMeta: chmod
  bool in_place =
      false;  // kFile: an existing inode is truncated and rewritten; else unlink + create
  uint64_t size = 0;
  Digest blob;  // kFile
  std::string text;
  std::optional<int64_t> atime_ns,
      mtime_ns;                      // set explicitly (utimensat with a time); else kernel's now
  std::optional<uint32_t> uid, gid;  // changed explicitly
  std::vector<std::pair<std::string, std::string>> xattrs;  // set; an empty value stays a value
  std::vector<std::string> removed_xattrs;

  bool operator==(const Effect&) const = default;
};

// One run of bytes written to stdout (1) or stderr (2); their order is the order of writing.
struct StreamSegment {
  uint32_t fd = 1;
  uint64_t size = 0;
  bool operator==(const StreamSegment&) const = default;
};

struct Record {
  Digest weak;
  Digest strong;     // set by Store::put
  std::string root;  // non-empty: holds for this absolute root only, because of root_reason
  std::string root_reason;
  std::vector<std::string> argv;  // at most 64 KiB are stored
  std::string executable;
  TreePath cwd;
  std::vector<Fact> facts;       // in the path set: their keys, in order of first observation
  std::vector<Fact> side_facts;  // in the record only (temporary names): not in path set or key
  std::vector<Effect> effects;   // in the order they are to be applied
  std::vector<StreamSegment> streams;
  Digest stream_blob;        // their bytes, one after the other; empty when there are none
  std::string stream_bytes;  // instead of the blob, up to 16 KiB
  int exit_status = 0;
  uint64_t cpu_ns = 0, wall_ns = 0;
  int64_t created_ns = 0;   // CLOCK_REALTIME
  uint32_t executions = 1;  // itself and those inside it

  bool operator==(const Record&) const = default;
};

// Every blob the record names.
template <class Visit>
void each_blob(const Record& record, Visit visit) {
  for (const Effect& effect : record.effects)
    if (effect.kind == EffectKind::kFile && !effect.blob.empty()) visit(effect.blob);
  if (!record.stream_blob.empty()) visit(record.stream_blob);
}

// Serialized with protobuf (store/record.proto); a damaged or newer one is an error, never a guess.
std::string serialize_record(const Record& record);
std::optional<Record> parse_record(const std::string& bytes);

}  // namespace pcache::store
