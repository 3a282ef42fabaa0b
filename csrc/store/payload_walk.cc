#include "payload_walk.h"

#include <algorithm>
#include <cstring>

#include "crc32c.h"

namespace kvtier {

void PayloadWalk::Copy(std::byte* piece, std::size_t bytes) const {
  std::byte* shadow = shadow_.memory.data() + (at_ - shadow_.begin);
  if (direction_ == Direction::kIn) {
    std::memcpy(piece, shadow, bytes);
  } else {
    std::memcpy(shadow, piece, bytes);
  }
}

void PayloadWalk::AdvanceTo(std::uint64_t end) {
  while (at_ < end) {
    const Piece& piece = pieces_.front();
    std::uint64_t bytes = std::min<std::uint64_t>(piece.bytes - within_, end - at_);
    std::byte* data = piece.data + within_;
    if (at_ < shadow_.begin) {
      bytes = std::min(bytes, shadow_.begin - at_);
    } else {
      Copy(data, bytes);
    }
    checksum_ = Crc32c({data, bytes}, checksum_);
    at_ += bytes;
    within_ += bytes;
    if (within_ < piece.bytes) continue;
    pieces_ = pieces_.subspan(1);
    within_ = 0;
  }
}

}  // namespace kvtier
