#include "cli/daemon/claim.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <chrono>
#include <thread>

namespace pcache::cli {
namespace {

using std::chrono::steady_clock;
constexpr auto kPatience = std::chrono::seconds(60);
constexpr auto kPause = std::chrono::milliseconds(5);

struct sockaddr_un address_of(const std::string& path) {
  struct sockaddr_un address {};
  address.sun_family = AF_UNIX;
  path.copy(address.sun_path, sizeof address.sun_path - 1);
  return address;
}

bool somebody_listens(const std::string& path) {
  const UniqueFd socket(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  const struct sockaddr_un address = address_of(path);
  return ::connect(socket.get(), reinterpret_cast<const struct sockaddr*>(&address),
                   sizeof address) == 0;
}

// A file with no name any more is the lock of a daemon that has just ended.
bool still_named(int fd, const std::string& path) {
  struct stat open_file {};
  struct stat named {};
  return ::fstat(fd, &open_file) == 0 && ::stat(path.c_str(), &named) == 0 &&
         open_file.st_dev == named.st_dev && open_file.st_ino == named.st_ino;
}

}  // namespace

Result<void> make_cache_dir(const std::string& dir) {
  struct stat st {};
  if (::stat(dir.c_str(), &st) == 0) {
    if (S_ISDIR(st.st_mode)) return {};
    return system_error("PCACHE_DIR " + dir, ENOTDIR);
  }
  for (size_t end = dir.find('/', 1); end != std::string::npos; end = dir.find('/', end + 1)) {
    const std::string parent = dir.substr(0, end);
    if (::mkdir(parent.c_str(), 0755) != 0 && errno != EEXIST && errno != EROFS &&
        errno != EACCES) {
      return system_error("cannot create " + parent);
    }
  }
  if (::mkdir(dir.c_str(), 0700) != 0 && errno != EEXIST)
    return system_error("cannot create " + dir);
  return {};
}

Result<std::unique_ptr<Claim>> Claim::make(const Locations& locations) {
  std::unique_ptr<Claim> claim(new Claim(locations));
  if (locations.socket_in_tmp) {
    if (::mkdir(locations.socket_dir().c_str(), 0700) != 0 && errno != EEXIST) {
      return system_error("cannot create " + locations.socket_dir());
    }
    PCACHE_TRY(check_private_dir(locations.socket_dir()));
  }
  // Where PCACHE_DIR cannot be written the store is unusable, but commands still have to run.
  claim->lock_path_ = locations.pid_file();
  if (!make_cache_dir(locations.dir) || ::access(locations.dir.c_str(), W_OK | X_OK) != 0) {
    claim->lock_path_ = locations.socket + ".lock";
  }
  const auto deadline = steady_clock::now() + kPatience;
  while (true) {
    if (somebody_listens(locations.socket)) return nullptr;
    UniqueFd lock(::open(claim->lock_path_.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
    if (!lock && errno == ENOSPC && claim->lock_path_ == locations.pid_file()) {
      claim->lock_path_ = locations.socket + ".lock";
      continue;
    }
    if (!lock) return system_error("cannot create " + claim->lock_path_);
    if (::flock(lock.get(), LOCK_EX | LOCK_NB) == 0 && still_named(lock.get(), claim->lock_path_)) {
      claim->lock_ = std::move(lock);
      break;
    }
    if (steady_clock::now() > deadline) {
      return make_error(ErrorKind::kBusy, "another daemon is still stopping (it holds " +
                                              claim->lock_path_ + "): try again later");
    }
    std::this_thread::sleep_for(kPause);
  }
  PCACHE_TRY(claim->listen());
  claim->write_pid();
  return claim;
}

Result<void> Claim::listen() {
  listener_.reset(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!listener_) return system_error("cannot make a socket");
  const struct sockaddr_un address = address_of(locations_.socket);
  ::unlink(locations_.socket.c_str());  // of a daemon that was killed: we hold its lock
  const mode_t mask = ::umask(0177);
  int bound = -1;
  for (int attempt = 0; attempt < 3 && bound != 0; ++attempt) {
    bound =
        ::bind(listener_.get(), reinterpret_cast<const struct sockaddr*>(&address), sizeof address);
    // Another PCACHE_DIR's daemon that ends removes the directory both use in /tmp.
    if (bound != 0 && errno == ENOENT && locations_.socket_in_tmp) {
      ::mkdir(locations_.socket_dir().c_str(), 0700);
      ::chmod(locations_.socket_dir().c_str(), 0700);  // whatever the umask is at the moment
    }
  }
  const int error = errno;
  ::umask(mask);
  if (bound != 0) return system_error("cannot listen at " + locations_.socket, error);
  if (::listen(listener_.get(), 128) != 0) {
    return system_error("cannot listen at " + locations_.socket);
  }
  return {};
}

void Claim::write_pid() {
  const std::string text = fmt::format("{}\n{}\n", ::getpid(), locations_.socket);
  (void)!::ftruncate(lock_.get(), 0);
  (void)!::pwrite(lock_.get(), text.data(), text.size(),
                  0);  // only a help: a full disk is no reason
}

void Claim::stop_listening() {
  if (!listener_) return;
  ::unlink(locations_.socket.c_str());
  listener_.reset();
}

Claim::~Claim() {
  stop_listening();
  if (lock_) ::unlink(lock_path_.c_str());
  if (locations_.socket_in_tmp) ::rmdir(locations_.socket_dir().c_str());  // when it is empty
}

}  // namespace pcache::cli
