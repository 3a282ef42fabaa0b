#pragma once

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <mutex>
#include <vector>

#include "readiness.h"
#include "status.h"

namespace kvtier {

struct Completion {
  std::uint64_t ticket;
  Status status;
};

// Ended requests, until somebody fetches them. Thread-safe; each is fetched once.
class Completions {
 public:
  void Push(std::uint64_t ticket, Status status);

  // Up to `limit` of them, oldest first; does not wait.
  std::vector<Completion> Poll(std::size_t limit);
  // Waits until there is one, or for `timeout`.
  std::vector<Completion> Wait(std::chrono::nanoseconds timeout, std::size_t limit);

  // Readable exactly while completions are waiting.
  int event_fd() const { return readiness_.fd(); }

 private:
  std::vector<Completion> TakeLocked(std::size_t limit);

  std::mutex mutex_;
  std::condition_variable arrived_;
  std::deque<Completion> ended_;  // guarded by mutex_
  Readiness readiness_;           // guarded by mutex_
};

}  // namespace kvtier
