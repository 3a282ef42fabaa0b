#include "segments.h"

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstdio>

#include "format.h"

namespace kvtier {
namespace {

// What is opened to be looked at, however small the capacity: a name is no reason for descriptors
// without end.
constexpr std::uint64_t kSegmentsMax = 1024;

}  // namespace

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
  const std::uint64_t most = std::max<std::uint64_t>(files_.size(), kSegmentsMax);
  if (const IoStatus status = RemoveFrom(most, found); !status.ok()) return status;
  std::erase_if(found, [&](std::uint64_t segment) { return segment >= most; });
  if (found.empty()) return {};
  if (found.back() >= files_.size()) {
    files_.resize(found.back() + 1);
    dirty_ = std::vector<std::atomic<bool>>(files_.size());
  }
  for (std::uint64_t segment = 0; segment <= found.back(); ++segment) {
    const IoStatus status = FitSegment(segment, segment == found.back());
    if (!status.ok()) return status;
  }
  end_ = slots_allocated_;
  return {};
}

std::uint64_t Segments::AllocatedBytes() const {
  std::uint64_t bytes = 0;
  for (const std::unique_ptr<File>& file : files_) bytes += file ? file->AllocatedBytes() : 0;
  return bytes;
}

bool Segments::HasHoles() const {
  return AllocatedBytes() < slots_allocated_ * geometry_.slot_bytes;
}

IoStatus Segments::RemoveFrom(std::uint64_t first, const std::vector<std::uint64_t>& found) {
  for (const std::uint64_t segment : found) {
    if (segment < first) continue;
    if (const IoStatus status = device_.Remove(SegmentName(segment)); !status.ok()) return status;
  }
  return {};
}

// Brings a segment to its length: one that lost its tail (or its file) gets it back, without
// blocks, which reads as a miss. Only the last may be partly allocated.
IoStatus Segments::FitSegment(std::uint64_t segment, bool is_last) {
  if (const IoStatus status = OpenSegment(segment, true); !status.ok()) return status;
  File& file = *files_[segment];
  const std::uint64_t bytes_max = geometry_.slots_per_segment * geometry_.slot_bytes;
  std::uint64_t bytes = file.SizeBytes();
  if (bytes > bytes_max || (!is_last && bytes < bytes_max)) {
    if (const IoStatus status = file.Truncate(bytes_max); !status.ok()) return status;
    bytes = bytes_max;
  }
  slots_allocated_ += bytes / geometry_.slot_bytes;
  return {};
}

bool Segments::CanKeepAny() {
  if (files_.empty() || !files_.front()) return false;
  File& file = *files_.front();
  return file.Punch(file.SizeBytes(), geometry_.slot_bytes).ok();
}

IoStatus Segments::KeepOnly(std::vector<std::uint32_t> slots) {
  end_ = slots.empty() ? 0 : std::uint64_t{slots.back()} + 1;
  if (const IoStatus status = CutAfter(end_); !status.ok()) return status;
  std::uint64_t next = 0;
  for (const std::uint32_t place : slots) {
    const IoStatus status = PunchPlaces(next, place);
    if (!status.ok()) return status;
    for (; next < place; ++next) holes_.push_back(static_cast<std::uint32_t>(next));
    ++next;
  }
  std::ranges::reverse(holes_);
  slots_allocated_ = slots.size();
  if (holes_.empty()) return {};
  places_ = std::move(slots);
  places_.resize(slots_max_);
  return {};
}

IoStatus Segments::CutAfter(std::uint64_t places) {
  for (std::uint64_t segment = SegmentOf(places); segment < files_.size(); ++segment) {
    if (!files_[segment]) continue;
    const std::uint64_t bytes = segment == SegmentOf(places) ? OffsetOf(places) : 0;
    IoStatus status;
    if (bytes == 0) {
      files_[segment].reset();
      status = device_.Remove(SegmentName(segment));
    } else if (files_[segment]->SizeBytes() > bytes) {
      status = files_[segment]->Truncate(bytes);
    }
    if (!status.ok()) return status;
  }
  return {};
}

// Of places [begin, end).
IoStatus Segments::PunchPlaces(std::uint64_t begin, std::uint64_t end) {
  while (begin < end) {
    const std::uint64_t segment = SegmentOf(begin);
    const std::uint64_t stop = std::min(end, (segment + 1) * geometry_.slots_per_segment);
    const IoStatus status =
        files_[segment]->Punch(OffsetOf(begin), (stop - begin) * geometry_.slot_bytes);
    if (!status.ok()) return status;
    begin = stop;
  }
  return {};
}

IoStatus Segments::Grow(std::uint64_t count) {
  count = std::min(count, slots_max_ - std::min(slots_max_, slots_allocated_.load()));
  if (count == 0) return IoStatus(ENOSPC);
  return holes_.empty() ? GrowAtEnd(count) : GrowIntoHoles(count);
}

IoStatus Segments::GrowIntoHoles(std::uint64_t count) {
  for (; count > 0 && !holes_.empty(); --count) {
    const std::uint32_t place = holes_.back();
    const IoStatus status =
        files_[SegmentOf(place)]->Allocate(OffsetOf(place), geometry_.slot_bytes);
    if (!status.ok()) return status;
    holes_.pop_back();
    places_[slots_allocated_] = place;
    ++slots_allocated_;
  }
  return {};
}

IoStatus Segments::GrowAtEnd(std::uint64_t count) {
  const std::uint64_t segment = SegmentOf(end_);
  const std::uint64_t within = end_ % geometry_.slots_per_segment;
  count = std::min(count, geometry_.slots_per_segment - within);
  if (!files_[segment]) {
    if (const IoStatus status = OpenSegment(segment, true); !status.ok()) return status;
    if (const IoStatus status = device_.SyncNames(); !status.ok()) return status;
  }
  const IoStatus status = files_[segment]->Grow((within + count) * geometry_.slot_bytes);
  if (!status.ok()) return status;
  for (std::uint64_t i = 0; i < count && !places_.empty(); ++i) {
    places_[slots_allocated_ + i] = static_cast<std::uint32_t>(end_ + i);
  }
  end_ += count;
  slots_allocated_ += count;
  return status;
}

IoStatus Segments::Read(std::uint64_t slot, std::span<iovec> pieces, const Progress& arrived) {
  const std::uint64_t place = PlaceOf(slot);
  return files_[SegmentOf(place)]->ReadInParts(pieces, OffsetOf(place), arrived);
}

IoStatus Segments::Write(std::uint64_t slot, std::span<iovec> pieces, const Progress& prepare) {
  const std::uint64_t place = PlaceOf(slot);
  const std::uint64_t segment = SegmentOf(place);
  const IoStatus status = files_[segment]->WriteInParts(pieces, OffsetOf(place), prepare);
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
