#include "cli/daemon/tree_dispatcher.h"

#include <algorithm>
#include <map>
#include <memory>
#include <mutex>

namespace pcache::cli {
namespace {

std::mutex table_lock;
std::map<fusefs::Mount*, std::unique_ptr<TreeDispatcher>>& table() {
  static std::map<fusefs::Mount*, std::unique_ptr<TreeDispatcher>> dispatchers;
  return dispatchers;
}

}  // namespace

TreeDispatcher::Attachment::Attachment(fusefs::Mount& mount, tracer::Session& session)
    : mount_(mount), session_(session) {
  const std::lock_guard guard(table_lock);
  std::unique_ptr<TreeDispatcher>& dispatcher = table()[&mount_];
  if (!dispatcher) dispatcher = std::make_unique<TreeDispatcher>();
  {
    const std::unique_lock sessions(dispatcher->lock_);
    dispatcher->sessions_.push_back(&session_);
  }
  dispatcher_ = dispatcher.get();
  mount_.set_listener(dispatcher.get());
}

void TreeDispatcher::Attachment::replayed(const std::string& rel) {
  constexpr pid_t kStranger = -1;
  const std::shared_lock guard(dispatcher_->lock_);
  for (tracer::Session* session : dispatcher_->sessions_)
    if (session != &session_) session->tree_op(kStranger, true, rel);
}

TreeDispatcher::Attachment::~Attachment() {
  const std::lock_guard guard(table_lock);
  const auto found = table().find(&mount_);
  if (found == table().end()) return;
  TreeDispatcher& dispatcher = *found->second;
  bool last;
  {
    const std::unique_lock sessions(dispatcher.lock_);
    std::erase(dispatcher.sessions_, &session_);
    last = dispatcher.sessions_.empty();
  }
  if (!last) return;
  mount_.set_listener(nullptr);  // waits until no FUSE thread is in it
  table().erase(found);
}

void TreeDispatcher::on_tree_op(pid_t tid, fusefs::TreeOp op, const std::string& rel,
                                bool succeeded) {
  const bool changes = succeeded && op != fusefs::TreeOp::kOpenRead && op != fusefs::TreeOp::kList;
  const std::shared_lock guard(lock_);
  for (tracer::Session* session : sessions_) session->tree_op(tid, changes, rel);
}

bool TreeDispatcher::is_traced(pid_t tid) {
  const std::shared_lock guard(lock_);
  return std::any_of(sessions_.begin(), sessions_.end(),
                     [&](const tracer::Session* session) { return session->is_traced(tid); });
}

}  // namespace pcache::cli
