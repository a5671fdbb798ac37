#include "tracer/check.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <map>
#include <set>

#include "store/path_ops.h"

namespace pcache::tracer {
namespace {

using store::Effect;
using store::EffectKind;
using store::Reason;

std::string octal(uint32_t mode) {
  char text[16];
  std::snprintf(text, sizeof text, "%04o", mode & 07777);
  return text;
}

class Comparison {
 public:
  Comparison(const store::Record& record, const store::Observer& observer)
      : record_(record), observer_(observer) {}

  void status(int now) {
    if (now != record_.exit_status)
      differ("status", "",
             "exit status " + std::to_string(now) + ", recorded " +
                 std::to_string(record_.exit_status));
  }
  void streams(const Execution& e, const Spool& spool);
  void effects();
  void others(const Execution& e, const store::Record* made);
  std::vector<Reason> take() { return std::move(reasons_); }

 private:
  void differ(const char* what, const std::string& path, std::string detail) {
    reasons_.push_back({what, path, std::move(detail)});
  }
  void missing(const Effect& effect) { differ("output", effect.path.text, "it is not there"); }
  bool recorded_streams(std::string (&bytes)[3]) const;
  void existence(const Effect& effect);
  void file(const Effect& effect, const struct stat& st);
  void attributes(const Effect& effect);

