// MountImpl: the FUSE handlers, one family a file, over the node table and the served files.
//
// ops_names.cc    lookup, forget, mknod, mkdir, symlink, unlink, rmdir, rename, link, readlink
// ops_attr.cc     getattr, setattr, statfs, extended attributes
// ops_files.cc    open, create, read, write, release, fsync, fallocate, lseek, copy_file_range
// ops_dirs.cc     opendir, readdir, readdirplus, releasedir, fsyncdir
// tree_ops.cc     store::Tree: how pcache itself reads and changes the tree
// view.h          the files of `.pcache/`
// mount.cc        mounting, the request loop, unmounting
//
// Handlers run on the request threads (or on the worker, when they had to wait for a served file's
// contents: then the request is answered from there and no request thread waits). A handler ends
// with exactly one reply. Locks: see node_table.h and served.h; none is held across a reply.
#pragma once

#include "fusefs/kernel.h"  // first: sets libfuse's API version
//
#include <atomic>
#include <functional>
#include <memory>
#include <mutex>
#include <shared_mutex>
#include <string>
#include <thread>
#include <vector>

#include "fusefs/handles.h"
#include "fusefs/mount.h"
#include "fusefs/node_table.h"
#include "fusefs/notifier.h"
#include "fusefs/served.h"
#include "fusefs/unfinished.h"
#include "fusefs/view.h"
#include "store/tree.h"

namespace pcache::fusefs {

class MountImpl final : public Mount {
 public:
  MountImpl(MountOptions options, UniqueFd lower);
  ~MountImpl() override;
  Result<void> start();

  // --- Mount ---
  void set_listener(TreeListener* listener) override;
  MountStatus status() const override;
  void invalidate_all() override;
  Result<void> publish_all(const std::function<bool()>& cancelled) override;
  Result<void> unmount(bool lazy) override;
  void keep_unfinished() override { unfinished_.keep(); }
  bool alive() const override { return alive_.load(); }

  // --- store::Tree ---
  const std::string& root() const override { return options_.dir; }
  int lower_fd() const override { return lower_.lower_fd(); }
  int stat(const std::string& rel, struct stat* st) const override;
  int open_read(const std::string& rel, UniqueFd* fd) const override;
  int read_link(const std::string& rel, std::string* target) const override;
  int list(const std::string& rel, std::vector<store::DirEntry>* entries) const override;
  int get_xattr(const std::string& rel, const std::string& name, std::string* value) const override;
  int list_xattr(const std::string& rel, std::string* names) const override;
  int statfs(const std::string& rel, struct statfs* buf) const override;
  std::optional<store::Digest> served_digest(const std::string& rel) const override;
  bool shows_own_view() const override;
  int open_parent(const std::string& rel, UniqueFd* parent, std::string* name) const override;
  int publish(const std::string& rel) override;
  bool drop_served(const std::string& rel) override;
  int serve(const std::string& rel, const store::Digest& blob, UniqueFd blob_fd, uint64_t size,
            mode_t mode) override;
  void invalidate(const std::string& rel) override;

