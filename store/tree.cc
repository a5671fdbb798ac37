#include "store/tree.h"

#include <fcntl.h>

#include <cerrno>

#include "store/path_ops.h"

namespace pcache::store {

LowerTree::LowerTree(std::string root, UniqueFd lower)
    : root_(std::move(root)), lower_(std::move(lower)) {}

int LowerTree::stat(const std::string& rel, struct stat* st) const {
  return path_ops::stat({lower_.get(), true}, rel.c_str(), st);
}

int LowerTree::open_read(const std::string& rel, UniqueFd* fd) const {
  return path_ops::open_read({lower_.get(), true}, rel.c_str(), fd);
}

int LowerTree::read_link(const std::string& rel, std::string* target) const {
  return path_ops::read_link({lower_.get(), true}, rel.c_str(), target);
}

int LowerTree::list(const std::string& rel, std::vector<DirEntry>* entries) const {
  return path_ops::list({lower_.get(), true}, rel.c_str(), entries);
}

int LowerTree::get_xattr(const std::string& rel, const std::string& name,
                         std::string* value) const {
  return path_ops::get_xattr({lower_.get(), true}, rel.c_str(), name, value);
}

int LowerTree::list_xattr(const std::string& rel, std::string* names) const {
  return path_ops::list_xattr({lower_.get(), true}, rel.c_str(), names);
}

int LowerTree::statfs(const std::string& rel, struct statfs* buf) const {
  return path_ops::statfs({lower_.get(), true}, rel.c_str(), buf);
}

int LowerTree::open_parent(const std::string& rel, UniqueFd* parent, std::string* name) const {
  if (rel.empty()) return EBUSY;  // the root itself has no parent that is pcache's business
  const size_t slash = rel.rfind('/');
  *name = slash == std::string::npos ? rel : rel.substr(slash + 1);
  const std::string dir = slash == std::string::npos ? std::string() : rel.substr(0, slash);
  return path_ops::open({lower_.get(), true}, dir.c_str(), O_PATH | O_DIRECTORY, parent);
}

int LowerTree::serve(const std::string&, const Digest&, UniqueFd, uint64_t, mode_t) {
  return ENOTSUP;  // there is no mount that could have names of its own
}

}  // namespace pcache::store
