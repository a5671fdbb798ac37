// ImportWatch: tells python's listing of a directory to find a module from a program's own
// (design.md section 4, rule 13: import listings keep the importable names only).
//
// Both are the same system calls, so it goes by what only the import machinery does:
//   stat(D), open(D), getdents          the finder of a directory of the module search path; once
//   for
//                                       each directory, unless its mtime has changed
//   stat(D/m.py)…                       one module's names, or stat of the next directory
//   open(…/m.cpython-311.pyc), or a .so the module is found: all before was an import
// A listing that fits is kept with its importable names, and stays pending until the module is
// found. Anything that does not fit makes every pending listing a full one, with the entries it had
// then:
//   os.listdir(".")                     no stat before it: full at once
//   isdir(d), listdir(d), open(d/x)     pending, then full
//   isdir(d), listdir(d), import json   json's finder lists d again: full
//   isdir(d), listdir(d) a second time  d is known already, and has not changed: full at once
//
// One for each execution of a python image; events come in each thread's order. Pure: the caller
// resolves paths and records facts. Guarded by the session's lock.
#pragma once

#include <sys/types.h>

#include <map>
#include <set>
#include <string>
#include <vector>

#include "store/fact.h"
#include "store/tree.h"

namespace pcache::tracer {

class ImportWatch {
 public:
  struct Listing {
    store::TreePath dir;
    int err = 0;
    std::vector<store::DirEntry> entries;
  };
  using Listings = std::vector<Listing>;

  // `search_path`: directories modules are looked for in, beside the installed ones and packages.
  explicit ImportWatch(std::set<store::TreePath> search_path)
      : search_path_(std::move(search_path)) {}

  // Each gives the listings that turn out to be the program's own: the caller makes them full
  // facts.
  Listings on_stat(pid_t tid, const store::TreePath& path, int err, bool directory);
  Listings on_open(pid_t tid, const store::TreePath& path, bool directory);
  Listings on_other(pid_t tid);  // any other call that names a path
  Listings on_end();             // of the execution
  // The directory's first getdents. True: looks like an import so far, importable names will do.
  bool on_list(pid_t tid, Listing listing, int64_t mtime_ns, Listings* full);

 private:
  enum class Last : uint8_t { kNone, kStat, kOpen, kList };
  struct Thread {
    Last last = Last::kNone;
    store::TreePath at;    // of the last call
    bool missing = false;  // the last stat found nothing
    Listings pending;
    std::string module;  // that is being looked for
  };
  bool is_search_directory(const store::TreePath& dir) const;
  Listings give_up(Thread& thread);
  bool fits(Thread& thread, const store::TreePath& path);

  std::set<store::TreePath> search_path_, packages_;
  std::map<store::TreePath, int64_t> listed_;  // with the mtime it had
  std::map<pid_t, Thread> threads_;
};

}  // namespace pcache::tracer
