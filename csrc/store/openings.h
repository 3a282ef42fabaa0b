#pragma once

#include <cstddef>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "clock.h"
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
  // join later. Throws StoreError when somebody has to mend something, or none can be opened; then
  // all are let go of, but one that hangs.
  void Begin();
  // Of a directory that is gone: its pages are forgotten, and it is waited for.
  void Again(std::size_t directory, std::shared_ptr<Lane> lane);
  // Of one without a lane.
  std::string WhyNotOpen(std::size_t directory) const;
  // No directory joins after it. One that hangs by `deadline` is left to end by itself.
  void Stop(Clock::time_point deadline);
  // After Stop: whether the directory is still being worked on.
  bool IsAtWork(std::size_t directory) const;

 private:
  std::unique_ptr<Opener> FirstOpener(std::size_t directory) const;
  std::unique_ptr<Opener> OpenerFor(std::size_t directory, Opener::Open open,
                                    const std::string& why) const;
  // Throws what keeps the store from being opened.
  void Require(Clock::time_point deadline) const;

  const std::vector<DirectorySpec> directories_;
  const std::shared_ptr<StoreShared> shared_;
  const std::shared_ptr<Lanes> lanes_;
  mutable std::mutex mutex_;
  std::vector<std::unique_ptr<Opener>> openers_;  // guarded by mutex_ after Begin
};

}  // namespace kvtier