  // --- handlers ---
  void on_init(fuse_conn_info* conn);
  void op_lookup(fuse_req_t req, fuse_ino_t parent, const char* name);
  void op_forget(fuse_req_t req, fuse_ino_t ino, uint64_t count);
  void op_forget_multi(fuse_req_t req, size_t count, fuse_forget_data* forgets);
  void op_getattr(fuse_req_t req, fuse_ino_t ino, fuse_file_info* fi);
  void op_setattr(fuse_req_t req, fuse_ino_t ino, struct stat* attr, int to_set,
                  fuse_file_info* fi);
  void op_readlink(fuse_req_t req, fuse_ino_t ino);
  void op_mknod(fuse_req_t req, fuse_ino_t parent, const char* name, mode_t mode, dev_t rdev);
  void op_mkdir(fuse_req_t req, fuse_ino_t parent, const char* name, mode_t mode);
  void op_symlink(fuse_req_t req, const char* target, fuse_ino_t parent, const char* name);
  void op_unlink(fuse_req_t req, fuse_ino_t parent, const char* name);
  void op_rmdir(fuse_req_t req, fuse_ino_t parent, const char* name);
  void op_rename(fuse_req_t req, fuse_ino_t parent, const char* name, fuse_ino_t new_parent,
                 const char* new_name, unsigned int flags);
  void op_link(fuse_req_t req, fuse_ino_t ino, fuse_ino_t new_parent, const char* new_name);
  void op_open(fuse_req_t req, fuse_ino_t ino, fuse_file_info* fi);
  void op_create(fuse_req_t req, fuse_ino_t parent, const char* name, mode_t mode,
                 fuse_file_info* fi);
  void op_read(fuse_req_t req, fuse_ino_t ino, size_t size, off_t offset, fuse_file_info* fi);
  void op_write_buf(fuse_req_t req, fuse_ino_t ino, fuse_bufvec* data, off_t offset,
                    fuse_file_info* fi);
  void op_release(fuse_req_t req, fuse_ino_t ino, fuse_file_info* fi);
  void op_fsync(fuse_req_t req, fuse_ino_t ino, int data_only, fuse_file_info* fi);
  void op_fallocate(fuse_req_t req, fuse_ino_t ino, int mode, off_t offset, off_t length,
                    fuse_file_info* fi);
  void op_lseek(fuse_req_t req, fuse_ino_t ino, off_t offset, int whence, fuse_file_info* fi);
  void op_copy_file_range(fuse_req_t req, fuse_ino_t ino_in, off_t off_in, fuse_file_info* fi_in,
                          fuse_ino_t ino_out, off_t off_out, fuse_file_info* fi_out, size_t length,
                          int flags);
  void op_opendir(fuse_req_t req, fuse_ino_t ino, fuse_file_info* fi);
  void op_readdir(fuse_req_t req, fuse_ino_t ino, size_t size, off_t offset, fuse_file_info* fi);
  void op_readdirplus(fuse_req_t req, fuse_ino_t ino, size_t size, off_t offset,
                      fuse_file_info* fi);
  void op_releasedir(fuse_req_t req, fuse_ino_t ino, fuse_file_info* fi);
  void op_fsyncdir(fuse_req_t req, fuse_ino_t ino, int data_only, fuse_file_info* fi);
  void op_statfs(fuse_req_t req, fuse_ino_t ino);
  void op_setxattr(fuse_req_t req, fuse_ino_t ino, const char* name, const char* value, size_t size,
                   int flags);
  void op_getxattr(fuse_req_t req, fuse_ino_t ino, const char* name, size_t size);
  void op_listxattr(fuse_req_t req, fuse_ino_t ino, size_t size);
  void op_removexattr(fuse_req_t req, fuse_ino_t ino, const char* name);

  Kernel kernel_;

 private:
  // A node with its descriptor; false with *err set otherwise. EROFS: it is of the view.
  struct At {
    NodeRef node;
    FdRef fd;
    int get() const { return fd->get(); }
  };
  bool at(fuse_ino_t ino, At* out, int* err);

  // The view's directory, by its name in the root.
  bool names_view(uint64_t parent, std::string_view name) const {
    return parent == NodeTable::kRootId && name == store::kOwnView && shows_own_view();
  }
  // Looks `name` up below `parent` and counts a kernel reference in *entry. 0 or an errno.
  int look_up(const At& parent, const char* name, fuse_entry_param* entry, NodeRef* node = nullptr);
  void fill_entry(const NodeRef& node, int fd, const struct stat& st,
                  fuse_entry_param* entry) const;
  int node_stat(const At& at, struct stat* st);
  double attr_seconds(Node& node, int fd) const;
  void reply_entry(fuse_req_t req, const fuse_entry_param& entry);
  void reply_created(fuse_req_t req, const At& parent, const char* name, TreeOp op, int err);
  // What `node` is served from, after clearing what is over (published, no reader of the blob
  // left).
  ServedRef served_of(const NodeRef& node);
  void attach_served(const NodeRef& node, const ServedRef& served);
  void detach(const NodeRef& node, const ServedRef& served);
  void on_published(const ServedRef& served);
  // Runs then() once the contents are in the lower file: now, or later on the worker. An error or
  // an interrupt is answered here.
  void once_published(fuse_req_t req, const ServedRef& served, std::function<void()> then);

