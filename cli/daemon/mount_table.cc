#include "cli/daemon/mount_table.h"

#include <fmt/format.h>

#include <algorithm>

#include "cli/daemon/log.h"
#include "cli/mountinfo.h"
#include "cli/text.h"

namespace pcache::cli {
namespace {

constexpr std::chrono::milliseconds kFirstPause{100};
constexpr std::chrono::milliseconds kLongestPause{60'000};

}  // namespace

MountTable::Lease::Lease(Lease&& other) noexcept
    : table_(std::exchange(other.table_, nullptr)), entry_(std::move(other.entry_)) {}

MountTable::Lease::~Lease() {
  if (table_ != nullptr) table_->release(entry_);
}

fusefs::Mount& MountTable::Lease::mount() const { return *entry_->mount; }
bool MountTable::Lease::temporary() const { return entry_->temporary; }
bool MountTable::Lease::unmount_now() const { return table_->unmount_now(entry_); }

MountTable::MountTable(Locations locations, std::function<void()> changed,
                       std::vector<fusefs::ViewFile> view)
    : locations_(std::move(locations)), changed_(std::move(changed)), view_(std::move(view)) {}

// Nothing of pcache's own may lie in a mount, and no mount in another. Called without the lock: it
// looks at other daemons' mounts.
Result<void> MountTable::check_place(const std::string& dir) {
  const std::string name = printable(dir);
  if (is_inside(locations_.dir, dir)) {
    return make_error(ErrorKind::kInvalid,
                      fmt::format("{} holds the store {}: set PCACHE_DIR to a directory outside",
                                  name, printable(locations_.dir)));
  }
  if (is_inside(dir, locations_.dir)) {
    return make_error(ErrorKind::kInvalid, fmt::format("{} lies in the store {}: choose another",
                                                       name, printable(locations_.dir)));
  }
  if (is_inside(locations_.socket, dir)) {
    return make_error(ErrorKind::kInvalid,
                      fmt::format("{} holds the daemon's socket {}: choose a directory in it", name,
                                  printable(locations_.socket)));
  }
  std::vector<std::string> own;
  {
    const std::lock_guard lock(mutex_);
    for (const auto& [other, entry] : entries_) {
      if (other != dir) own.push_back(other);
    }
  }
  for (const std::string& other : own) {
    if (!is_inside(dir, other) && !is_inside(other, dir)) continue;
    return make_error(ErrorKind::kInvalid,
                      fmt::format("{} and the pcache mount {} would lie in one another: use that "
                                  "one, or unmount it first",
                                  name, printable(other)));
  }
  for (const MountEntry& other : read_mounts()) {
    if (!other.is_pcache() || (!is_inside(dir, other.dir) && !is_inside(other.dir, dir))) continue;
    if (std::find(own.begin(), own.end(), other.dir) != own.end()) continue;
    if (is_dead(other.dir)) {
      PCACHE_TRY(fusefs::clear_dead_mount(other.dir));
      log_line("cleared the dead mount " + other.dir);
      continue;
    }
    return make_error(ErrorKind::kBusy,
                      fmt::format("{} is mounted by another pcache daemon (another PCACHE_DIR or "
                                  "user): unmount it there first",
                                  printable(other.dir)));
  }
  return {};
}

void MountTable::note_mended(const std::string& dir, const std::vector<std::string>& removed) {
  if (removed.empty()) return;
  const std::lock_guard lock(mutex_);
  for (const std::string& name : removed) {
    log_line("removed " + dir + "/" + name + ", which a killed command had not finished");
    mended_[dir].push_back(name);
  }
}

std::string MountTable::take_note(const std::string& dir) {
  constexpr size_t kNamed = 5;
  std::vector<std::string> names;
  {
    const std::lock_guard lock(mutex_);
    const auto found = mended_.find(dir);
    if (found == mended_.end()) return "";
    names = std::move(found->second);
    mended_.erase(found);
  }
  std::string text;
  for (size_t i = 0; i < std::min(names.size(), kNamed); ++i)
    text += (i == 0 ? "" : ", ") + printable(names[i]);
  if (names.size() > kNamed) text += fmt::format(" and {} more", names.size() - kNamed);
  return fmt::format("removed {} that commands killed with the daemon had not finished: {}",
                     counted(names.size(), "file", "files"), text);
}

Result<void> MountTable::clear_dead(const std::string& dir) {
  {
    const std::lock_guard lock(mutex_);
    if (entries_.count(dir) != 0) return {};
  }
  if (!is_dead(dir)) return {};
  PCACHE_TRY(fusefs::clear_dead_mount(dir));
  log_line("cleared the dead mount " + dir);
  note_mended(dir, fusefs::mend_unfinished(dir, locations_.unfinished(dir)));
  return {};
}

bool MountTable::vanished(const Entry& entry) {
  if (!entry.mount->alive()) return true;
  const std::vector<MountEntry> mounts = read_mounts();
  return std::none_of(mounts.begin(), mounts.end(),
                      [&](const MountEntry& m) { return m.is_pcache() && m.dir == entry.dir; });
}

Result<MountTable::EntryPtr> MountTable::obtain(std::unique_lock<std::mutex>& lock,
                                                const std::string& dir, bool passthrough,
                                                bool* created) {
  *created = false;
  while (true) {
    const auto found = entries_.find(dir);
    if (found == entries_.end()) break;
    const EntryPtr entry = found->second;
    if (entry->state != State::kReady) {
      settled_.wait(lock);
      continue;
    }
    if (!vanished(*entry)) return entry;
    if (entry->sessions > 0) {
      return make_error(ErrorKind::kBusy,
                        printable(dir) + " was unmounted while commands run in it: end them first");
    }
    entries_.erase(found);
    lock.unlock();
    entry->mount.reset();
    lock.lock();
  }
  const auto entry = std::make_shared<Entry>();
  entry->dir = dir;
  entries_[dir] = entry;
  lock.unlock();
  fusefs::MountOptions options;
  options.dir = dir;
  options.passthrough = passthrough;
  options.view = view_;
  options.unfinished = locations_.unfinished(dir);
  std::vector<std::string> mended;
  auto mount = check_place(dir).and_then([&] { return fusefs::Mount::create(options, &mended); });
  note_mended(dir, mended);
  lock.lock();
  settled_.notify_all();
  if (!mount) {
    entries_.erase(dir);
    return tl::make_unexpected(std::move(mount).error());
  }
  entry->mount = std::move(*mount);
  entry->state = State::kReady;
  *created = true;
  log_line(fmt::format("mounted {}, passthrough {}", dir,
                       entry->mount->status().passthrough ? "yes" : "no"));
  return entry;
}

Result<MountTable::Lease> MountTable::acquire(const std::string& dir, bool passthrough) {
  std::unique_lock lock(mutex_);
  bool created = false;
  PCACHE_ASSIGN(const EntryPtr entry, obtain(lock, dir, passthrough, &created));
  ++entry->sessions;
  entry->retry_at.reset();
  return Lease(this, entry);
}

std::optional<MountTable::Lease> MountTable::lease_of(const std::string& dir) {
  const std::lock_guard lock(mutex_);
  const auto found = entries_.find(dir);
  if (found == entries_.end() || found->second->state != State::kReady) return std::nullopt;
  ++found->second->sessions;
  found->second->retry_at.reset();
  return Lease(this, found->second);
}

Result<bool> MountTable::add(const std::string& dir, bool passthrough) {
  std::unique_lock lock(mutex_);
  bool created = false;
  PCACHE_ASSIGN(const EntryPtr entry, obtain(lock, dir, passthrough, &created));
  if (!created && !entry->temporary) {
    return make_error(ErrorKind::kInvalid,
                      printable(dir) + " is mounted already (see `pcache status`)");
  }
  entry->temporary = false;
  entry->retry_at.reset();
  const bool result = entry->mount->status().passthrough;
  lock.unlock();
  changed_();
  return result;
}

Result<void> MountTable::take_down(
    std::unique_lock<std::mutex>& lock, const EntryPtr& entry, bool lazy,
    const std::function<bool(const fusefs::MountStatus&)>& progress) {
  entry->state = State::kUnmounting;
  lock.unlock();
  bool cancelled = false;
  Result<void> done;
  if (entry->mount->alive()) {
    done = entry->mount->publish_all([&] {
      if (progress && !cancelled) cancelled = !progress(entry->mount->status());
      return cancelled;
    });
    if (cancelled) done = make_error(ErrorKind::kInvalid, "given up: still mounted");
    if (done) done = entry->mount->unmount(lazy);
  }
  lock.lock();
  if (done) {
    entries_.erase(entry->dir);
    log_line("unmounted " + entry->dir);
  } else {
    entry->state = State::kReady;
    const bool busy = done.error().kind == ErrorKind::kBusy;  // it is tried again
    log_at(busy ? LogLevel::kDebug : LogLevel::kError,
           fmt::format("cannot unmount {}: {}", entry->dir, done.error().to_string()));
  }
  settled_.notify_all();
  return done;
}

bool MountTable::unmount_now(const EntryPtr& entry) {
  std::unique_lock lock(mutex_);
  if (!entry->temporary || entry->sessions != 1 || entry->state != State::kReady) return false;
  entry->gone = take_down(lock, entry, /*lazy=*/false, {}).has_value();
  return entry->gone;
}

Result<void> MountTable::remove(const std::string& dir, bool lazy,
                                const std::function<bool(const fusefs::MountStatus&)>& progress) {
  std::unique_lock lock(mutex_);
  EntryPtr entry;
  while (true) {
    const auto found = entries_.find(dir);
    if (found == entries_.end()) {
      lock.unlock();
      if (is_dead(dir)) return clear_dead(dir);
      return make_error(ErrorKind::kNotFound, printable(dir) + " is not mounted by this daemon");
    }
    entry = found->second;
    if (entry->state == State::kReady) break;
    settled_.wait(lock);
  }
  if (entry->sessions > 0) {
    return make_error(
        ErrorKind::kBusy,
        fmt::format("{} runs in {}: let it end first",
                    counted(entry->sessions, "traced command", "traced commands"), printable(dir)));
  }
  auto done = take_down(lock, entry, lazy, progress);
  if (done) destroy_mount(lock, entry);
  lock.unlock();
  changed_();
  return done;
}

void MountTable::end_temporary(std::unique_lock<std::mutex>& lock, const EntryPtr& entry) {
  entry->retry_at.reset();
  if (take_down(lock, entry, /*lazy=*/false, {})) return destroy_mount(lock, entry);
  entry->pause =
      entry->pause.count() == 0 ? kFirstPause : std::min(entry->pause * 2, kLongestPause);
  entry->retry_at = Clock::now() + entry->pause;
}

void MountTable::release(const EntryPtr& entry) {
  std::unique_lock lock(mutex_);
  if (entry->gone) {
    destroy_mount(lock, entry);
  } else if (--entry->sessions == 0 && entry->temporary && entry->state == State::kReady) {
    entry->pause = std::chrono::milliseconds(0);
    end_temporary(lock, entry);
  }
  lock.unlock();
  changed_();
}

std::optional<MountTable::Clock::time_point> MountTable::next_retry() {
  const std::lock_guard lock(mutex_);
  std::optional<Clock::time_point> next;
  for (const auto& [dir, entry] : entries_) {
    if (entry->retry_at && (!next || *entry->retry_at < *next)) next = entry->retry_at;
  }
  return next;
}

void MountTable::retry() {
  std::unique_lock lock(mutex_);
  std::vector<EntryPtr> due;
  for (const auto& [dir, entry] : entries_) {
    if (entry->retry_at && *entry->retry_at <= Clock::now()) due.push_back(entry);
  }
  for (const EntryPtr& entry : due) {
    if (entry->retry_at && entry->state == State::kReady && entry->sessions == 0) {
      end_temporary(lock, entry);
    }
  }
  lock.unlock();
  changed_();
}

std::vector<MountTable::Listed> MountTable::list() {
  const std::lock_guard lock(mutex_);
  std::vector<Listed> listed;
  for (const auto& [dir, entry] : entries_) {
    if (entry->state == State::kMounting) continue;
    listed.push_back({entry->mount->status(), entry->temporary, entry->sessions});
  }
  return listed;
}

bool MountTable::empty() {
  const std::lock_guard lock(mutex_);
  return entries_.empty();
}

void MountTable::forget_vanished() {
  std::vector<EntryPtr> gone;
  {
    const std::lock_guard lock(mutex_);
    for (auto it = entries_.begin(); it != entries_.end();) {
      const EntryPtr entry = it->second;
      if (entry->state == State::kReady && entry->sessions == 0 && vanished(*entry)) {
        log_line(entry->dir + " was unmounted from outside");
        gone.push_back(entry);
        it = entries_.erase(it);
      } else {
        ++it;
      }
    }
  }
  for (const EntryPtr& entry : gone) entry->mount.reset();
}

void MountTable::keep_unfinished() {
  const std::lock_guard lock(mutex_);
  for (const auto& [dir, entry] : entries_)
    if (entry->state == State::kReady && entry->sessions > 0) {
      entry->mount->keep_unfinished();
      kept_.push_back(dir);
    }
}

void MountTable::destroy_mount(std::unique_lock<std::mutex>& lock, const EntryPtr& entry) {
  lock.unlock();
  entry->mount.reset();
  lock.lock();
}

void MountTable::remove_all() {
  std::unique_lock lock(mutex_);
  while (!entries_.empty()) {
    const EntryPtr entry = entries_.begin()->second;
    if (entry->state != State::kReady) {
      settled_.wait(lock);
      continue;
    }
    if (take_down(lock, entry, false, {}) || take_down(lock, entry, true, {})) {
      destroy_mount(lock, entry);
    } else {
      entries_.erase(entry->dir);
    }
  }
  lock.unlock();
  for (const std::string& dir : kept_)
    note_mended(dir, fusefs::mend_unfinished(dir, locations_.unfinished(dir)));
}

}  // namespace pcache::cli
