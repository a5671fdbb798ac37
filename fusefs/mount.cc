// Mounting, the request loop and unmounting.
#include "fusefs/mount.h"

#include <fcntl.h>
#include <linux/magic.h>
#include <signal.h>
#include <sys/statfs.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstdarg>
#include <cstdlib>
#include <fstream>
#include <new>

#include "fusefs/credentials.h"
#include "fusefs/mount_impl.h"
#include "fusefs/mount_table.h"

namespace pcache::fusefs {
namespace {

constexpr int kNudgeSignal = SIGURG;  // ignored by default, so a handler of ours disturbs nobody

void nudge(int) {}

// Wakes threads that wait in read(2) on the session's descriptor.
void install_nudge() {
  static std::once_flag once;
  std::call_once(once, [] {
    struct sigaction action {};
    action.sa_handler = nudge;  // without SA_RESTART
    sigaction(kNudgeSignal, &action, nullptr);
  });
}

// What libfuse says goes into the error that names the mount, not to wherever stderr leads.
std::mutex g_log_mutex;
std::string g_last_log;

void log_libfuse(fuse_log_level, const char* format, va_list args) {
  char text[512];
  std::vsnprintf(text, sizeof text, format, args);
  std::string line = text;
  while (!line.empty() && line.back() == '\n') line.pop_back();
  std::lock_guard lock(g_log_mutex);
  g_last_log = std::move(line);
}

std::string last_log() {
  std::lock_guard lock(g_log_mutex);
  return g_last_log;
}

bool user_allow_other() {
  std::ifstream conf("/etc/fuse.conf");
  std::string line;
  while (std::getline(conf, line)) {
    const size_t from = line.find_first_not_of(" \t");
    if (from == std::string::npos || line[from] == '#') continue;
    const size_t to = line.find_last_not_of(" \t\r");
    if (line.substr(from, to - from + 1) == "user_allow_other") return true;
  }
  return false;
}

// Stacked file systems (overlayfs) as backing need one more level.
uint32_t stack_depth_of(int fd) {
  struct statfs fs {};
  if (::fstatfs(fd, &fs) != 0) return 1;
  constexpr long kEcryptfs = 0xf15f;
  return fs.f_type == OVERLAYFS_SUPER_MAGIC || fs.f_type == kEcryptfs ? 2 : 1;
}

Result<void> check_device(const std::string& what) {
  if (::access("/dev/fuse", F_OK) != 0) {
    return make_error(ErrorKind::kUnsupported,
                      what +
                          ": /dev/fuse does not exist; load it (modprobe fuse), or start the "
                          "container with --device /dev/fuse --cap-add SYS_ADMIN");
  }
  UniqueFd device(::open("/dev/fuse", O_RDWR | O_CLOEXEC));
  if (device) return {};
  if (errno == EACCES || errno == EPERM) {
    return make_error(ErrorKind::kUnsupported,
                      what +
                          ": no permission to open /dev/fuse; as root: chmod 0666 /dev/fuse "
                          "(in a container, start it with --device /dev/fuse)");
  }
  return system_error(what + ": /dev/fuse");
}

Result<UniqueFd> open_lower(const std::string& dir, const std::string& what) {
  UniqueFd lower(::open(dir.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!lower && errno == EACCES) {
    lower.reset(::open(dir.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
  }
  if (!lower) {
    if (errno == ENOENT) {
      return make_error(ErrorKind::kNotFound, what + ": it does not exist; create it first");
    }
    if (errno == ENOTDIR) return make_error(ErrorKind::kInvalid, what + ": not a directory");
    return system_error(what);
  }
  struct statvfs fs {};
  if (::fstatvfs(lower.get(), &fs) == 0 && (fs.f_flag & ST_RDONLY) != 0) {
    return make_error(ErrorKind::kUnsupported,
                      what +
                          ": its file system is read-only; remount it read-write, or choose "
                          "another directory");
  }
  return lower;
}

// Turns a member function into a callback that never throws.
template <auto Method>
struct Callback;
template <class... Args, void (MountImpl::*Method)(fuse_req_t, Args...)>
struct Callback<Method> {
  static void call(fuse_req_t req, Args... args) noexcept {
    try {
      (static_cast<MountImpl*>(fuse_req_userdata(req))->*Method)(req, args...);
    } catch (const std::bad_alloc&) {
      fuse_reply_err(req, ENOMEM);
    }
  }
};

}  // namespace

const fuse_lowlevel_ops& fuse_operations() {
  static const fuse_lowlevel_ops ops = [] {
    fuse_lowlevel_ops o{};
    o.init = [](void* self, fuse_conn_info* conn) { static_cast<MountImpl*>(self)->on_init(conn); };
    o.lookup = Callback<&MountImpl::op_lookup>::call;
    o.forget = Callback<&MountImpl::op_forget>::call;
    o.forget_multi = Callback<&MountImpl::op_forget_multi>::call;
    o.getattr = Callback<&MountImpl::op_getattr>::call;
    o.setattr = Callback<&MountImpl::op_setattr>::call;
    o.readlink = Callback<&MountImpl::op_readlink>::call;
    o.mknod = Callback<&MountImpl::op_mknod>::call;
    o.mkdir = Callback<&MountImpl::op_mkdir>::call;
    o.unlink = Callback<&MountImpl::op_unlink>::call;
    o.rmdir = Callback<&MountImpl::op_rmdir>::call;
    o.symlink = Callback<&MountImpl::op_symlink>::call;
    o.rename = Callback<&MountImpl::op_rename>::call;
    o.link = Callback<&MountImpl::op_link>::call;
    o.open = Callback<&MountImpl::op_open>::call;
    o.create = Callback<&MountImpl::op_create>::call;
    o.read = Callback<&MountImpl::op_read>::call;
    o.write_buf = Callback<&MountImpl::op_write_buf>::call;
    o.release = Callback<&MountImpl::op_release>::call;
    o.fsync = Callback<&MountImpl::op_fsync>::call;
    o.fallocate = Callback<&MountImpl::op_fallocate>::call;
    o.lseek = Callback<&MountImpl::op_lseek>::call;
    o.copy_file_range = Callback<&MountImpl::op_copy_file_range>::call;
    o.opendir = Callback<&MountImpl::op_opendir>::call;
    o.readdir = Callback<&MountImpl::op_readdir>::call;
    o.readdirplus = Callback<&MountImpl::op_readdirplus>::call;
    o.releasedir = Callback<&MountImpl::op_releasedir>::call;
    o.fsyncdir = Callback<&MountImpl::op_fsyncdir>::call;
    o.statfs = Callback<&MountImpl::op_statfs>::call;
    o.setxattr = Callback<&MountImpl::op_setxattr>::call;
    o.getxattr = Callback<&MountImpl::op_getxattr>::call;
    o.listxattr = Callback<&MountImpl::op_listxattr>::call;
    o.removexattr = Callback<&MountImpl::op_removexattr>::call;
    return o;
  }();
  return ops;
}

MountImpl::MountImpl(MountOptions options, UniqueFd lower)
    : options_(std::move(options)),
      lower_(options_.dir, std::move(lower)),
      nodes_(UniqueFd(::openat(lower_.lower_fd(), ".", O_PATH | O_DIRECTORY | O_CLOEXEC))),
      served_({.worker_started = enter_acting_thread,
               .readers_busy = [this] { return reads_in_flight_.load() > 0; },
               .on_published = [this](const ServedRef& s) { on_published(s); }}),
      view_(options_.view),
      unfinished_(options_.unfinished),
      notifier_([this](const Notifier::Note& note) { send(note); }) {}

MountImpl::~MountImpl() {
  // Without unmount(): what is not published is lost, as if the daemon had died, but no dead mount
  // stays behind.
  if (mounted_ && !unmounted_.load() && (alive() || threads_.empty()) &&
      is_pcache_mount(options_.dir)) {
    (void)unmount_path(options_.dir, true);
  }
  end_threads(true);
  if (session_ != nullptr) fuse_session_destroy(session_);
}

void MountImpl::on_init(fuse_conn_info* conn) {
  const unsigned wanted = FUSE_CAP_SPLICE_WRITE | FUSE_CAP_SPLICE_MOVE | FUSE_CAP_CACHE_SYMLINKS |
                          FUSE_CAP_POSIX_ACL | (has_own_umask() ? FUSE_CAP_DONT_MASK : 0u);
  conn->want |= conn->capable & wanted;
  // Requests are small, or go by passthrough: one read is cheaper than a splice and a read.
  conn->want &= ~static_cast<unsigned>(FUSE_CAP_SPLICE_READ);
  conn->max_background = 64;
  conn->congestion_threshold = 48;
}

Result<void> MountImpl::start() {
  const std::string what = "cannot mount " + options_.dir;
  const bool root = ::geteuid() == 0;
  const char* argv[] = {"pcache"};
  fuse_args args = FUSE_ARGS_INIT(1, const_cast<char**>(argv));
  fuse_set_log_func(log_libfuse);
  session_ = fuse_session_new(&args, &fuse_operations(), sizeof(fuse_lowlevel_ops), this);
  fuse_opt_free_args(&args);
  if (session_ == nullptr) {
    return make_error(ErrorKind::kSystem, what + ": libfuse refused to start: " + last_log());
  }
  PCACHE_ASSIGN(UniqueFd device,
                mount_fuse(options_.dir, options_.allow_other && (root || user_allow_other())));
  mounted_ = true;
  session_fd_ = device.release();  // now the session's
  const std::string device_path = "/dev/fd/" + std::to_string(session_fd_);
  if (fuse_session_mount(session_, device_path.c_str()) != 0) {
    return make_error(ErrorKind::kSystem, what + ": " + last_log());
  }
  kernel_.want_passthrough = options_.passthrough && root;
  kernel_.stack_depth = stack_depth_of(lower_.lower_fd());
  fuse_custom_io io{};
  io.read = [](int fd, void* buf, size_t size, void* self) {
    return static_cast<MountImpl*>(self)->kernel_.read(fd, buf, size);
  };
  io.writev = [](int fd, struct iovec* iov, int count, void* self) {
    return static_cast<MountImpl*>(self)->kernel_.writev(fd, iov, count);
  };
  io.splice_send = [](int from, off_t* from_at, int to, off_t* to_at, size_t size, unsigned flags,
                      void*) { return ::splice(from, from_at, to, to_at, size, flags); };
  if (fuse_session_custom_io(session_, &io, session_fd_) != 0) {
    return make_error(ErrorKind::kSystem, what + ": libfuse refused custom I/O");
  }
  install_nudge();
  alive_.store(true);
  // One more than needed for two clients: a slow call below (fsync) must not leave a single thread.
  const int count = static_cast<int>(std::clamp(std::thread::hardware_concurrency(), 3u, 4u));
  running_.store(count);
  for (int i = 0; i < count; ++i) threads_.emplace_back([this] { serve_requests(); });
  for (int i = 0; i < 25000 && !kernel_.initialized() && alive(); ++i) ::usleep(200);
  if (!kernel_.initialized()) {
    return make_error(ErrorKind::kSystem, what + ": the kernel did not start the session");
  }
  return {};
}

void MountImpl::serve_requests() {
  sigset_t others;
  sigfillset(&others);
  sigdelset(&others, kNudgeSignal);
  pthread_sigmask(SIG_SETMASK, &others, nullptr);
  enter_acting_thread();
  fuse_buf buf{};
  while (!fuse_session_exited(session_)) {
    const int n = fuse_session_receive_buf(session_, &buf);
    if (n == -EINTR || n == -EAGAIN) continue;
    if (n <= 0) break;
    fuse_session_process_buf(session_, &buf);
  }
  std::free(buf.mem);
  fuse_session_exit(session_);
  alive_.store(false);
  running_.fetch_sub(1);
}

void MountImpl::end_threads(bool abort) {
  using std::chrono::steady_clock;
  const auto patience = steady_clock::now() + std::chrono::seconds(abort ? 0 : 5);
  while (running_.load() > 0 && steady_clock::now() < patience) ::usleep(500);
  if (session_ != nullptr) fuse_session_exit(session_);
  while (running_.load() > 0) {
    // A nudge can come just before the read it is meant for, so it is repeated.
    for (std::thread& thread : threads_) pthread_kill(thread.native_handle(), kNudgeSignal);
    ::usleep(2000);
  }
  for (std::thread& thread : threads_) thread.join();
  threads_.clear();
  alive_.store(false);
  served_.stop();  // what waited for it is answered, if to nobody
  view_.stop();
  // Leaving the device is what makes a detached mount's open files fail instead of hang. The
  // descriptor stays valid, for whoever still tells a kernel that has gone, until the session is
  // destroyed. The notifier may be waiting for an answer that nobody gives any more, so it ends
  // after that.
  if (session_fd_ >= 0) {
    const UniqueFd null(::open("/dev/null", O_RDWR | O_CLOEXEC));
    if (null) (void)::dup3(null.get(), session_fd_, O_CLOEXEC);
  }
  notifier_.stop();
}

void MountImpl::set_listener(TreeListener* listener) {
  std::unique_lock lock(listener_mutex_);
  listener_ = listener;
  listening_.store(listener != nullptr, std::memory_order_release);
}

void MountImpl::post_now(fuse_req_t req, TreeOp op, const std::string& rel, bool succeeded) {
  std::shared_lock lock(listener_mutex_);
  if (listener_ != nullptr) listener_->on_tree_op(fuse_req_ctx(req)->pid, op, rel, succeeded);
}

void MountImpl::note_unfinished(fuse_req_t req, Handle& handle) {
  if (!listening_.load(std::memory_order_acquire)) return;
  {
    std::shared_lock lock(listener_mutex_);
    if (listener_ == nullptr || !listener_->is_traced(fuse_req_ctx(req)->pid)) return;
  }
  struct stat st {};
  const auto rel = nodes_.path(handle.node->id);
  if (rel && ::fstat(handle.fd.get(), &st) == 0 && S_ISREG(st.st_mode))
    handle.unfinished = unfinished_.begin(*rel, st);
}

MountStatus MountImpl::status() const {
  MountStatus status;
  status.dir = options_.dir;
  status.passthrough = kernel_.passthrough();
  status.requests = kernel_.requests();
  status.nodes = nodes_.size();
  status.served_pending = served_.pending();
  status.served_bytes_pending = served_.pending_bytes();
  status.write_handles = write_handles_.load();
  return status;
}

Result<void> MountImpl::publish_all(const std::function<bool()>& cancelled) {
  const int err = served_.publish_all(cancelled);
  if (err == 0) return {};
  const std::string what = "cannot write the files served in " + options_.dir;
  if (err == ECANCELED) return make_error(ErrorKind::kBusy, what + ": cancelled");
  return system_error(what, err);
}

Result<void> MountImpl::unmount(bool lazy) {
  if (unmounted_.load()) return {};
  if (alive()) {
    PCACHE_TRY(publish_all({}));
    if (is_pcache_mount(options_.dir)) PCACHE_TRY(unmount_path(options_.dir, lazy));
  }
  unmounted_.store(true);
  end_threads(lazy);
  return {};
}

std::vector<std::string> mend_unfinished(const std::string& dir, const std::string& unfinished) {
  if (unfinished.empty() || ::access(unfinished.c_str(), F_OK) != 0) return {};
  Result<UniqueFd> lower = open_lower(dir, "cannot mend " + dir);
  if (!lower) return {};
  return UnfinishedFiles::mend(unfinished, store::LowerTree(dir, std::move(*lower)));
}

Result<std::unique_ptr<Mount>> Mount::create(const MountOptions& options,
                                             std::vector<std::string>* mended) {
  const std::string what = "cannot mount " + options.dir;
  if (is_dead_mount(options.dir)) PCACHE_TRY(clear_dead_mount(options.dir));
  PCACHE_ASSIGN(UniqueFd lower, open_lower(options.dir, what));
  if (is_pcache_mount(options.dir)) {
    return make_error(ErrorKind::kBusy, what + ": pcache is mounted there already; pcache umount " +
                                            options.dir + " takes it away");
  }
  PCACHE_TRY(check_device(what));
  if (::geteuid() != 0) {
    if (find_fusermount().empty()) {
      return make_error(ErrorKind::kUnsupported,
                        what + ": fusermount3 not found; install the package fuse3");
    }
    if (::access(options.dir.c_str(), W_OK) != 0) {
      return make_error(ErrorKind::kUnsupported,
                        what +
                            ": you may not write to it; an ordinary user can mount over own "
                            "directories only");
    }
  }
  raise_descriptor_limit();
  std::vector<std::string> removed = mend_unfinished(options.dir, options.unfinished);
  if (mended != nullptr) *mended = std::move(removed);
  auto mount = std::make_unique<MountImpl>(options, std::move(lower));
  PCACHE_TRY(mount->start());
  return mount;
}

}  // namespace pcache::fusefs
