#include "fusefs/node_table.h"

#include <fcntl.h>
#include <sys/resource.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>

namespace pcache::fusefs {
namespace {

// Descriptors held by the nodes of all mounts of the process, and how many may be.
std::atomic<int64_t> g_node_fds{0};
std::atomic<int64_t> g_node_fd_limit{512};

// Counts itself while it is open, whoever holds the last reference.
FdRef make_fd_ref(UniqueFd fd) {
  g_node_fds.fetch_add(1, std::memory_order_relaxed);
  return FdRef(new UniqueFd(std::move(fd)), [](const UniqueFd* p) {
    g_node_fds.fetch_sub(1, std::memory_order_relaxed);
    delete p;
  });
}

}  // namespace

int64_t birth_time_ns(int fd) {
  struct statx stx {};
  if (::statx(fd, "", AT_EMPTY_PATH, STATX_BTIME, &stx) != 0 || (stx.stx_mask & STATX_BTIME) == 0) {
    return 0;
  }
  return stx.stx_btime.tv_sec * 1'000'000'000 + stx.stx_btime.tv_nsec;
}

void raise_descriptor_limit() {
  struct rlimit limit {};
  if (::getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
  if (limit.rlim_cur < limit.rlim_max) {
    limit.rlim_cur = limit.rlim_max;
    (void)::setrlimit(RLIMIT_NOFILE, &limit);
    (void)::getrlimit(RLIMIT_NOFILE, &limit);
  }
  const auto most = static_cast<int64_t>(std::min<rlim_t>(limit.rlim_cur, 1u << 20));
  g_node_fd_limit.store(std::max<int64_t>(64, most / 2));
}

ProcPath::ProcPath(int fd) { std::snprintf(text, sizeof text, "/proc/self/fd/%d", fd); }

NodeTable::NodeTable(UniqueFd root) {
  struct stat st {};
  (void)::fstat(root.get(), &st);
  auto node = std::make_shared<Node>(kRootId, InodeKey::of(st), S_IFDIR);
  node->lookups_ = 1;
  node->pinned_ = true;
  node->fd_ = make_fd_ref(std::move(root));
  by_id_.emplace(kRootId, node);
  by_key_.emplace(node->key, node);
}

NodeTable::~NodeTable() = default;

NodeRef NodeTable::find(uint64_t id) {
  std::lock_guard lock(mutex_);
  const auto it = by_id_.find(id);
  return it == by_id_.end() ? nullptr : it->second;
}

NodeRef NodeTable::find_inode(const InodeKey& key) {
  std::lock_guard lock(mutex_);
  const auto it = by_key_.find(key);
  return it == by_key_.end() ? nullptr : it->second;
}

NodeRef NodeTable::child(uint64_t parent, std::string_view name) {
  std::lock_guard lock(mutex_);
  const auto it = by_name_.find(NodeName{parent, std::string(name)});
  if (it == by_name_.end()) return nullptr;
  const auto node = by_id_.find(it->second);
  return node == by_id_.end() ? nullptr : node->second;
}

FdRef NodeTable::descriptor(const NodeRef& node, int* err) {
  NodeName name;
  int64_t birth = 0;
  {
    std::lock_guard lock(mutex_);
    node->used_ = true;
    if (node->fd_) return node->fd_;
    if (node->names_.empty()) {
      *err = ESTALE;
      return nullptr;
    }
    name = node->names_.back();
    birth = node->birth_ns_;
  }
  // Evicted: open it again by name. Directories nest, so this recurses at most the tree's depth.
  *err = ESTALE;
  const NodeRef parent = find(name.parent);
  if (!parent) return nullptr;
  const FdRef parent_fd = descriptor(parent, err);
  if (!parent_fd) return nullptr;
  UniqueFd fd(open_retrying(*this, [&] {
    return ::openat(parent_fd->get(), name.name.c_str(), O_PATH | O_NOFOLLOW | O_CLOEXEC);
  }));
  struct stat st {};
  if (!fd || ::fstat(fd.get(), &st) != 0) {
    *err = errno == ENOENT || errno == ENOTDIR ? ESTALE : errno;
    return nullptr;
  }
  if (InodeKey::of(st) != node->key || (st.st_mode & S_IFMT) != node->type ||
      birth_time_ns(fd.get()) != birth) {
    *err = ESTALE;
    return nullptr;
  }
  *err = 0;
  std::lock_guard lock(mutex_);
  if (!node->fd_) set_fd_locked(node, std::move(fd));
  return node->fd_;
}

NodeRef NodeTable::enter_known(uint64_t parent, std::string_view name, const InodeKey& key) {
  std::lock_guard lock(mutex_);
  const auto it = by_key_.find(key);
  // Without a descriptor that keeps the inode, its number may have been given to another file.
  if (it == by_key_.end() || !it->second->fd_) return nullptr;
  return enter_locked(parent, name, it->second);
}

NodeRef NodeTable::enter(uint64_t parent, std::string_view name, const struct stat& st,
                         UniqueFd fd) {
  const InodeKey key = InodeKey::of(st);
  std::lock_guard lock(mutex_);
  auto it = by_key_.find(key);
  if (it != by_key_.end() && !it->second->fd_ &&
      (it->second->type != (st.st_mode & S_IFMT) ||
       it->second->birth_ns_ != birth_time_ns(fd.get()))) {
    by_key_.erase(it);  // the number was used again for another file
    it = by_key_.end();
  }
  if (it == by_key_.end()) {
    auto node = std::make_shared<Node>(next_id_++, key, st.st_mode & S_IFMT);
    by_id_.emplace(node->id, node);
    it = by_key_.emplace(key, node).first;
  }
  const NodeRef node = it->second;
  if (!node->fd_) set_fd_locked(node, std::move(fd));
  return enter_locked(parent, name, node);
}

NodeRef NodeTable::enter_locked(uint64_t parent, std::string_view name, const NodeRef& node) {
  ++node->lookups_;
  node->used_ = true;
  add_name_locked(node, NodeName{parent, std::string(name)});
  return node;
}

void NodeTable::add_name_locked(const NodeRef& node, NodeName name) {
  const auto it = by_name_.find(name);
  if (it != by_name_.end()) {
    if (it->second == node->id) return;
    remove_name_locked(name);
  }
  by_name_.emplace(name, node->id);
  node->names_.push_back(std::move(name));
}

void NodeTable::remove_name_locked(const NodeName& name) {
  const auto it = by_name_.find(name);
  if (it == by_name_.end()) return;
  const auto node = by_id_.find(it->second);
  if (node != by_id_.end()) std::erase(node->second->names_, name);
  by_name_.erase(it);
}

void NodeTable::set_fd_locked(const NodeRef& node, UniqueFd fd) {
  node->fd_ = make_fd_ref(std::move(fd));
  node->used_ = true;
  clock_.push_back(node);
  if (g_node_fds.load(std::memory_order_relaxed) >
      g_node_fd_limit.load(std::memory_order_relaxed)) {
    evict_some_locked();
  }
}

void NodeTable::evict_some_locked() {
  for (int tries = 0; tries < 64 && !clock_.empty(); ++tries) {
    const NodeRef node = clock_.front().lock();
    clock_.pop_front();
    if (!node || !node->fd_) continue;
    const bool keep = node->used_ || node->pinned_ || node->pins_ > 0 || node->names_.empty() ||
                      node->handles.load() > 0 || node->has_served.load();
    node->used_ = false;
    // The birth time is what tells the inode from a later one with the same number.
    if (!keep) node->birth_ns_ = birth_time_ns(node->fd_->get());
    if (keep || node->birth_ns_ == 0) {
      clock_.push_back(node);
      continue;
    }
    node->fd_.reset();
    return;
  }
}

void NodeTable::release_some() {
  g_node_fd_limit.store(std::max<int64_t>(64, g_node_fds.load() * 3 / 4));
  std::lock_guard lock(mutex_);
  for (int i = 0; i < 64; ++i) evict_some_locked();
}

void NodeTable::forget(uint64_t id, uint64_t count) {
  if (id == kRootId) return;
  NodeRef dead;  // its descriptor is closed after the lock is free
  std::lock_guard lock(mutex_);
  const auto it = by_id_.find(id);
  if (it == by_id_.end()) return;
  Node& node = *it->second;
  node.lookups_ -= std::min(node.lookups_, count);
  if (node.lookups_ > 0) return;
  dead = it->second;
  for (const NodeName& name : node.names_) {
    const auto known = by_name_.find(name);
    if (known != by_name_.end() && known->second == id) by_name_.erase(known);
  }
  node.names_.clear();
  const auto key = by_key_.find(node.key);
  if (key != by_key_.end() && key->second == dead) by_key_.erase(key);
  by_id_.erase(it);
}

void NodeTable::unlinked(uint64_t parent, std::string_view name) {
  std::lock_guard lock(mutex_);
  remove_name_locked(NodeName{parent, std::string(name)});
}

void NodeTable::renamed(uint64_t parent, std::string_view name, uint64_t new_parent,
                        std::string_view new_name, bool exchange) {
  NodeName from{parent, std::string(name)};
  NodeName to{new_parent, std::string(new_name)};
  std::lock_guard lock(mutex_);
  NodeRef moved, target;
  if (const auto it = by_name_.find(from); it != by_name_.end()) moved = by_id_[it->second];
  if (const auto it = by_name_.find(to); it != by_name_.end()) target = by_id_[it->second];
  remove_name_locked(from);
  remove_name_locked(to);
  if (moved) add_name_locked(moved, std::move(to));
  if (target && exchange) add_name_locked(target, std::move(from));
}

void NodeTable::detach(const NodeRef& node) {
  std::lock_guard lock(mutex_);
  const auto it = by_key_.find(node->key);
  if (it != by_key_.end() && it->second == node) by_key_.erase(it);
  node->pinned_ = true;
}

NodeTable::Pin::Pin(NodeTable& table, uint64_t parent, std::string_view name)
    : table_(table), node_(table.child(parent, name)) {
  if (!node_) return;
  int err = 0;
  const FdRef fd = table_.descriptor(node_, &err);
  std::lock_guard lock(table_.mutex_);
  if (fd && !node_->fd_) node_->fd_ = fd;
  ++node_->pins_;
}

NodeTable::Pin::~Pin() {
  if (!node_) return;
  std::lock_guard lock(table_.mutex_);
  --node_->pins_;
}

bool NodeTable::path_locked(uint64_t id, std::string* out) {
  std::vector<const std::string*> parts;
  for (int depth = 0; id != kRootId; ++depth) {
    const auto it = by_id_.find(id);
    if (it == by_id_.end() || it->second->names_.empty() || depth > 4096) return false;
    const NodeName& name = it->second->names_.back();
    parts.push_back(&name.name);
    id = name.parent;
  }
  for (auto it = parts.rbegin(); it != parts.rend(); ++it) {
    if (!out->empty()) *out += '/';
    *out += **it;
  }
  return true;
}

std::optional<std::string> NodeTable::path(uint64_t id) {
  std::string out;
  std::lock_guard lock(mutex_);
  if (!path_locked(id, &out)) return std::nullopt;
  return out;
}

std::optional<std::string> NodeTable::path(uint64_t parent, std::string_view name) {
  std::string out;
  std::lock_guard lock(mutex_);
  if (!path_locked(parent, &out)) return std::nullopt;
  if (!out.empty()) out += '/';
  out += name;
  return out;
}

std::vector<std::string> NodeTable::paths(uint64_t id) {
  std::vector<std::string> found;
  std::lock_guard lock(mutex_);
  const auto it = by_id_.find(id);
  if (it == by_id_.end()) return found;
  if (id == kRootId) found.emplace_back();
  for (const NodeName& name : it->second->names_) {
    std::string path;
    if (!path_locked(name.parent, &path)) continue;
    if (!path.empty()) path += '/';
    found.push_back(path + name.name);
  }
  return found;
}

NodeTable::Known NodeTable::resolve(std::string_view rel) {
  Known known;
  std::lock_guard lock(mutex_);
  uint64_t at = kRootId;
  if (rel.empty()) known.node = by_id_[kRootId];
  while (!rel.empty()) {
    const size_t slash = rel.find('/');
    const std::string_view part = rel.substr(0, slash);
    rel = slash == std::string_view::npos ? std::string_view() : rel.substr(slash + 1);
    const auto it = by_name_.find(NodeName{at, std::string(part)});
    if (rel.empty()) {
      known.parent = at;
      known.name = part;
      if (it != by_name_.end()) known.node = by_id_[it->second];
      return known;
    }
    if (it == by_name_.end()) return known;
    at = it->second;
  }
  return known;
}

std::vector<NodeRef> NodeTable::all() {
  std::vector<NodeRef> nodes;
  std::lock_guard lock(mutex_);
  nodes.reserve(by_id_.size());
  for (const auto& [id, node] : by_id_) nodes.push_back(node);
  return nodes;
}

size_t NodeTable::size() {
  std::lock_guard lock(mutex_);
  return by_id_.size();
}

}  // namespace pcache::fusefs
