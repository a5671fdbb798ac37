// MountTable: every mount of this daemon, who uses it, and when it goes.
//
// A mount made by `pcache mount` stays until it is unmounted. One that a run made for itself
// ("temporary") goes when its last session ends; if a process is still in it then, that is tried
// again, with growing pauses.
//
// Thread-safe. Nothing that touches a mounted path or waits for a mount is done under the lock; an
// entry in transition (mounting, unmounting) makes others wait.
#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "cli/locations.h"
#include "fusefs/mount.h"

namespace pcache::cli {

class MountTable {
  struct Entry;

 public:
  using Clock = std::chrono::steady_clock;

  // A session's hold on a mount; ends the temporary ones with the last of them.
  class Lease {
   public:
    Lease() = default;
    Lease(Lease&& other) noexcept;
    Lease& operator=(Lease&&) = delete;
    ~Lease();
    fusefs::Mount& mount() const;
    bool temporary() const;
    // The command has ended: takes a temporary mount that nobody else is using away now, so that
    // whoever waits for the command finds the directory as it was. The Mount object lives on as
    // long as the lease. False when it is in use still; then it goes later.
    bool unmount_now() const;

   private:
    friend class MountTable;
    Lease(MountTable* table, std::shared_ptr<Entry> entry)
        : table_(table), entry_(std::move(entry)) {}
    MountTable* table_ = nullptr;
    std::shared_ptr<Entry> entry_;
  };

  struct Listed {
    fusefs::MountStatus status;
    bool temporary = false;
    size_t sessions = 0;
  };

  // `changed` is called, with no lock held, when a mount comes, goes or has to be tried again.
  // `view`: the files of each mount's `.pcache/`.
  MountTable(Locations locations, std::function<void()> changed,
             std::vector<fusefs::ViewFile> view = {});

  // What commands killed with an earlier daemon had left unfinished below `dir`, and what was
  // removed when its mount was cleared or made anew, as a sentence; once. "": nothing.
  std::string take_note(const std::string& dir);

  // For a run: the mount on `dir`, made when there is none.
  Result<Lease> acquire(const std::string& dir, bool passthrough);
  // For a command that was seized in it: the mount, if it is there and ready.
  std::optional<Lease> lease_of(const std::string& dir);
  // For `pcache mount`; gives whether contents pass through the kernel.
  Result<bool> add(const std::string& dir, bool passthrough);
  // `progress` is called while served files are published and returns false to give up. An error of
  // kind kBusy: processes are in it.
  Result<void> remove(const std::string& dir, bool lazy,
                      const std::function<bool(const fusefs::MountStatus&)>& progress);
  // Clears a dead mount of an earlier daemon.
  Result<void> clear_dead(const std::string& dir);

  std::vector<Listed> list();
  bool empty();
  void forget_vanished();  // those that somebody unmounted behind our back
  std::optional<Clock::time_point> next_retry();
  void retry();            // temporary mounts whose pause is over
  void keep_unfinished();  // before commands are ended because the daemon stops
  void remove_all();       // the daemon stops: publishes, then unmounts, lazily where it must

 private:
  enum class State { kMounting, kReady, kUnmounting };
  struct Entry {
    std::string dir;
    std::unique_ptr<fusefs::Mount> mount;
    State state = State::kMounting;
    std::atomic<bool> temporary{true};
    size_t sessions = 0;
    bool gone = false;  // unmounted before its last lease ended: no longer in the table
    std::chrono::milliseconds pause{0};
    std::optional<Clock::time_point> retry_at;
  };
  using EntryPtr = std::shared_ptr<Entry>;

  Result<void> check_place(const std::string& dir);
  Result<EntryPtr> obtain(std::unique_lock<std::mutex>& lock, const std::string& dir,
                          bool passthrough, bool* created);
  // Unmounts and takes the entry out of the table; the Mount is left for the caller to destroy.
  Result<void> take_down(std::unique_lock<std::mutex>& lock, const EntryPtr& entry, bool lazy,
                         const std::function<bool(const fusefs::MountStatus&)>& progress);
  static void destroy_mount(std::unique_lock<std::mutex>& lock, const EntryPtr& entry);
  bool unmount_now(const EntryPtr& entry);
  void release(const EntryPtr& entry);
  void end_temporary(std::unique_lock<std::mutex>& lock, const EntryPtr& entry);
  static bool vanished(const Entry& entry);
  void note_mended(const std::string& dir, const std::vector<std::string>& removed);

  const Locations locations_;
  const std::function<void()> changed_;
  const std::vector<fusefs::ViewFile> view_;
  std::mutex mutex_;
  std::condition_variable settled_;
  std::map<std::string, EntryPtr> entries_;
  std::vector<std::string> kept_;  // mounts whose notes stay, since their commands were ended
  std::map<std::string, std::vector<std::string>> mended_;  // by mount: names removed, not yet told
};

}  // namespace pcache::cli
