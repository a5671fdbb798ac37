// Open files and directories, as the kernel's fh stands for them.
#pragma once

#include <mutex>
#include <string>
#include <vector>

#include "fusefs/node_table.h"
#include "fusefs/served.h"
#include "store/unique_fd.h"

namespace pcache::fusefs {

struct Handle {
  NodeRef node;
  // Of the lower file. Passthrough opens for reading leave it to the kernel and open one only when
  // something asks (under Node::io).
  UniqueFd fd;
  ServedRef served;  // reads come from a blob until it is published
  int flags = 0;
  bool write = false;
  bool passthrough = false;
};

struct DirHandle {
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
