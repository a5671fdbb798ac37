// NodeTable: what the kernel knows of the tree, as this daemon has told it.
//
// A node is one lower inode, keyed by its (dev, ino), with a node id that is never used again. It
// holds an O_PATH descriptor; since a tree may have more files than a process may have descriptors,
// the table takes descriptors back from nodes that nobody has open (second chance) and opens them
// again by one of the node's names, checking that it is the same inode (dev, ino, birth time).
// Names are those under which the kernel has been told of a node: its dentries, no more, no less.
//
// Locks: the table's own mutex guards the maps and every node's reference count, names and
// descriptor. Node::io is a leaf below it and below the served
// table's lock: it guards the node's contents' source (blob or file, backing id).
#pragma once

#include <sys/stat.h>
#include <sys/types.h>

#include <atomic>
#include <cerrno>
#include <cstdint>
#include <deque>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "store/unique_fd.h"

namespace pcache::fusefs {

struct Served;

struct InodeKey {
  dev_t dev = 0;
  ino_t ino = 0;
  bool operator==(const InodeKey&) const = default;
  static InodeKey of(const struct stat& st) { return {st.st_dev, st.st_ino}; }
};
struct InodeKeyHash {
  size_t operator()(const InodeKey& k) const { return k.ino * 0x9e3779b97f4a7c15ull ^ k.dev; }
};

using FdRef = std::shared_ptr<const UniqueFd>;

struct NodeName {
  uint64_t parent = 0;
  std::string name;
  bool operator==(const NodeName&) const = default;
};

class Node {
 public:
  Node(uint64_t node_id, InodeKey inode_key, mode_t file_type)
      : id(node_id), key(inode_key), type(file_type) {}

  const uint64_t id;
  const InodeKey key;
  const mode_t type;            // S_IFMT bits
  std::atomic<int> handles{0};  // open handles: the descriptor stays
  std::atomic<int> writers{0};  // of these, those that may write
  // A shared mapping may outlive its descriptors: with passthrough RELEASE comes at close(2).
  std::atomic<bool> maybe_mapped{false};
  std::atomic<bool> has_served{false};  // `served` is set: ask under io

  std::mutex io;
  std::shared_ptr<Served> served;  // the contents come from a blob
  bool detached = false;           // left to old readers of a blob; a write open gives ESTALE
  int backing_id = 0;
  bool backing_is_blob = false;  // never to be written through
  uint32_t backing_refs = 0;     // passthrough handles
  uint32_t cached_refs = 0;      // handles with ordinary I/O
  struct timespec seen_mtime {
  }, seen_ctime{};  // of the contents that the kernel may have cached
  off_t seen_size = -1;

 private:
  friend class NodeTable;
  uint64_t lookups_ = 0;
  std::vector<NodeName> names_;
  FdRef fd_;
  bool used_ = false;
  bool pinned_ = false;   // its names do not lead to it
  int pins_ = 0;          // its names are about to change
  int64_t birth_ns_ = 0;  // known once the descriptor was taken back
};
using NodeRef = std::shared_ptr<Node>;

class NodeTable {
 public:
  static constexpr uint64_t kRootId = 1;

  explicit NodeTable(UniqueFd root);
  ~NodeTable();

  NodeRef find(uint64_t id);
  NodeRef find_inode(const InodeKey& key);
  NodeRef child(uint64_t parent, std::string_view name);
  // The node's O_PATH descriptor, opened again if need be; null with *err set (ESTALE) if it is
  // gone.
  FdRef descriptor(const NodeRef& node, int* err);

  // Enters the answer to a look-up and counts a kernel reference. The first form succeeds only for
  // inodes that are known and held open; the second takes a descriptor of the inode.
  NodeRef enter_known(uint64_t parent, std::string_view name, const InodeKey& key);
  NodeRef enter(uint64_t parent, std::string_view name, const struct stat& st, UniqueFd fd);
  void forget(uint64_t id, uint64_t count);

  // Keep up with what was done to names. renamed() is told before the kernel's next request.
  void unlinked(uint64_t parent, std::string_view name);
  void renamed(uint64_t parent, std::string_view name, uint64_t new_parent,
               std::string_view new_name, bool exchange);
  // Makes the next look-up of this inode create a new node.
  void detach(const NodeRef& node);
  // While a name changes or goes away its node must stay reachable by descriptor.
  class Pin {
   public:
    Pin(NodeTable& table, uint64_t parent, std::string_view name);
    ~Pin();
    Pin(const Pin&) = delete;
    Pin& operator=(const Pin&) = delete;

   private:
    NodeTable& table_;
    NodeRef node_;
  };

  // Path relative to the root by one of the names; nothing for a node without.
  std::optional<std::string> path(uint64_t id);
  std::optional<std::string> path(uint64_t parent, std::string_view name);
  std::vector<std::string> paths(uint64_t id);  // by each of its names
  // The node the kernel knows under `rel`, and of its parent directory (0: unknown).
  struct Known {
    uint64_t parent = 0;
    NodeRef node;
    std::string name;
  };
  Known resolve(std::string_view rel);
  // After EMFILE: takes descriptors back and is content with fewer from now on.
  void release_some();
  std::vector<NodeRef> all();
  size_t size();

 private:
  struct NameHash {
    size_t operator()(const NodeName& n) const {
      return std::hash<std::string>()(n.name) ^ n.parent * 0x9e3779b97f4a7c15ull;
    }
  };

  NodeRef enter_locked(uint64_t parent, std::string_view name, const NodeRef& node);
  void add_name_locked(const NodeRef& node, NodeName name);
  void remove_name_locked(const NodeName& name);
  void set_fd_locked(const NodeRef& node, UniqueFd fd);
  void evict_some_locked();
  bool path_locked(uint64_t id, std::string* out);

  std::mutex mutex_;
  std::unordered_map<uint64_t, NodeRef> by_id_;
  std::unordered_map<InodeKey, NodeRef, InodeKeyHash> by_key_;
  std::unordered_map<NodeName, uint64_t, NameHash> by_name_;
  std::deque<std::weak_ptr<Node>> clock_;
  uint64_t next_id_ = kRootId + 1;
};

// Birth time of the inode behind `fd` in ns, 0 where the file system has none.
int64_t birth_time_ns(int fd);

// Raises RLIMIT_NOFILE to the hard limit and sets how many descriptors all node tables of the
// process may hold together.
void raise_descriptor_limit();

// Runs `open` (a descriptor or -1) once more, after the nodes gave some back, if none were left.
template <class Open>
int open_retrying(NodeTable& nodes, Open&& open) {
  int fd = open();
  if (fd < 0 && errno == EMFILE) {
    nodes.release_some();
    fd = open();
  }
  return fd;
}

// "/proc/self/fd/N": the way to open, link or change what an O_PATH descriptor stands for.
struct ProcPath {
  explicit ProcPath(int fd);
  const char* c_str() const { return text; }
  char text[40];
};

}  // namespace pcache::fusefs
