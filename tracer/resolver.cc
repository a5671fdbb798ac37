#include "tracer/resolver.h"

#include <cerrno>
#include <deque>

namespace pcache::tracer {
namespace {

constexpr int kMaxLinks = 40;  // as the kernel

void push_components(std::deque<std::string>* queue, const std::string& path, bool in_front) {
  std::vector<std::string> parts;
  for (size_t begin = 0; begin < path.size();) {
    size_t end = path.find('/', begin);
    if (end == std::string::npos) end = path.size();
    if (end > begin && !(end - begin == 1 && path[begin] == '.'))
      parts.emplace_back(path, begin, end - begin);
    begin = end + 1;
  }
  if (in_front)
    queue->insert(queue->begin(), parts.begin(), parts.end());
  else
    queue->insert(queue->end(), parts.begin(), parts.end());
}

bool is_pseudo(const std::string& absolute) {
  return absolute.starts_with("/proc/") || absolute.starts_with("/dev/fd/");
}

constexpr size_t kMostWays = 20'000;

// Whether the last component is a plain name: then what stands before it is a directory's name.
bool has_plain_name(const std::string& path) {
  const size_t slash = path.rfind('/');
  const size_t name = slash == std::string::npos ? 0 : slash + 1;
  return name < path.size() && path.compare(name, std::string::npos, ".") != 0 &&
         path.compare(name, std::string::npos, "..") != 0;
}

// Of the directory that `path` names before its last component. A NUL stands in no path.
std::string way_key(const std::string& base, const std::string& path) {
  const size_t slash = path.rfind('/');
  if (path[0] == '/') return path.substr(0, slash + 1);
  std::string key = base;
  key += '\0';
  if (slash != std::string::npos) key.append(path, 0, slash + 1);
  return key;
}

}  // namespace

void Resolver::forget_all() {
  known_.clear();
  ways_.clear();
}

bool Resolver::take_known_way(const std::string& base, const std::string& path, bool follow,
                              Resolved* result) {
  const auto found = ways_.find(way_key(base, path));
  if (found == ways_.end()) return false;
  const Way& way = found->second;
  const std::string& root = observer_.tree().root();
  const size_t slash = path.rfind('/');
  const std::string_view name =
      std::string_view(path).substr(slash == std::string::npos ? 0 : slash + 1);
  std::string next;
  next.reserve(way.at.size() + 1 + name.size());
  next.append(way.at).append("/").append(name);
  if (is_pseudo(next) || (way.at == root && name == store::kOwnView)) return false;
  store::TreePath here = store::TreePath::from_absolute(next, root);
  const bool leads_nowhere = !way.missing.text.empty();
  result->err = observer_.stat(leads_nowhere ? way.missing : here, &result->st);
  if (leads_nowhere) {
    if (result->err != ENOENT) return false;
    result->missing = way.missing;
  } else if (result->err == 0) {
    if (S_ISLNK(result->st.st_mode) && follow) return false;
    if (S_ISDIR(result->st.st_mode))
      known_.try_emplace(std::move(next), Known{Step::kDirectory, {}});
  } else {
    result->missing = here;
  }
  result->names_root = way.absolute && here.in_root();
  result->path = std::move(here);
  result->links = way.links;
  result->left_directories = way.left_directories;
  result->way = way.number;
  return true;
}

Resolved Resolver::resolve(const std::string& base, const std::string& path, bool follow,
                           pid_t own_pid) {
  Resolved result;
  if (!has_plain_name(path) || !take_known_way(base, path, follow, &result))
    result = walk(base, path, follow, own_pid);
  if (result.err != ELOOP && result.err != ENOTDIR) return result;
  // A directory that somebody outside made a link or a file.
  forget_all();
  return walk(base, path, follow, own_pid);
}

Resolved Resolver::walk(const std::string& base, const std::string& path, bool follow,
                        pid_t own_pid) {
  Resolved result;
  const std::string& root = observer_.tree().root();
  std::deque<std::string> rest;
  std::string at;  // canonical directory reached, "" is "/"
  if (path.empty() || path[0] != '/') push_components(&rest, base, false);
  push_components(&rest, path, false);
  result.trailing_slash =
      (path.size() > 1 && path.back() == '/') || path == "." || path.ends_with("/.");
  bool absolute = path.starts_with('/');
  int links = 0;

  const auto finish = [&](int err) {
    result.missing = store::TreePath::from_absolute(
        rest.empty() ? (at.empty() ? "/" : at) : at + "/" + rest.front(), root);
    for (const std::string& component : rest) at += "/" + component;
    result.err = err;
    result.path = store::TreePath::from_absolute(at.empty() ? "/" : at, root);
    result.names_root = absolute && result.path.in_root();
    return result;
  };
  const auto steps_back = [&] {
    for (const std::string& component : rest)
      if (component == "..") return true;
    return false;
  };

  bool keeps_way = has_plain_name(path);
  while (!rest.empty()) {
    // Only the last component is left, and no link in its place was crossed.
    if (keeps_way && rest.size() == 1) {
      keeps_way = false;
      if (ways_.size() >= kMostWays) ways_.clear();
      ways_[way_key(base, path)] = {++last_way_, at, result.links, result.left_directories,
                                    absolute,    {}};
      result.way = last_way_;
    }
    if (rest.front() == "..") {
      rest.pop_front();
      if (!at.empty()) result.left_directories.push_back(store::TreePath::from_absolute(at, root));
      if (at == root) absolute = true;
      at.resize(at.empty() ? 0 : at.rfind('/'));
      if (rest.empty()) break;
      continue;
    }
    const std::string next = at + "/" + rest.front();
    const bool last = rest.size() == 1;
    if (at == root && rest.front() == store::kOwnView && observer_.tree().shows_own_view()) {
      for (const std::string& component : rest) at += "/" + component;
      result.own_view = result.pseudo = true;
      result.path = store::TreePath::from_absolute(at, root);
      return result;
    }
    // Below /proc nothing is resolved: magic links lead anywhere. The process's own id is "self".
    if (is_pseudo(next) && !steps_back()) {
      std::string whole = at;
      for (const std::string& component : rest) whole += "/" + component;
      const std::string own = "/proc/" + std::to_string(own_pid) + "/";
      if ((whole + "/").starts_with(own)) whole = "/proc/self/" + (whole + "/").substr(own.size());
      while (whole.size() > 1 && whole.back() == '/') whole.pop_back();
      if (whole.starts_with("/proc/thread-self")) whole = "/proc/self" + whole.substr(17);
      if (whole.starts_with("/dev/fd/")) whole = "/proc/self/fd/" + whole.substr(8);
      result.pseudo = true;
      result.path = store::TreePath{whole};
      return result;
    }
    if (!last || follow || result.trailing_slash) {
      const auto known = known_.find(next);
      if (known != known_.end() && (!last || known->second.step == Step::kLink)) {
        if (known->second.step == Step::kDirectory) {
          rest.pop_front();
          at = next;
          continue;
        }
        if (++links > kMaxLinks) return finish(ELOOP);
        rest.pop_front();
        result.way = 0;
        result.links.push_back({store::TreePath::from_absolute(next, root), known->second.target});
        if (known->second.target.starts_with('/')) {
          at.clear();
          absolute = true;
        }
        push_components(&rest, known->second.target, true);
        continue;
      }
    }
    const store::TreePath here = store::TreePath::from_absolute(next, root);
    struct stat st {};
    if (const int err = observer_.stat(here, &st); err != 0) {
      if (keeps_way && err == ENOENT && !steps_back()) {
        std::string directory = at;
        for (size_t i = 0; i + 1 < rest.size(); ++i) directory += "/" + rest[i];
        if (ways_.size() >= kMostWays) ways_.clear();
        ways_[way_key(base, path)] = {++last_way_,  std::move(directory),
                                      result.links, result.left_directories,
                                      absolute,     here};
        result.way = last_way_;
      }
      return finish(err);
    }
    if (S_ISLNK(st.st_mode) && (!last || follow || result.trailing_slash)) {
      if (++links > kMaxLinks) return finish(ELOOP);
      std::string target;
      if (const int err = observer_.read_link(here, &target); err != 0) return finish(err);
      known_[next] = {Step::kLink, target};
      rest.pop_front();
      result.way = 0;
      result.links.push_back({here, target});
      if (target.starts_with('/')) {
        at.clear();
        absolute = true;
      }
      push_components(&rest, target, true);
      continue;
    }
    if (S_ISDIR(st.st_mode)) known_[next] = {Step::kDirectory, {}};
    if (last) {
      rest.pop_front();
      at = next;
      result.st = st;
      result.path = here;
      result.names_root = absolute && here.in_root();
      if (result.trailing_slash && !S_ISDIR(st.st_mode)) result.err = ENOTDIR;
      return result;
    }
    if (!S_ISDIR(st.st_mode)) return finish(ENOTDIR);
    rest.pop_front();
    at = next;
  }
  // "/", "." or a path that ends in ".." or a link to a directory known already.
  result.path = store::TreePath::from_absolute(at.empty() ? "/" : at, root);
  result.names_root = absolute && result.path.in_root();
  result.err = observer_.stat(result.path, &result.st);
  return result;
}

void Resolver::changed(const store::TreePath& path, bool redirects) {
  if (redirects) ++generation_;
  const std::string absolute = path.absolute(observer_.tree().root());
  const auto known = known_.find(absolute);
  if (known == known_.end()) return;
  ++generation_;
  // What lies below a directory that went away goes with it.
  ways_.clear();
  if (known->second.step == Step::kDirectory)
    known_.clear();
  else
    known_.erase(known);
}

}  // namespace pcache::tracer
