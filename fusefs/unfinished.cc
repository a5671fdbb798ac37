#include "fusefs/unfinished.h"

#include <fcntl.h>
#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <cstring>

namespace pcache::fusefs {
namespace {

constexpr int kMostSlots = 4096;

struct Slot {
  uint32_t used = 0;
  uint32_t length = 0;
  uint64_t device = 0, inode = 0;
  char name[4072] = {};
};
static_assert(sizeof(Slot) == 4096);

off_t offset_of(int slot) { return static_cast<off_t>(slot) * static_cast<off_t>(sizeof(Slot)); }

}  // namespace

UnfinishedFiles::UnfinishedFiles(std::string path) : path_(std::move(path)) {
  if (path_.empty()) return;
  const std::string directory = path_.substr(0, path_.rfind('/'));
  (void)::mkdir(directory.c_str(), 0700);
  file_.reset(::open(path_.c_str(), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600));
}

UnfinishedFiles::~UnfinishedFiles() {
  struct stat ours {
  }, there{};  // a newer mount may have made it anew
  if (file_ && !kept_ && ::fstat(file_.get(), &ours) == 0 && ::stat(path_.c_str(), &there) == 0 &&
      ours.st_ino == there.st_ino && ours.st_dev == there.st_dev)
    ::unlink(path_.c_str());
}

int UnfinishedFiles::begin(std::string_view rel, const struct stat& st) {
  Slot slot;
  if (!file_ || rel.size() > sizeof slot.name) return -1;
  int number;
  {
    const std::lock_guard lock(mutex_);
    if (!free_.empty()) {
      number = free_.back();
      free_.pop_back();
    } else if (next_ < kMostSlots) {
      number = next_++;
    } else {
      return -1;
    }
  }
  slot.used = 1;
  slot.length = static_cast<uint32_t>(rel.size());
  slot.device = st.st_dev;
  slot.inode = st.st_ino;
  std::memcpy(slot.name, rel.data(), rel.size());
  const size_t size = offsetof(Slot, name) + rel.size();
  if (::pwrite(file_.get(), &slot, size, offset_of(number)) == static_cast<ssize_t>(size))
    return number;
  end(number);
  return -1;
}

void UnfinishedFiles::end(int slot) {
  if (slot < 0 || kept_) return;
  const uint32_t unused = 0;
  (void)!::pwrite(file_.get(), &unused, sizeof unused, offset_of(slot));
  const std::lock_guard lock(mutex_);
  free_.push_back(slot);
}

std::vector<std::string> UnfinishedFiles::mend(const std::string& path, const store::Tree& tree) {
  std::vector<std::string> removed;
  const UniqueFd file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!file) return removed;
  Slot slot;
  for (int number = 0; number < kMostSlots; ++number) {
    slot = Slot{};
    const ssize_t got = ::pread(file.get(), &slot, sizeof slot, offset_of(number));
    if (got <= 0) break;
    if (slot.used != 1 || slot.length == 0 || slot.length > sizeof slot.name) continue;
    const std::string rel(slot.name, slot.length);
    struct stat st {};
    UniqueFd parent;
    std::string name;
    if (tree.stat(rel, &st) != 0 || !S_ISREG(st.st_mode) || st.st_dev != slot.device ||
        st.st_ino != slot.inode || tree.open_parent(rel, &parent, &name) != 0)
      continue;
    if (::unlinkat(parent.get(), name.c_str(), 0) == 0) removed.push_back(rel);
  }
  ::unlink(path.c_str());
  return removed;
}

}  // namespace pcache::fusefs
