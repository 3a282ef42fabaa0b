#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "device.h"

namespace kvtier {

struct SlotGeometry {
  std::uint64_t slot_bytes = 0;
  std::uint64_t slots_per_segment = 0;
};

// The files that a directory's slots lie in. Slots are numbered through all segments from 0,
// preallocated in that order and recycled, never given back but by a smaller capacity. Reads and
// writes are thread-safe; Open and Grow are for one thread at a time.
class Segments {
 public:
  // For at most `slots_max` slots.
  Segments(Device& device, SlotGeometry geometry, std::uint64_t slots_max);

  // Opens what is there and cuts off what lies beyond `slots_max`.
  IoStatus Open();

  // Preallocates up to `count` more slots, as far as the segment that they begin in goes.
  IoStatus Grow(std::uint64_t count);

  std::uint64_t slots_allocated() const { return slots_allocated_.load(); }
  std::uint64_t slots_max() const { return slots_max_; }
  std::uint64_t slot_bytes() const { return geometry_.slot_bytes; }

  // One whole slot, or its beginning; see File::ReadInParts and File::WriteInParts.
  IoStatus Read(std::uint64_t slot, std::span<iovec> pieces, const Progress& arrived);
  IoStatus Write(std::uint64_t slot, std::span<iovec> pieces, const Progress& prepare);

  // Everything that Write had ended before the call survives power loss. After a failure that
  // cannot be known of what was written since the last success.
  IoStatus Sync();

 private:
  std::uint64_t SegmentOf(std::uint64_t slot) const { return slot / geometry_.slots_per_segment; }
  std::uint64_t OffsetOf(std::uint64_t slot) const {
    return slot % geometry_.slots_per_segment * geometry_.slot_bytes;
  }
  std::uint64_t SlotsIn(std::uint64_t segment) const;
  IoStatus OpenSegment(std::uint64_t segment, bool create);
  IoStatus FitSegment(std::uint64_t segment, bool is_last);
  IoStatus RemoveBeyond(const std::vector<std::uint64_t>& found);

  Device& device_;
  const SlotGeometry geometry_;
  const std::uint64_t slots_max_;
  std::vector<std::unique_ptr<File>> files_;
  std::vector<std::atomic<bool>> dirty_;
  std::atomic<std::uint64_t> slots_allocated_{0};
};

// "segment-00012" for 12.
std::string SegmentName(std::uint64_t segment);

// The number in a segment's name; false for any other name.
bool ParseSegmentName(const std::string& name, std::uint64_t& segment);

}  // namespace kvtier
