#include "tracer/import_watch.h"

#include <algorithm>

namespace pcache::tracer {

using store::TreePath;

namespace {

bool is_cached_code(const TreePath& path) { return path.text.ends_with(".pyc"); }

bool is_extension(const TreePath& path) { return path.text.ends_with(".so"); }

// "m.py", "m.cpython-311-x86_64-linux-gnu.so", "m" → "m".
std::string module_of(const std::string& name) { return name.substr(0, name.find('.')); }

bool is_init(const std::string& name) { return name.starts_with("__init__."); }

}  // namespace

bool ImportWatch::is_search_directory(const TreePath& dir) const {
  if (search_path_.contains(dir) || packages_.contains(dir)) return true;
  // The installed ones: /usr/lib/python3.11, …/dist-packages, /usr/lib/python311.zip.
  return dir.text.find("/lib/python") != std::string::npos ||
         dir.text.find("/lib64/python") != std::string::npos;
}

ImportWatch::Listings ImportWatch::give_up(Thread& thread) {
  thread.module.clear();
  return std::exchange(thread.pending, {});
}

// `path` is a name that the search for the current module may look at.
bool ImportWatch::fits(Thread& thread, const TreePath& path) {
  if (is_search_directory(path)) return true;
  // Of a missing archive (python311.zip) the way up is looked at.
  if (thread.missing && path == thread.at.parent()) return true;
  TreePath dir = path.parent();
  std::string name = path.name();
  if (is_init(name) && !is_search_directory(dir)) {  // D/m/__init__.py
    name = dir.name();
    dir = dir.parent();
  }
  if (!is_search_directory(dir)) return false;
  const std::string module = is_init(name) ? dir.name() : module_of(name);
  if (thread.module.empty()) thread.module = module;
  return thread.module == module;
}

ImportWatch::Listings ImportWatch::on_stat(pid_t tid, const TreePath& path, int err,
                                           bool directory) {
  Thread& thread = threads_[tid];
  Listings full;
  const bool search_directory = is_search_directory(path) && (directory || err != 0);
  if (!thread.pending.empty() && !fits(thread, path)) full = give_up(thread);
  // The next directory, or the next module from the first one on.
  if (search_directory) thread.module.clear();
  if (err == 0 && is_init(path.name())) packages_.insert(path.parent());
  thread.last = Last::kStat;
  thread.at = path;
  thread.missing = err != 0 && search_directory;
  return full;
}

ImportWatch::Listings ImportWatch::on_open(pid_t tid, const TreePath& path, bool directory) {
  Thread& thread = threads_[tid];
  if (is_cached_code(path) || is_extension(path)) {  // found
    thread.pending.clear();
    thread.module.clear();
    thread.last = Last::kNone;
    return {};
  }
  if (directory && thread.last == Last::kStat && thread.at == path) {
    thread.last = Last::kOpen;
    return {};
  }
  thread.last = Last::kNone;
  return give_up(thread);
}

ImportWatch::Listings ImportWatch::on_other(pid_t tid) {
  Thread& thread = threads_[tid];
  thread.last = Last::kNone;
  return give_up(thread);
}

ImportWatch::Listings ImportWatch::on_end() {
  Listings all;
  for (auto& [tid, thread] : threads_)
    for (Listing& listing : give_up(thread)) all.push_back(std::move(listing));
  return all;
}

bool ImportWatch::on_list(pid_t tid, Listing listing, int64_t mtime_ns, Listings* full) {
  Thread& thread = threads_[tid];
  if (thread.last == Last::kList && thread.at == listing.dir) return true;  // its next part
  const bool as_the_finder = thread.last == Last::kOpen && thread.at == listing.dir &&
                             is_search_directory(listing.dir) && listing.err == 0;
  const auto before = listed_.find(listing.dir);
  const bool again = before != listed_.end() && before->second == mtime_ns;
  if (!as_the_finder || again) {
    *full = give_up(thread);
    full->push_back(std::move(listing));
    thread.last = Last::kNone;
    return false;
  }
  listed_[listing.dir] = mtime_ns;
  thread.last = Last::kList;
  thread.at = listing.dir;
  thread.pending.push_back(std::move(listing));
  return true;
}

}  // namespace pcache::tracer
