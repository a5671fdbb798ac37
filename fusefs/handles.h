// Open files and directories, as the kernel's fh stands for them.
#pragma once

#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "fusefs/node_table.h"
#include "fusefs/served.h"
#include "store/unique_fd.h"

namespace pcache::fusefs {

// Whatever an fh points to. The kernel owns it from the reply to RELEASE, but when a mount goes
// away with files open (or with releases under way) no RELEASE comes: the list frees these.
struct OpenObject {
  virtual ~OpenObject() = default;
  OpenObject *previous = nullptr, *next = nullptr;
};

class OpenObjects {
 public:
  ~OpenObjects() {
    while (first_ != nullptr) remove(first_).reset();
  }
  // Gives the object to the kernel; the pointer is the fh.
  template <class T>
  T* add(std::unique_ptr<T> object) {
    std::lock_guard lock(mutex_);
    object->next = first_;
    if (first_ != nullptr) first_->previous = object.get();
    first_ = object.get();
    return object.release();
  }
  // Takes it back.
  template <class T>
  std::unique_ptr<T> remove(T* object) {
    std::lock_guard lock(mutex_);
    (object->previous != nullptr ? object->previous->next : first_) = object->next;
    if (object->next != nullptr) object->next->previous = object->previous;
    object->previous = object->next = nullptr;
    return std::unique_ptr<T>(object);
  }

 private:
  std::mutex mutex_;
  OpenObject* first_ = nullptr;
};

struct Handle : OpenObject {
  NodeRef node;
  // Of the lower file. Passthrough opens for reading leave it to the kernel and open one only when
  // something asks (under Node::io).
  UniqueFd fd;
  ServedRef served;  // reads come from a blob until it is published
  int flags = 0;
  bool write = false;
  bool passthrough = false;
  int unfinished = -1;  // slot in UnfinishedFiles
};

struct DirHandle : OpenObject {
  struct Item {
    std::string name;
    ino_t ino;
    unsigned char type;  // DT_*
    ServedRef served;
  };
  NodeRef node;
  UniqueFd fd;
  std::mutex mutex;
  // What was there at the first read, or the last rewind: an offset is an index, so seekdir is
  // exact and served names merge.
  std::vector<Item> items;
};

}  // namespace pcache::fusefs
