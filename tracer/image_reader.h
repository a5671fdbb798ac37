// ImageReader: what is known of a process at its exec event, for the weak key and its parent's
// facts. Guarded by the session's lock.
#pragma once

#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "store/match.h"
#include "store/observer.h"
#include "store/weak_key.h"
#include "tracer/tracee.h"

namespace pcache::tracer {

struct ReadImage {
  store::ImageInfo info;
  Credentials credentials;
  // Contents that made this image: executable, ELF interpreter, script.
  struct File {
    store::TreePath path;
    struct stat st {};
  };
  std::vector<File> files;
  // Paths the kernel followed by name (interpreters): their links are facts.
  std::vector<std::string> named;
  std::optional<store::Reason> refusal;  // why nothing can be said about it
  bool supported = true;  // false: not a 64-bit image, cannot be skipped nor followed
};

class ImageReader {
 public:
  explicit ImageReader(const store::Observer& observer);

  // `pending`: canonical absolute path the exec named (the script, for a #! program), or "".
  ReadImage read(Tid pid, const std::string& pending);

  // Whether it was built with LeakSanitizer, which attaches to its own process at the end and fails
  // where somebody else is attached.
  bool has_leak_sanitizer(const ReadImage& image) const;

 private:
  struct Elf {
    bool readable = false, elf = false, wide = false;
    std::string interpreter;  // PT_INTERP
    std::string shebang;      // path after #!
    std::string text;         // of a script
    store::Digest hash;
  };
  const Elf* inspect(const store::TreePath& path, const struct stat& st);

  const store::Observer& observer_;
  std::unordered_map<store::Stamp, Elf, store::StampHash> known_;
  std::string kernel_release_, node_name_, cpu_flags_hash_;
};

}  // namespace pcache::tracer
