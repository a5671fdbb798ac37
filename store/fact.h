// Facts: what an execution observed that it did not make itself, as a question and its answer.
//
// A FactKey is the question (a path set is an ordered list of keys, without answers); a FactValue
// is the answer at one moment. Absence and refusal are answers to any question ("what is the
// content of include/config.h?" — "ENOENT"), so Absent(path) and Failed(path, errno) need no keys
// of their own, and a file that appears later changes the answer, not the path set.
//
// A value holds only what its question asked for; every other field stays zero, so that equality of
// values is equality of facts. Encoding, equality and hashing all go over the same fields.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "store/digest.h"
#include "store/tree_path.h"

namespace pcache::store {

enum class FactKind : uint8_t {
  kContent = 1,  // open for reading, exec, source of a rename or link: kind, permission bits, owner
                 // (fstat shows it), hash (of a directory: kind only)
  kIdentity =
      2,         // stat by path: kind, mode, uid, gid; regular file: size, nlink, mtime (per param)
  kKind = 3,     // stat by an image in mtime_ignored: kind, mode
  kAccess = 4,   // access(2); param: the bits asked for; the answer is presence or the errno
  kLink = 5,     // readlink, or a link that was crossed: target. EINVAL if it is no link
  kListing = 6,  // getdents: sorted entries (type letter + name) less `names`, its own outputs
  kReplaced = 7,   // wholly replaced without being read (design rule 2); param: ReplacedParam bits
  kXattr = 8,      // names[0]: attribute's name, "" for listxattr; hash of the value, or errno
  kStatfs = 9,     // f_type in `size`
  kTerminal = 10,  // isatty of descriptor `param` (0..2): size 1 or 0. Path is empty
  kStdin = 11,     // used inherited descriptor 0 on a regular file: hash, and the offset in `size`
  kAffinity = 12,  // sched_getaffinity: number of CPUs in `size`. Path is empty
  kEnvironment = 13,  // a variable that the weak key leaves out: names[0], its text or ENOENT; no
                      // name: hash of all of them (environment.h). Path is empty
  kStream = 14,       // fstat of descriptor `param` (1, 2) beyond what stdio asks: its kind as
                      // `text`; of a file also mode, and size at the start. Path is empty
};

// param of kIdentity
inline constexpr uint32_t kWithMtime = 1;     // mtime of a regular file
inline constexpr uint32_t kWithDirMtime = 2;  // and of a directory (mtime_matters)
inline constexpr uint32_t kOwnContents = 4;   // after own writing: neither size nor mtime

// param of kListing
inline constexpr uint32_t kImportable = 1;  // only names that python could import (rule 13)

// param of kEnvironment
inline constexpr uint32_t kWithJobs = 1;  // make's flags as well

// param of kReplaced: the low 12 bits are the mode a creation gives (after umask).
inline constexpr uint32_t kReplacedBlind = 1u << 16;  // absent and existing are one answer
inline constexpr uint32_t kReplacedUnlinked = 1u
                                              << 17;  // unlinked first: mode, nlink do not matter

struct FactKey {
  FactKind kind = FactKind::kContent;
  TreePath path;
  uint32_t param = 0;
  std::vector<std::string> names;  // kListing: left out, sorted; kXattr: the attribute

  auto operator<=>(const FactKey&) const = default;
  void hash_into(Hasher& h) const;
};

struct FactKeyHash {
  size_t operator()(const FactKey& k) const;
};

struct FactValue {
  int err = 0;        // ENOENT, ENOTDIR, EACCES, EINVAL…; 0: present, the fields below count
  uint32_t mode = 0;  // S_IFMT and permission bits, as far as asked
  uint32_t uid = 0, gid = 0;
  uint64_t size = 0, nlink = 0;
  int64_t mtime_ns = 0;
  Digest hash;                       // content
  std::string text;                  // link target; "own" or "replaceable" for kReplaced; of
                                     // kIdentity with nlink > 1 the inode, see name_inodes()
  std::vector<std::string> entries;  // listing: 'f','d','l','p','s','c','b' + name, sorted

  bool operator==(const FactValue&) const = default;
  void hash_into(Hasher& h) const;
};

struct Fact {
  FactKey key;
  FactValue value;
  bool operator==(const Fact&) const = default;
};

using PathSet = std::vector<FactKey>;
Digest path_set_digest(const PathSet& keys);
// strong key = hash(weak key, path set, the values observed now); `root` is empty for a record that
// holds under any root, else the absolute root the record is bound to.
Digest strong_key(const Digest& weak, const Digest& path_set, const std::vector<FactValue>& values,
                  const std::string& root);

// Which inode a file with several names is, tells nothing but which of the other names that were
// asked about are the same: the number gives way to the first of these, in the values of one path
// set. So a checkout that is made anew, links and all, gives the same answers.
void name_inodes(const PathSet& keys, std::vector<FactValue>* values);
void name_inodes(std::vector<Fact>* facts);

const char* fact_kind_name(FactKind kind);

}  // namespace pcache::store
