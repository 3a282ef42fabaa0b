#include "segments.h"

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstdio>

#include "format.h"

namespace kvtier {

std::string SegmentName(std::uint64_t segment) {
  char name[40];
  std::snprintf(name, sizeof name, "%s%05llu", kSegmentPrefix,
                static_cast<unsigned long long>(segment));
  return name;
}

bool ParseSegmentName(const std::string& name, std::uint64_t& segment) {
  if (!name.starts_with(kSegmentPrefix)) return false;
  const char* begin = name.data() + sizeof kSegmentPrefix - 1;
  const char* end = name.data() + name.size();
  const auto [stop, error] = std::from_chars(begin, end, segment);
  return error == std::errc() && stop == end && SegmentName(segment) == name;
}

Segments::Segments(Device& device, SlotGeometry geometry, std::uint64_t slots_max)
    : device_(device),
      geometry_(geometry),
      slots_max_(slots_max),
      files_((slots_max + geometry.slots_per_segment - 1) / geometry.slots_per_segment),
      dirty_(files_.size()) {}

std::uint64_t Segments::SlotsIn(std::uint64_t segment) const {
  const std::uint64_t first = segment * geometry_.slots_per_segment;
  return std::min(geometry_.slots_per_segment, slots_max_ - first);
}

IoStatus Segments::OpenSegment(std::uint64_t segment, bool create) {
  return device_.Open(SegmentName(segment), Access::kDirect, create, files_[segment]);
}

IoStatus Segments::Open() {
  std::vector<std::string> names;
  if (const IoStatus status = device_.List(names); !status.ok()) return status;
  std::vector<std::uint64_t> found;
  for (const std::string& name : names) {
    std::uint64_t segment;
    if (ParseSegmentName(name, segment)) found.push_back(segment);
  }
  std::ranges::sort(found);
  if (const IoStatus status = RemoveBeyond(found); !status.ok()) return status;
  std::erase_if(found, [&](std::uint64_t segment) { return segment >= files_.size(); });
  for (std::uint64_t segment = 0; !found.empty() && segment <= found.back(); ++segment) {
    const IoStatus status = FitSegment(segment, segment == found.back());
    if (!status.ok()) return status;
  }
  return {};
}

IoStatus Segments::RemoveBeyond(const std::vector<std::uint64_t>& found) {
  for (const std::uint64_t segment : found) {
    if (segment < files_.size()) continue;
    if (const IoStatus status = device_.Remove(SegmentName(segment)); !status.ok()) return status;
  }
  return {};
}

// Brings a segment to its length: a smaller capacity cuts it, and one that lost its tail (or its
// file) gets it back, zeroed, which reads as a miss. Only the last may be partly allocated.
IoStatus Segments::FitSegment(std::uint64_t segment, bool is_last) {
  if (const IoStatus status = OpenSegment(segment, true); !status.ok()) return status;
  File& file = *files_[segment];
  const std::uint64_t bytes_max = SlotsIn(segment) * geometry_.slot_bytes;
  std::uint64_t bytes = file.SizeBytes();
  if (bytes > bytes_max) {
    if (const IoStatus status = file.Truncate(bytes_max); !status.ok()) return status;
    bytes = bytes_max;
  }
  if (!is_last && bytes < bytes_max) {
    if (const IoStatus status = file.Grow(bytes_max); !status.ok()) return status;
    bytes = bytes_max;
  }
  slots_allocated_ += bytes / geometry_.slot_bytes;
  return {};
}

IoStatus Segments::Grow(std::uint64_t count) {
  const std::uint64_t first = slots_allocated_.load();
  if (first >= slots_max_) return IoStatus(ENOSPC);
  const std::uint64_t segment = SegmentOf(first);
  const std::uint64_t within = first % geometry_.slots_per_segment;
  const std::uint64_t target = std::min(SlotsIn(segment), within + count);
  if (!files_[segment]) {
    if (const IoStatus status = OpenSegment(segment, true); !status.ok()) return status;
    if (const IoStatus status = device_.SyncNames(); !status.ok()) return status;
  }
  const IoStatus status = files_[segment]->Grow(target * geometry_.slot_bytes);
  if (status.ok()) slots_allocated_ = first + target - within;
  return status;
}

IoStatus Segments::Read(std::uint64_t slot, std::span<iovec> pieces, const Progress& arrived) {
  return files_[SegmentOf(slot)]->ReadInParts(pieces, OffsetOf(slot), arrived);
}

IoStatus Segments::Write(std::uint64_t slot, std::span<iovec> pieces, const Progress& prepare) {
  const std::uint64_t segment = SegmentOf(slot);
  const IoStatus status = files_[segment]->WriteInParts(pieces, OffsetOf(slot), prepare);
  dirty_[segment].store(true);
  return status;
}

IoStatus Segments::Sync() {
  for (std::uint64_t segment = 0; segment < files_.size(); ++segment) {
    if (!dirty_[segment].exchange(false)) continue;
    if (const IoStatus status = files_[segment]->Sync(); !status.ok()) {
      dirty_[segment].store(true);
      return status;
    }
  }
  return {};
}

}  // namespace kvtier
