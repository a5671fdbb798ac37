// SessionTable: the traced commands of this daemon. Thread-safe.
#pragma once

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
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
  bool empty();
  // Refuses new ones and ends those that are there: SIGTERM, so that they clear away what they have
  // not finished, and after `patience` SIGKILL.
  void stop(std::chrono::milliseconds patience);
  bool stopped();

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
};

}  // namespace pcache::cli
