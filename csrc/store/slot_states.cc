#include "slot_states.h"

namespace kvtier {

std::optional<std::uint64_t> SlotStates::TakeFree() {
  std::uint64_t slot;
  if (!free_.empty()) {
    slot = free_.back();
    free_.pop_back();
  } else if (fresh_ < allocated_) {
    slot = fresh_++;
  } else {
    return std::nullopt;
  }
  ++writing_;
  return slot;
}

void SlotStates::AbandonWrite(std::uint64_t slot) {
  --writing_;
  Free(slot);
}

void SlotStates::EndDoomedRead(std::uint64_t slot) {
  const auto doomed = doomed_.find(slot);
  if (--doomed->second > 0) return;
  doomed_.erase(doomed);
  Free(slot);
}

void SlotStates::Forget() {
  allocated_ = fresh_ = writing_ = 0;
  free_.clear();
  doomed_.clear();
}

}  // namespace kvtier
