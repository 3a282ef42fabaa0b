#include "slot_source.h"

namespace kvtier {
namespace {

// How long a disk that had no room for more slots is left alone.
constexpr auto kGrowPause = std::chrono::seconds(1);

}  // namespace

std::optional<std::uint64_t> SlotSource::Take() {
  if (const auto slot = catalog_.TakeFree(self_)) return slot;
  if (const auto slot = Grow()) return slot;
  return catalog_.TakeVictim(self_);
}

std::optional<std::uint64_t> SlotSource::Replace(std::uint64_t slot) {
  catalog_.ReturnFree(self_, slot);
  return catalog_.TakeVictim(self_);
}

// Failing to grow is no error: the store recycles the slots that it has.
std::optional<std::uint64_t> SlotSource::Grow() {
  const std::lock_guard lock(grow_mutex_);
  if (const auto slot = catalog_.TakeFree(self_)) return slot;  // another thread grew it
  Segments& segments = volume_.segments();
  if (segments.slots_allocated() == segments.slots_max()) return std::nullopt;
  const Clock::time_point now = Clock::now();
  if (now < grow_again_) return std::nullopt;
  // What fails midway may have added some.
  if (!volume_.Grow(reserve_bytes_).ok()) grow_again_ = now + kGrowPause;
  catalog_.SetAllocated(self_, segments.slots_allocated());
  return catalog_.TakeFree(self_);
}

}  // namespace kvtier
