// Resolver: turns what a process names (dirfd, path) into a canonical TreePath, component by
// component (design.md section 4, rule 5), and tells which symbolic links it crossed.
//
// Directories and links met on the way are remembered for the session: a foreign change of one is
// found when the execution's facts are checked again, an own one drops what it concerns
// (changed()). Guarded by the session's lock.
#pragma once

#include <sys/stat.h>

#include <string>
#include <unordered_map>
#include <vector>

#include "store/observer.h"
#include "tracer/tracee.h"

namespace pcache::tracer {

struct CrossedLink {
  store::TreePath path;
  std::string target;
};

struct Resolved {
  store::TreePath
      path;  // canonical; where err != 0, the first name that could not be resolved plus the rest
  std::vector<CrossedLink> links;
  std::vector<store::TreePath> left_directories;  // left again by "..": they had to exist
  int err = 0;                  // ENOENT, ENOTDIR, EACCES, ELOOP: no such object; `st` is not valid
  struct stat st {};            // lstat of `path`
  store::TreePath missing;      // where err != 0: the component it failed at
  bool trailing_slash = false;  // or a last "."
  bool names_root = false;      // an absolute name, or "..", led into the root from outside it
  bool own_view = false;  // it is, or leads through, what pcache shows of itself; `pseudo` too
  bool pseudo = false;    // below /proc or /dev/fd: not resolved further, `path` is as named
  uint64_t way = 0;       // != 0: who has seen this number has seen `links` and `left_directories`
};

class Resolver {
 public:
  explicit Resolver(const store::Observer& observer) : observer_(observer) {}

  // `base` is an absolute directory (cwd or a dirfd's link). With `follow` a link at the end is
  // crossed.
  Resolved resolve(const std::string& base, const std::string& path, bool follow, pid_t own_pid);
  // `path` was created, removed or renamed; `redirects`: what lies behind it may be elsewhere now
  // (a link, a directory, a rename).
  void changed(const store::TreePath& path, bool redirects = false);
  // Something was not as remembered: ask again.
  void forget_all();
  // Grows whenever one text of a path may mean another file than before.
  uint64_t generation() const { return generation_; }

 private:
  // How a directory's name was found to lead to its canonical one: gcc names one directory in
  // hundreds of paths, each with ten components.
  struct Way {
    uint64_t number;
    std::string at;  // "" is "/"
    std::vector<CrossedLink> links;
    std::vector<store::TreePath> left_directories;
    bool absolute;
    store::TreePath missing;  // where it leads nowhere: the component that is not there
  };
  // Through a known way, where no more than a stat is needed.
  bool take_known_way(const std::string& base, const std::string& path, bool follow,
                      Resolved* result);
  Resolved walk(const std::string& base, const std::string& path, bool follow, pid_t own_pid);
  enum class Step : uint8_t { kDirectory, kLink };
  struct Known {
    Step step;
    std::string target;
  };
  const store::Observer& observer_;
  uint64_t generation_ = 0;
  std::unordered_map<std::string, Known> known_;  // by absolute canonical path
  std::unordered_map<std::string, Way> ways_;     // by way_key(): those that lead somewhere, or not
  uint64_t last_way_ = 0;
};

}  // namespace pcache::tracer
