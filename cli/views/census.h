// Census: what a builder of caches and build systems asks of a workload, counted from the events of
// a watched command (cli/daemon/event_stream.h). Pure.
#pragma once

#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <unordered_map>
#include <vector>

#include "cli/text.h"
#include "cli/wire.h"

namespace pcache::cli {

class Census {
 public:
  void add(const Json& event);
  Json json() const;
  std::string table(const Painter& paint) const;

 private:
  struct Process {
    int64_t parent = 0;
    uint64_t execution = 0;  // of its last exec, or its parent's
    bool execs = false;
    uint64_t children_cpu_us = 0;
  };
  struct Execution {
    uint64_t parent = 0;
    size_t depth = 1;
    std::string program;
  };
  struct LookUps {
    uint64_t calls = 0, failed = 0;
  };
  struct Program {
    uint64_t executions = 0, cpu_us = 0;
  };

  void add_fork(const Json& event);
  void add_exec(const Json& event);
  void add_exit(const Json& event);
  void add_call(const Json& event);
  void add_open(const Json& event, const std::string& path, int64_t result);
  void read_by(uint64_t execution, const std::string& path);
  bool is_above(uint64_t ancestor, uint64_t execution) const;
  Process& process_of(const Json& event);

  std::unordered_map<int64_t, int64_t> process_of_thread_;
  std::unordered_map<int64_t, Process> processes_;
  std::unordered_map<uint64_t, Execution> executions_;
  uint64_t process_count_ = 0, without_exec_ = 0, threads_ = 0, failed_exits_ = 0;
  size_t depth_ = 0;
  std::map<std::string, LookUps> look_ups_;
  std::map<std::string, uint64_t> opens_, changes_, sockets_;
  std::map<std::string, Program> programs_;
  std::set<std::string> looked_at_, not_found_, opened_, listed_, created_;
  std::map<std::string, std::set<uint64_t>> writers_;
  std::set<std::string> read_by_parent_;
  uint64_t at_calls_ = 0, listings_ = 0, mapped_ = 0, connects_ = 0;
  uint64_t bytes_read_ = 0, bytes_written_ = 0, reads_ = 0, writes_ = 0;
};

}  // namespace pcache::cli
