#include "fusefs/notifier.h"

#include <signal.h>

namespace pcache::fusefs {

Notifier::Notifier(std::function<void(const Note&)> send) : send_(std::move(send)) {
  thread_ = std::thread([this] {
    sigset_t all;
    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, nullptr);
    std::unique_lock lock(mutex_);
    while (true) {
      posted_.wait(lock, [this] { return stop_ || !notes_.empty(); });
      if (stop_) return;
      const Note note = std::move(notes_.front());
      notes_.pop_front();
      lock.unlock();
      send_(note);
      lock.lock();
    }
  });
}

void Notifier::post(Note note) {
  std::lock_guard lock(mutex_);
  notes_.push_back(std::move(note));
  posted_.notify_one();
}

void Notifier::stop() {
  {
    std::lock_guard lock(mutex_);
    if (stop_) return;
    stop_ = true;
  }
  posted_.notify_one();
  thread_.join();
}

}  // namespace pcache::fusefs
