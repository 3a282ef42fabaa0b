#pragma once

#include <atomic>
#include <cstddef>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "mapping.h"

namespace kvtier {

// Populates a mapping from background threads, front to back. Stops at the first failure and
// keeps it. The destructor stops the threads (within one chunk's time) and joins them.
class Prefault {
 public:
  Prefault(std::shared_ptr<SharedMapping> mapping, int threads);
  ~Prefault();

  std::size_t populated_bytes() const { return populated_bytes_.load(); }

  // The sentence that says why it stopped early, if it did.
  std::optional<std::string> error() const;

 private:
  void Run();

  std::shared_ptr<SharedMapping> mapping_;
  std::size_t chunk_bytes_;
  std::atomic<std::size_t> next_{0};
  std::atomic<std::size_t> populated_bytes_{0};
  std::atomic<bool> stop_{false};
  mutable std::mutex mutex_;
  std::optional<std::string> error_;  // guarded by mutex_
  std::vector<std::thread> threads_;
};

}  // namespace kvtier
