#pragma once

#include <cstddef>
#include <memory>
#include <mutex>
#include <utility>
#include <vector>

#include "lane.h"

namespace kvtier {

// The lanes of a store by directory; none for one that is not open. Thread-safe.
class Lanes {
 public:
  explicit Lanes(std::size_t directories) : lanes_(directories) {}

  std::shared_ptr<Lane> At(std::size_t directory) const {
    const std::lock_guard lock(mutex_);
    return lanes_[directory];
  }

  std::vector<std::shared_ptr<Lane>> All() const {
    const std::lock_guard lock(mutex_);
    return lanes_;
  }

  // Not once they have been taken.
  void Add(std::size_t directory, std::shared_ptr<Lane> lane) {
    const std::lock_guard lock(mutex_);
    if (!taken_) lanes_[directory] = std::move(lane);
  }

  std::shared_ptr<Lane> Take(std::size_t directory) {
    const std::lock_guard lock(mutex_);
    return std::exchange(lanes_[directory], nullptr);
  }

  std::vector<std::shared_ptr<Lane>> TakeAll() {
    const std::lock_guard lock(mutex_);
    taken_ = true;
    return std::exchange(lanes_, std::vector<std::shared_ptr<Lane>>(lanes_.size()));
  }

  // In a forked child, where the lock may be held by a thread that is not there.
  const std::vector<std::shared_ptr<Lane>>& InChild() const { return lanes_; }

 private:
  mutable std::mutex mutex_;  // guards the rest
  std::vector<std::shared_ptr<Lane>> lanes_;
  bool taken_ = false;
};

}  // namespace kvtier
