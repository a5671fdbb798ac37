// TreePath: a canonical path as facts and effects name it, relative to its anchor.
//
// The text of a path below the mount's root is relative to that root ("src/a.c", "" for the root
// itself), so that another checkout of the same tree finds the same records. Every other path is
// absolute ("/usr/bin/gcc"). Canonical: no ".", "..", doubled or trailing slashes, and no component
// but the last is a symbolic link (links that were crossed are Link facts of their own).
#pragma once

#include <functional>
#include <string>
#include <string_view>

namespace pcache::store {

struct TreePath {
  std::string text;

  bool in_root() const { return text.empty() || text[0] != '/'; }
  auto operator<=>(const TreePath&) const = default;

  TreePath parent() const;   // "" for a name directly below the root, "/" for "/x"
  std::string name() const;  // last component; "" for "" and "/"
  TreePath child(std::string_view name) const;
  bool is_below(const TreePath& ancestor) const;  // strictly

  // The path as a person knows it: root + "/" + text, or text when absolute.
  std::string absolute(const std::string& root) const;
  // `absolute` must be canonical; what lies in `root` becomes relative to it.
  static TreePath from_absolute(std::string_view absolute, std::string_view root);
};

struct TreePathHash {
  size_t operator()(const TreePath& p) const { return std::hash<std::string>()(p.text); }
};

}  // namespace pcache::store
