// View: `.pcache/` at the root of a mount, with files that pcache makes up when they are opened.
//
// It is found by its name only. No listing has it, so no command comes upon it by chance, and what
// `find`, `tar` and `git status` see is the tree alone. It gives way to an entry of that name in
// the tree, and nothing in it can be changed (EROFS). The kernel keeps none of its names and
// attributes.
//
// What a file holds is guarded by locks that a tracer holds while a traced process waits for this
// mount; a handler that took them could wait for itself. So contents are made on a thread of the
// view's own, one open at a time, and belong to the open file from then on: reads take no lock.
#pragma once

#include "fusefs/kernel.h"  // first: sets libfuse's API version
//
#include <condition_variable>
#include <deque>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "fusefs/handles.h"
#include "fusefs/mount.h"

namespace pcache::fusefs {

class View {
 public:
  explicit View(std::vector<ViewFile> files) : files_(std::move(files)) {}
  ~View() { stop(); }
  void stop();  // opens that are under way fail; the thread ends once it has made what it is at

  bool any() const { return !files_.empty(); }
  // Its node ids lie far above those of the node table, which start at 1.
  static bool owns(fuse_ino_t ino) { return ino >= kDirectory; }

  fuse_entry_param directory() const { return entry(kDirectory); }
  std::optional<fuse_entry_param> find(fuse_ino_t parent, std::string_view name) const;
  struct stat attributes(fuse_ino_t ino) const;
  // Both reply.
  void open(fuse_req_t req, fuse_ino_t ino, const fuse_file_info& fi, OpenObjects& opened);
  void read_directory(fuse_req_t req, size_t size, off_t offset, bool plus) const;

  // What an open file's fh stands for.
  struct OpenFile : OpenObject {
    std::string contents;
  };

 private:
  static constexpr fuse_ino_t kDirectory = fuse_ino_t{1} << 62;
  struct Request {
    fuse_req_t req;
    size_t file;
    fuse_file_info fi;
    OpenObjects* opened;
  };
  fuse_entry_param entry(fuse_ino_t ino) const;
  void make_contents();  // the thread
  void answer(const Request& request) const;

  const std::vector<ViewFile> files_;
  std::mutex mutex_;  // a leaf
  std::condition_variable asked_;
  std::deque<Request> requests_;
  bool stop_ = false;
  std::thread thread_;  // from the first open on
};

}  // namespace pcache::fusefs
