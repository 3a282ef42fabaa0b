#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <unordered_map>
#include <vector>

namespace kvtier {

// The slots of one directory that hold no page. Together with the pages they are all there are: a
// slot is in one of five states: not allocated; free; being written (nothing knows of it but its
// writer); holding a page; doomed (its page was dropped while readers were at it: free when the
// last of them ends). Not thread-safe.
class SlotStates {
 public:
  explicit SlotStates(std::uint64_t slots_max) : max_(slots_max) {}

  std::uint64_t allocated() const { return allocated_; }
  void SetAllocated(std::uint64_t slots) { allocated_ = slots < max_ ? slots : max_; }
  // Whether a page can come in without another one going.
  bool HasRoom() const { return !free_.empty() || fresh_ < max_; }

  // Of the allocated ones, those that `holds(slot)` says no to are free.
  template <typename Holds>
  void Recount(const Holds& holds) {
    free_.clear();
    fresh_ = allocated_;
    for (std::uint64_t slot = allocated_; slot-- > 0;) {
      if (holds(slot)) continue;
      if (slot + 1 == fresh_) {
        fresh_ = slot;
      } else {
        Free(slot);
      }
    }
  }

  // A free slot, from now on being written.
  std::optional<std::uint64_t> TakeFree();
  void Free(std::uint64_t slot) { free_.push_back(static_cast<std::uint32_t>(slot)); }
  // One that held a page is being written.
  void BeginWrite() { ++writing_; }
  // It holds a page.
  void EndWrite() { --writing_; }
  // It does not.
  void AbandonWrite(std::uint64_t slot);

  // Its page was dropped; `readers`, of which there are some, are at it.
  void Doom(std::uint64_t slot, std::uint32_t readers) { doomed_.emplace(slot, readers); }
  bool IsDoomed(std::uint64_t slot) const { return doomed_.contains(slot); }
  // One of the readers of a doomed slot has ended.
  void EndDoomedRead(std::uint64_t slot);

  // None is allocated any more.
  void Forget();

  // Allocated slots that hold no page.
  std::uint64_t CountWithoutPage() const {
    return free_.size() + (allocated_ - fresh_) + doomed_.size() + writing_;
  }

 private:
  const std::uint64_t max_;
  std::uint64_t allocated_ = 0;
  std::uint64_t fresh_ = 0;  // allocated ones beyond this were never used
  std::uint64_t writing_ = 0;
  std::vector<std::uint32_t> free_;
  std::unordered_map<std::uint64_t, std::uint32_t> doomed_;  // readers left
};

}  // namespace kvtier
