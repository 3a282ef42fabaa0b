#include "slot_io.h"

#include <algorithm>
#include <cstring>
#include <new>

#include "align.h"

namespace kvtier {
namespace {

bool IsAlignedAddress(const std::byte* address) {
  return IsAligned(reinterpret_cast<std::uintptr_t>(address));
}

// True if a transfer can go straight to the pieces: all begin on a block, and all but the last are
// whole blocks.
bool CanGoStraight(std::span<const Piece> pieces) {
  for (std::size_t i = 0; i < pieces.size(); ++i) {
    if (!IsAlignedAddress(pieces[i].data)) return false;
    if (i + 1 < pieces.size() && !IsAligned(pieces[i].bytes)) return false;
  }
  return true;
}

std::optional<Corruption> CompareHeaders(const SlotHeader& found, const SlotHeader& wanted) {
  switch (Check(found)) {
    case Wholeness::kForeign:
    case Wholeness::kDamaged:
      return Corruption::kHeader;
    case Wholeness::kOtherVersion:
      return Corruption::kVersion;
    case Wholeness::kWhole:
      break;
  }
  if (found.name_space != wanted.name_space) return Corruption::kNamespace;
  if (found.uuid != wanted.uuid) return Corruption::kForeign;
  if (found.key != wanted.key) return Corruption::kKey;
  if (found.sequence != wanted.sequence) return Corruption::kSequence;
  if (found.payload_bytes != wanted.payload_bytes) return Corruption::kLength;
  return std::nullopt;
}

}  // namespace

const char* CorruptionName(Corruption cause) {
  static constexpr const char* kNames[kCorruptions] = {"short",    "header",    "version",
                                                       "foreign",  "namespace", "key",
                                                       "sequence", "length",    "checksum"};
  return kNames[static_cast<std::size_t>(cause)];
}

std::span<std::byte> BlockBuffer::Get(std::size_t bytes) {
  if (bytes > bytes_) {
    const std::size_t rounded = RoundUp(bytes, kBlockBytes);
    void* memory = std::aligned_alloc(kBlockBytes, rounded);
    if (memory == nullptr) throw std::bad_alloc();
    memory_.reset(static_cast<std::byte*>(memory));
    bytes_ = rounded;
  }
  return {memory_.get(), bytes};
}

void SlotIo::Arrange(std::span<const Piece> pieces, std::uint64_t payload_bytes) {
  transfer_.clear();
  transfer_.push_back({header_block_.Get(kBlockBytes).data(), kBlockBytes});
  shadow_.begin = 0;
  if (CanGoStraight(pieces)) {
    for (const Piece& piece : pieces) transfer_.push_back({piece.data, piece.bytes});
    const std::uint64_t odd = payload_bytes % kBlockBytes;
    transfer_.back().iov_len -= odd;
    shadow_.begin = payload_bytes - odd;
  }
  shadow_.memory = shadow_blocks_.Get(RoundUp(payload_bytes - shadow_.begin, kBlockBytes));
  if (shadow_.memory.empty()) return;
  transfer_.push_back({shadow_.memory.data(), shadow_.memory.size()});
}

IoStatus SlotIo::Write(std::uint64_t slot, SlotHeader header, std::span<const Piece> pieces) {
  Arrange(pieces, header.payload_bytes);
  const auto padding = shadow_.memory.subspan(header.payload_bytes - shadow_.begin);
  std::ranges::fill(padding, std::byte{0});
  PayloadWalk walk(PayloadWalk::Direction::kOut, pieces, shadow_);
  return segments_.Write(slot, transfer_, [&](std::uint64_t bytes) {
    walk.AdvanceTo(std::min(bytes - kBlockBytes, header.payload_bytes));
    if (walk.bytes() < header.payload_bytes) return;
    header.uuid = uuid_;
    header.payload_checksum = walk.checksum();
    Seal(header);
    const auto block = header_block_.Get(kBlockBytes);
    std::ranges::fill(block, std::byte{0});
    std::memcpy(block.data(), &header, sizeof header);
  });
}

ReadOutcome SlotIo::Read(std::uint64_t slot, const SlotHeader& wanted,
                         std::span<const Piece> pieces) {
  Arrange(pieces, wanted.payload_bytes);
  PayloadWalk walk(PayloadWalk::Direction::kIn, pieces, shadow_);
  const IoStatus io = segments_.Read(slot, transfer_, [&](std::uint64_t bytes) {
    walk.AdvanceTo(std::min(bytes - kBlockBytes, wanted.payload_bytes));
  });
  if (io.IsShort()) return {io, Corruption::kShort};
  if (!io.ok()) return {io, std::nullopt};
  SlotHeader found;
  std::memcpy(&found, header_block_.Get(kBlockBytes).data(), sizeof found);
  SlotHeader expected = wanted;
  expected.uuid = uuid_;
  if (const auto difference = CompareHeaders(found, expected)) return {io, difference};
  if (walk.checksum() != found.payload_checksum) return {io, Corruption::kChecksum};
  return {io, std::nullopt};
}

}  // namespace kvtier
