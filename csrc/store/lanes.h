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
  explicit Lanes(std::size_t directories)
      : lanes_(directories), lost_(directories), left_(directories) {}

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
    if (taken_) return;
    lanes_[directory] = std::move(lane);
    lost_[directory] = false;
  }

  // Of a directory that is gone; from now on it is among those lost.
  std::shared_ptr<Lane> TakeLost(std::size_t directory) {
    const std::lock_guard lock(mutex_);
    auto lane = std::exchange(lanes_[directory], nullptr);
    if (lane) {
      lost_[directory] = true;
      left_[directory] = lane->lifetime();
    }
    return lane;
  }

  // One that does not stop is no longer waited for.
  void Leave(std::size_t directory, const Lane& lane) {
    const std::lock_guard lock(mutex_);
    left_[directory] = lane.lifetime();
  }
  // Whether a lane that was lost or left is still there.
  bool HasLeft(std::size_t directory) const {
    const std::lock_guard lock(mutex_);
    return !left_[directory].expired();
  }

  std::vector<std::size_t> Lost() const {
    const std::lock_guard lock(mutex_);
    std::vector<std::size_t> lost;
    for (std::size_t i = 0; i < lost_.size(); ++i) {
      if (lost_[i]) lost.push_back(i);
    }
    return lost;
  }

  std::vector<std::shared_ptr<Lane>> TakeAll() {
    const std::lock_guard lock(mutex_);
    taken_ = true;
    return std::exchange(lanes_, std::vector<std::shared_ptr<Lane>>(lanes_.size()));
  }

 private:
  mutable std::mutex mutex_;  // guards the rest
  std::vector<std::shared_ptr<Lane>> lanes_;
  std::vector<bool> lost_;                       // gone, and not back
  std::vector<std::weak_ptr<const void>> left_;  // lifetimes
  bool taken_ = false;
};

}  // namespace kvtier
