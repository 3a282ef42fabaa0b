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
// preallocated in that order and recycled, and given back only by a smaller capacity: then those
// that are kept are numbered anew, and where they lie on disk stays. Reads and writes are
// thread-safe; the rest is for one thread at a time.
class Segments {
 public:
  // For at most `slots_max` slots.
  Segments(Device& device, SlotGeometry geometry, std::uint64_t slots_max);

  // Opens what is there. That may be more than `slots_max` slots, and some of them may have no
  // room on disk (a capacity that was smaller for a while): KeepOnly then.
  IoStatus Open();
  bool HasHoles() const;

  // Whether any slots can be kept, and not the first ones only.
  bool CanKeepAny();
  // Gives back all slots but these, which are in order and at most `slots_max`.
  IoStatus KeepOnly(std::vector<std::uint32_t> slots);

  // Preallocates up to `count` more slots: in holes first, then as far as the segment that they
  // begin in goes.
  IoStatus Grow(std::uint64_t count);

  std::uint64_t slots_allocated() const { return slots_allocated_.load(); }
  std::uint64_t slots_max() const { return slots_max_; }
  std::uint64_t slot_bytes() const { return geometry_.slot_bytes; }

  // Where a slot lies on disk, as a number without gaps; the same until KeepOnly.
  std::uint64_t PlaceOf(std::uint64_t slot) const { return places_.empty() ? slot : places_[slot]; }

  // One whole slot, or its beginning; see File::ReadInParts and File::WriteInParts.
  IoStatus Read(std::uint64_t slot, std::span<iovec> pieces, const Progress& arrived);
  IoStatus Write(std::uint64_t slot, std::span<iovec> pieces, const Progress& prepare);

  // Everything that Write had ended before the call survives power loss. After a failure that
  // cannot be known of what was written since the last success.
  IoStatus Sync();

 private:
  std::uint64_t SegmentOf(std::uint64_t place) const { return place / geometry_.slots_per_segment; }
  std::uint64_t OffsetOf(std::uint64_t place) const {
    return place % geometry_.slots_per_segment * geometry_.slot_bytes;
  }
  std::uint64_t AllocatedBytes() const;
  IoStatus OpenSegment(std::uint64_t segment, bool create);
  IoStatus FitSegment(std::uint64_t segment, bool is_last);
  IoStatus RemoveFrom(std::uint64_t segment, const std::vector<std::uint64_t>& found);
  IoStatus CutAfter(std::uint64_t places);
  IoStatus PunchPlaces(std::uint64_t begin, std::uint64_t end);
  IoStatus GrowIntoHoles(std::uint64_t count);
  IoStatus GrowAtEnd(std::uint64_t count);

  Device& device_;
  const SlotGeometry geometry_;
  const std::uint64_t slots_max_;
  std::vector<std::unique_ptr<File>> files_;
  std::vector<std::atomic<bool>> dirty_;
  // Of each slot; empty: slot i lies at place i. Entries are set before their slots are allocated.
  std::vector<std::uint32_t> places_;
  std::vector<std::uint32_t> holes_;  // places without room on disk, the lowest last
  std::uint64_t end_ = 0;             // of the places that the files go up to
  std::atomic<std::uint64_t> slots_allocated_{0};
};

// "segment-00012" for 12.
std::string SegmentName(std::uint64_t segment);

// The number in a segment's name; false for any other name.
bool ParseSegmentName(const std::string& name, std::uint64_t& segment);

}  // namespace kvtier
