#pragma once

#include <chrono>
#include <cstddef>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "lanes.h"
#include "opener.h"
#include "options.h"
#include "store_shared.h"

namespace kvtier {

// Brings the directories of a store in: each once it is open, and again after it was gone.
// Thread-safe after Begin.
class Openings {
 public:
  Openings(std::vector<DirectorySpec> directories, std::shared_ptr<StoreShared> shared,
           std::shared_ptr<Lanes> lanes);

  // Returns when all are open, or at the time limit for it without those that hang or fail: they
  // join later. Throws StoreError when somebody has to mend something, or none can be opened.
  void Begin();
  // Of a directory that is gone: its pages are forgotten, and it is waited for.
  void Again(std::size_t directory, std::shared_ptr<Lane> lane);
  // A sentence; empty when the directory is open.
  std::string WhyNotOpen(std::size_t directory) const;
  // No directory joins after it. One that hangs by `deadline` is left to end by itself.
  void Stop(std::chrono::steady_clock::time_point deadline);

 private:
  // Throws what keeps the store from being opened.
  void Require(std::chrono::steady_clock::time_point deadline) const;
  std::chrono::nanoseconds RetryAfter() const;
  Opener::Take JoinAs(std::size_t directory) const;

  const std::vector<DirectorySpec> directories_;
  const std::shared_ptr<StoreShared> shared_;
  const std::shared_ptr<Lanes> lanes_;
  mutable std::mutex mutex_;
  std::vector<std::unique_ptr<Opener>> openers_;  // guarded by mutex_ after Begin
};

}  // namespace kvtier
