#include "completions.h"

#include <algorithm>

namespace kvtier {

void Completions::Push(std::uint64_t ticket, Status status) {
  {
    const std::lock_guard lock(mutex_);
    ended_.push_back({ticket, status});
    readiness_.Set();
  }
  arrived_.notify_one();
}

std::vector<Completion> Completions::TakeLocked(std::size_t limit) {
  const std::size_t count = std::min(limit, ended_.size());
  const auto end = ended_.begin() + static_cast<std::ptrdiff_t>(count);
  std::vector<Completion> taken(ended_.begin(), end);
  ended_.erase(ended_.begin(), end);
  if (ended_.empty()) readiness_.Clear();
  return taken;
}

std::vector<Completion> Completions::Poll(std::size_t limit) {
  const std::lock_guard lock(mutex_);
  return TakeLocked(limit);
}

std::vector<Completion> Completions::Wait(std::chrono::nanoseconds timeout, std::size_t limit) {
  std::unique_lock lock(mutex_);
  arrived_.wait_for(lock, timeout, [this] { return !ended_.empty(); });
  return TakeLocked(limit);
}

}  // namespace kvtier
