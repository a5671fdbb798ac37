// The weak key: the hash of what is known at exec, without what must not cause a miss.
//
// Pure. `Image` is what the tracer read of the process at its exec event.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "store/digest.h"
#include "store/lists.h"
#include "store/store.h"
#include "store/tree_path.h"

namespace pcache::store {

enum class StreamShape : uint8_t { kClosed, kNull, kOther };

struct ImageInfo {
  std::string executable;    // real path of the image (/proc/PID/exe), absolute
  TreePath executable_path;  // the same, anchored
  Digest executable_hash;
  TreePath interpreter;  // PT_INTERP; empty text "/" none
  Digest interpreter_hash;
  TreePath script;  // of a #! program; text "/" if none
  Digest script_hash;
  std::vector<std::string> argv;
  std::vector<std::string> env;  // NAME=value, as found
  std::string cwd;               // absolute
  uint32_t umask = 022;
  uint32_t uid = 0, gid = 0;
  std::vector<uint32_t> groups;
  uint64_t capabilities = 0;  // effective
  uint64_t ignored_signals = 0;
  std::string kernel_release, node_name, cpu_flags_hash;
  std::string limits;          // resource limits, as text
  std::string niceness;        // shells and interpreters show it
  std::string script_text;     // of a shell script: which variables it may look at
  bool pid_namespace = false;  // run --pid-namespace: it knows other process ids, and users
  const Lists* lists = &Lists::defaults();  // its session's; outlives it
  StreamShape shape[3] = {StreamShape::kOther, StreamShape::kOther, StreamShape::kOther};
};

// The base name of the image that rules about programs go by: "gcc-12" and
// "x86_64-linux-gnu-gcc-12" are "gcc", "python3.11" is "python", "gawk" stays.
std::string image_name(const std::string& executable);

// A list that rules go by names this program: its image_name(), its own name or its whole path.
bool is_listed(const NameList& list, const ImageInfo& image);
// Always runs (date, uuidgen, mktemp, sleep…); a #! program by its script's name as well.
bool never_recorded(const ImageInfo& image);

// Names are image_name()s.
bool ignores_cwd(const std::string& image);  // compilers
bool is_shell(const std::string& image);     // sh, dash, bash, zsh, ksh, busybox

struct WeakKey {
  Digest digest;
  bool root_bound = false;  // the absolute root stands in argv or the environment (PWD aside)
  std::string root_reason;
  Digest command;         // executable path, argv, cwd: explain's handle on earlier runs
  Store::KeyParts parts;  // each part that went in, for explain ("env PATH", "argv", …)
};

// `root`: absolute root of the mount. See design.md "The weak key".
WeakKey make_weak_key(const ImageInfo& image, const std::string& root);

// argv and environment as they go into the key (normalized: jobserver, -jN, PWD == cwd, _, SHLVL…).
std::vector<std::string> normalized_argv(const ImageInfo& image);
std::vector<std::string> normalized_env(const ImageInfo& image);

}  // namespace pcache::store
