// A map of bounded size that forgets what was used least recently. Not thread-safe.
#pragma once

#include <cstddef>
#include <iterator>
#include <list>
#include <utility>

#include "absl/container/flat_hash_map.h"

namespace holdfast {

template <class Key, class Value>
class LruCache {
 public:
  explicit LruCache(size_t capacity) : capacity_(capacity) {}

  // Null when it is not there. The pointer is good until the next Insert.
  Value* Find(const Key& key) {
    auto it = index_.find(key);
    if (it == index_.end()) return nullptr;
    order_.splice(order_.begin(), order_, it->second);
    return &it->second->second;
  }

  void Insert(const Key& key, Value value) {
    if (Value* old = Find(key)) {
      *old = std::move(value);
      return;
    }
    if (order_.size() == capacity_) {
      index_.erase(order_.back().first);
      order_.pop_back();
    }
    order_.emplace_front(key, std::move(value));
    index_.emplace(key, order_.begin());
  }

 private:
  using Order = std::list<std::pair<Key, Value>>;
  const size_t capacity_;
  Order order_;  // The most recently used first.
  absl::flat_hash_map<Key, typename Order::iterator> index_;
};

}  // namespace holdfast
