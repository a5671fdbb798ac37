#include "store/tree_path.h"

namespace pcache::store {

TreePath TreePath::parent() const {
  const size_t slash = text.rfind('/');
  if (slash == std::string::npos) return TreePath{};
  if (slash == 0) return TreePath{"/"};
  return TreePath{text.substr(0, slash)};
}

std::string TreePath::name() const {
  const size_t slash = text.rfind('/');
  return slash == std::string::npos ? text : text.substr(slash + 1);
}

TreePath TreePath::child(std::string_view child_name) const {
  TreePath out{text};
  if (!text.empty() && text != "/") out.text += '/';
  out.text += child_name;
  return out;
}

bool TreePath::is_below(const TreePath& ancestor) const {
  if (in_root() != ancestor.in_root()) return false;
  if (ancestor.text.empty()) return !text.empty();
  if (ancestor.text == "/") return text.size() > 1;
  return text.size() > ancestor.text.size() && text[ancestor.text.size()] == '/' &&
         text.compare(0, ancestor.text.size(), ancestor.text) == 0;
}

std::string TreePath::absolute(const std::string& root) const {
  if (!in_root()) return text;
  if (text.empty()) return root;
  return root == "/" ? root + text : root + "/" + text;
}

TreePath TreePath::from_absolute(std::string_view absolute, std::string_view root) {
  if (absolute == root) return TreePath{};
  if (root == "/") return TreePath{std::string(absolute.substr(1))};
  if (absolute.size() > root.size() && absolute[root.size()] == '/' && absolute.starts_with(root)) {
    return TreePath{std::string(absolute.substr(root.size() + 1))};
  }
  return TreePath{std::string(absolute)};
}

}  // namespace pcache::store
