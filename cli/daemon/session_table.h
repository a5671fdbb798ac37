// SessionTable: the traced commands of this daemon. Thread-safe.
#pragma once

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <shared_mutex>
#include <string>
#include <vector>

#include "tracer/session.h"

namespace pcache::cli {

class SessionTable {
 public:
  struct Listed {
    pid_t pid = 0;
    std::string root;
    std::vector<std::string> command;
    double wall_s = 0;
    std::string status;
  };

  struct Live {
    Listed session;
    tracer::LiveReport report;
  };

  // The session must be removed before it is destroyed. False once stop() was called.
  bool add(tracer::Session* session, pid_t pid, std::string root, std::vector<std::string> command);
  void remove(tracer::Session* session);
  std::vector<Listed> list();
  std::vector<Live> live();
  // Waits for it, as the end of a command is seen before that of its session.
  bool becomes_empty(std::chrono::milliseconds patience);
  // Refuses new ones and ends those that are there: SIGTERM, so that they clear away what they have
  // not finished, and after `patience` SIGKILL.
  void stop(std::chrono::milliseconds patience);
  bool stopped();
  // Whether one of them has this thread. Waits for nothing that a session does.
  bool is_traced(pid_t tid);

 private:
  struct Entry {
    pid_t pid;
    std::string root;
    std::vector<std::string> command;
    std::chrono::steady_clock::time_point start;
  };
  std::mutex mutex_;
  std::condition_variable removed_;
  std::map<tracer::Session*, Entry> entries_;
  bool stopped_ = false;
  std::shared_mutex traced_lock_;  // a leaf: guards what follows
  std::vector<tracer::Session*> traced_;
};

}  // namespace pcache::cli
