#pragma once

#include <cstdint>
#include <mutex>
#include <optional>

#include "catalog.h"
#include "clock.h"
#include "volume.h"

namespace kvtier {

// Where the slots for new pages of one directory come from: free ones, else added ones, else those
// of pages evicted for it. Thread-safe.
class SlotSource {
 public:
  SlotSource(Catalog& catalog, std::size_t directory, Volume& volume, std::uint64_t reserve_bytes)
      : catalog_(catalog), self_(directory), volume_(volume), reserve_bytes_(reserve_bytes) {}

  // Nothing when no page may go.
  std::optional<std::uint64_t> Take();
  // In the place of `slot`, for which the disk has no room, one of a page that has its blocks.
  std::optional<std::uint64_t> Replace(std::uint64_t slot);

 private:
  std::optional<std::uint64_t> Grow();

  Catalog& catalog_;
  const std::size_t self_;
  Volume& volume_;
  const std::uint64_t reserve_bytes_;
  std::mutex grow_mutex_;
  Clock::time_point grow_again_{};  // guarded by grow_mutex_
};

}  // namespace kvtier
