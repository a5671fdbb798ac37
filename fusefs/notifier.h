// Notifier: tells the kernel what FUSE handlers and the worker may not tell it themselves, because
// a notification can wait for an answer that they owe. One thread; no lock held while it sends.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <mutex>
#include <string>
#include <thread>

namespace pcache::fusefs {

class Notifier {
 public:
  // Name: drop `name` in `node`; otherwise the attributes of `node`.
  struct Note {
    uint64_t node;
    std::string name;
  };
  explicit Notifier(std::function<void(const Note&)> send);
  ~Notifier() { stop(); }
  void post(Note note);
  void stop();  // what is queued is forgotten; the kernel's answers may be needed for it to return

 private:
  const std::function<void(const Note&)> send_;
  std::mutex mutex_;
  std::condition_variable posted_;
  std::deque<Note> notes_;
  bool stop_ = false;
  std::thread thread_;
};

}  // namespace pcache::fusefs