  void do_setattr(fuse_req_t req, const At& at, const struct stat& attr, int to_set,
                  const Handle* handle);
  int set_attributes(const At& at, const struct stat& attr, int to_set, const Handle* handle);
  void do_link(fuse_req_t req, const At& source, const At& parent, const std::string& name);
  void do_rename(fuse_req_t req, const At& from, const std::string& name, const At& to,
                 const std::string& new_name, unsigned int flags);
  int rename_lower(const At& from, const std::string& name, const At& to,
                   const std::string& new_name, unsigned int flags);
  void do_open(fuse_req_t req, const At& at, fuse_file_info fi);
  void open_blob(fuse_req_t req, const At& at, const fuse_file_info& fi, const ServedRef& served);
  void reply_open(fuse_req_t req, std::unique_ptr<Handle> handle, const fuse_file_info& fi,
                  const fuse_entry_param* entry, int backing_source);
  // A backing id with a reference for a new handle; 0: ordinary I/O; -ESTALE: the node's is a
  // blob's, which a writer must not get.
  int acquire_backing(Node& node, const Handle& handle, int source_fd);
  void close_handle(std::unique_ptr<Handle> handle);
  int handle_fd(Handle& handle, int* err);
  bool may_keep_cache(Node& node, int fd);
  void remember_contents(Node& node, int fd);
  int fill_directory(DirHandle& dir);
  int pack_entries(fuse_req_t req, const DirHandle& dir, size_t first, bool plus,
                   std::vector<char>& buffer, size_t* used_out);
  void read_directory(fuse_req_t req, size_t size, off_t offset, fuse_file_info* fi, bool plus);

  // Tell the listener: of a name, or of an inode (a change of it by each name it is known under).
  void post_name(fuse_req_t req, TreeOp op, const At& parent, const std::string& name, int err) {
    if (!listening_.load(std::memory_order_acquire)) return;
    if (const auto rel = nodes_.path(parent.node->id, name)) post_now(req, op, *rel, err == 0);
  }
  void post_node(fuse_req_t req, TreeOp op, const Node& node, int err) {
    if (!listening_.load(std::memory_order_acquire)) return;
    if (op == TreeOp::kOpenRead) {
      if (const auto rel = nodes_.path(node.id)) post_now(req, op, *rel, err == 0);
      return;
    }
    for (const std::string& rel : nodes_.paths(node.id)) post_now(req, op, rel, err == 0);
  }
  void post_now(fuse_req_t req, TreeOp op, const std::string& rel, bool succeeded);
  // Notes what a traced command has just created or truncated, until the handle is closed.
  void note_unfinished(fuse_req_t req, Handle& handle);

  // tree_ops.cc
  ServedRef find_served(const std::string& rel) const;
  void send(const Notifier::Note& note);
  void invalidate_node(const Node& node);
  void drop_name(uint64_t parent, const std::string& name, bool directory);

  // mount.cc
  void serve_requests();
  void end_threads(bool abort);

  const MountOptions options_;
  store::LowerTree lower_;
  mutable NodeTable nodes_;
  mutable ServedFiles served_;
  OpenObjects open_;
  View view_;  // before open_ goes
  UnfinishedFiles unfinished_;
  Notifier notifier_;
  fuse_session* session_ = nullptr;
  int session_fd_ = -1;  // the session's; from start() to the end
  bool mounted_ = false;
  std::vector<std::thread> threads_;
  std::atomic<int> running_{0};
  std::atomic<bool> alive_{false}, unmounted_{false};

  std::shared_mutex listener_mutex_;
  TreeListener* listener_ = nullptr;
  std::atomic<bool> listening_{false};

  std::atomic<int> reads_in_flight_{0};
  std::atomic<uint64_t> write_handles_{0};
};

// Names of temporary files of pcache's own: not in listings, not to be looked up or made.
bool hidden_name(std::string_view name);

const fuse_lowlevel_ops& fuse_operations();

}  // namespace pcache::fusefs
