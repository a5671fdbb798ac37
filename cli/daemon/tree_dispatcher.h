// TreeDispatcher: hands what a mount sees in its tree to every session that runs on it.
//
// FUSE threads call on_tree_op() with the lock held shared; attaching and detaching take it for a
// moment. Sessions only queue what they are given, so no FUSE thread waits.
#pragma once

#include <shared_mutex>
#include <vector>

#include "fusefs/mount.h"
#include "tracer/session.h"

namespace pcache::cli {

class TreeDispatcher : public fusefs::TreeListener {
 public:
  // For as long as it lives, `session` is told of `mount`'s operations.
  class Attachment {
   public:
    Attachment(fusefs::Mount& mount, tracer::Session& session);
    ~Attachment();
    Attachment(const Attachment&) = delete;
    Attachment& operator=(const Attachment&) = delete;
    // A hit of this session changed `rel`: to the others that is a stranger's change.
    void replayed(const std::string& rel);

   private:
    fusefs::Mount& mount_;
    tracer::Session& session_;
    TreeDispatcher* dispatcher_ = nullptr;
  };

  void on_tree_op(pid_t tid, fusefs::TreeOp op, const std::string& rel, bool succeeded) override;
  bool is_traced(pid_t tid) override;

 private:
  friend class Attachment;
  std::shared_mutex lock_;
  std::vector<tracer::Session*> sessions_;
};

}  // namespace pcache::cli