  const store::Record& record_;
  const store::Observer& observer_;
  std::vector<Reason> reasons_;
};

bool Comparison::recorded_streams(std::string (&bytes)[3]) const {
  std::string all = record_.stream_bytes;
  uint64_t total = 0;
  for (const store::StreamSegment& segment : record_.streams) total += segment.size;
  if (!record_.stream_blob.empty()) {
    const auto blob = observer_.store().blobs().open(record_.stream_blob, total);
    if (!blob) return false;
    all.resize(total);
    for (uint64_t done = 0; done < total;) {
      const ssize_t got =
          ::pread(blob->get(), all.data() + done, total - done, static_cast<off_t>(done));
      if (got <= 0) return false;
      done += static_cast<uint64_t>(got);
    }
  }
  uint64_t offset = 0;
  for (const store::StreamSegment& segment : record_.streams) {
    if (segment.fd > 2 || offset + segment.size > all.size()) return false;
    bytes[segment.fd] += all.substr(offset, segment.size);
    offset += segment.size;
  }
  return true;
}

void Comparison::streams(const Execution& e, const Spool& spool) {
  std::string then[3], now[3];
  if (!recorded_streams(then)) {
    differ("stream", "", "the recorded output cannot be read");
    return;
  }
  for (const SpoolSegment& segment : e.streams) {
    std::string bytes;
    if (segment.fd > 2 || !spool.read(segment.offset, segment.size, &bytes)) {
      differ("stream", "", "its output could not be kept for comparing");
      return;
    }
    now[segment.fd] += bytes;
  }
  for (const int fd : {1, 2}) {
    if (now[fd] == then[fd]) continue;
    const size_t at = static_cast<size_t>(
        std::mismatch(now[fd].begin(), now[fd].end(), then[fd].begin(), then[fd].end()).first -
        now[fd].begin());
    const auto line =
        1 + std::count(now[fd].begin(), now[fd].begin() + static_cast<long>(at), '\n');
    differ("stream", fd == 1 ? "stdout" : "stderr",
           "differs from line " + std::to_string(line) + " on (" + std::to_string(now[fd].size()) +
               " bytes, recorded " + std::to_string(then[fd].size()) + ")");
  }
}

void Comparison::file(const Effect& effect, const struct stat& st) {
  const std::string& path = effect.path.text;
  if (!S_ISREG(st.st_mode)) {
    differ("output", path, "it is no regular file");
    return;
  }
  if (static_cast<uint64_t>(st.st_size) != effect.size) {
    differ("output", path,
           "it is " + std::to_string(st.st_size) + " bytes long, recorded " +
               std::to_string(effect.size));
  } else {
    store::Digest hash;
    if (const int err = observer_.content_hash(effect.path, st, &hash); err != 0)
      differ("output", path, std::string("it cannot be read: ") + std::strerror(err));
    else if (hash != effect.blob)
      differ("output", path, "its contents differ, their length does not");
  }
  if ((st.st_mode & 07777) != effect.mode)
    differ("output", path, "its mode is " + octal(st.st_mode) + ", recorded " + octal(effect.mode));
}

void Comparison::existence(const Effect& effect) {
  const std::string& path = effect.path.text;
  struct stat st {};
  const int err = observer_.stat(effect.path, &st);
  if (effect.kind == EffectKind::kRemove || effect.kind == EffectKind::kRemoveDir) {
    if (err == 0) differ("output", path, "it is there, the record removes it");
    return;
  }
  if (err != 0) return missing(effect);
  switch (effect.kind) {
    case EffectKind::kFile:
      return file(effect, st);
    case EffectKind::kMakeDir:
      if (!S_ISDIR(st.st_mode)) differ("output", path, "it is no directory");
      return;
    case EffectKind::kFifo:
      if (!S_ISFIFO(st.st_mode)) differ("output", path, "it is no named pipe");
      return;
    case EffectKind::kSymlink: {
      std::string target;
      if (!S_ISLNK(st.st_mode) || observer_.read_link(effect.path, &target) != 0)
        differ("output", path, "it is no symbolic link");
      else if (target != effect.text)
        differ("output", path, "it leads to " + target + ", recorded " + effect.text);
      return;
    }
    case EffectKind::kHardLink: {
      struct stat other {};
      if (observer_.stat(TreePath{effect.text}, &other) != 0 || other.st_ino != st.st_ino ||
          other.st_dev != st.st_dev)
        differ("output", path, "it is not the same file as " + effect.text);
      return;
    }
    default:
      return;
  }
}

void Comparison::attributes(const Effect& effect) {
  const std::string& path = effect.path.text;
  struct stat st {};
  if (observer_.stat(effect.path, &st) != 0) {
    if (effect.kind == EffectKind::kMeta) missing(effect);
    return;
  }
  if (effect.kind == EffectKind::kMeta && effect.set_mode && (st.st_mode & 07777) != effect.mode)
    differ("output", path, "its mode is " + octal(st.st_mode) + ", recorded " + octal(effect.mode));
  if ((effect.uid && *effect.uid != st.st_uid) || (effect.gid && *effect.gid != st.st_gid))
    differ("output", path, "it has another owner");
  for (const auto& [name, value] : effect.xattrs) {
    std::string now;
    const int err = effect.path.in_root()
                        ? observer_.tree().get_xattr(path, name, &now)
                        : store::path_ops::get_xattr({AT_FDCWD, false}, path.c_str(), name, &now);
    if (err != 0 || now != value) differ("output", path, "its attribute " + name + " differs");
  }
}

void Comparison::effects() {
  // Of several effects on one path the last says what is there.
  std::map<TreePath, const Effect*> last;
  for (const Effect& effect : record_.effects) {
    const bool places = effect.kind != EffectKind::kMeta && effect.kind != EffectKind::kTouch &&
                        effect.kind != EffectKind::kOffset;
    if (places) last[effect.path] = &effect;
  }
  for (const Effect& effect : record_.effects) {
    if (const auto found = last.find(effect.path); found != last.end() && found->second == &effect)
      existence(effect);
    if (effect.kind != EffectKind::kOffset) attributes(effect);
  }
}

// What the record says nothing of.
void Comparison::others(const Execution& e, const store::Record* made) {
  std::set<TreePath> known;
  for (const Effect& effect : record_.effects) known.insert(effect.path);
  if (made != nullptr) {
    for (const Effect& effect : made->effects)
      if (effect.kind != EffectKind::kOffset && known.insert(effect.path).second)
        differ("output", effect.path.text, "it was changed, the record leaves it alone");
    return;
  }
  for (const auto& [path, entry] : e.paths) {
    struct stat st {};
    const bool there = observer_.stat(path, &st) == 0;
    if (entry.changed == 0 || known.contains(path) || there == (entry.before.err == 0)) continue;
    differ("output", path.text,
           there ? "it was made, the record does not make it"
                 : "it was removed, the record leaves it alone");
  }
}

}  // namespace

std::vector<Reason> compare_with_record(const Execution& e, int status, const store::Record& record,
                                        const store::Record* made, const store::Observer& observer,
                                        const Spool& spool) {
  Comparison comparison(record, observer);
  comparison.status(status);
  comparison.streams(e, spool);
  comparison.effects();
  comparison.others(e, made);
  return comparison.take();
}

}  // namespace pcache::tracer
