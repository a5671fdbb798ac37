// Lru: a map that forgets what was used least lately once the weights of its entries exceed a
// bound. Not thread-safe: its owner locks.
#pragma once

#include <cstddef>
#include <list>
#include <unordered_map>
#include <utility>

namespace pcache::store {

template <class Key, class Value, class Hash>
class Lru {
 public:
  explicit Lru(size_t max_weight) : max_weight_(max_weight) {}

  // The pointer is valid until the next call.
  Value* find(const Key& key) {
    const auto it = index_.find(key);
    if (it == index_.end()) return nullptr;
    entries_.splice(entries_.begin(), entries_, it->second);
    return &it->second->value;
  }

  void insert(const Key& key, Value value, size_t weight = 1) {
    erase(key);
    entries_.push_front({key, std::move(value), weight});
    index_[key] = entries_.begin();
    weight_ += weight;
    while (weight_ > max_weight_ && entries_.size() > 1) {
      const Key last = entries_.back().key;
      erase(last);
    }
  }

  void erase(const Key& key) {
    const auto it = index_.find(key);
    if (it == index_.end()) return;
    weight_ -= it->second->weight;
    entries_.erase(it->second);
    index_.erase(it);
  }

  void clear() {
    entries_.clear();
    index_.clear();
    weight_ = 0;
  }

  size_t size() const { return index_.size(); }

 private:
  struct Entry {
    Key key;
    Value value;
    size_t weight;
  };
  size_t max_weight_;
  size_t weight_ = 0;
  std::list<Entry> entries_;
  std::unordered_map<Key, typename std::list<Entry>::iterator, Hash> index_;
};

}  // namespace pcache::store
