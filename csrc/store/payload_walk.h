#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "arena.h"

namespace kvtier {

// The part of a payload that does not move between disk and caller's memory directly, as direct
// I/O cannot take its addresses or lengths: the bytes from `begin` on, in memory of our own.
struct Shadow {
  std::uint64_t begin = 0;
  std::span<std::byte> memory;
};

// Follows a payload, piece by piece, as it arrives from the disk or gets ready to leave: checksums
// it, and copies what has a shadow.
class PayloadWalk {
 public:
  enum class Direction { kIn, kOut };

  PayloadWalk(Direction direction, std::span<const Piece> pieces, const Shadow& shadow)
      : direction_(direction), pieces_(pieces), shadow_(shadow) {}

  // Goes on to byte `end` of the payload.
  void AdvanceTo(std::uint64_t end);

  std::uint64_t bytes() const { return at_; }
  // CRC-32C of the bytes so far.
  std::uint32_t checksum() const { return checksum_; }

 private:
  void Copy(std::byte* piece, std::size_t bytes) const;

  const Direction direction_;
  std::span<const Piece> pieces_;  // the first is the one at work
  const Shadow shadow_;
  std::uint64_t within_ = 0;  // that piece
  std::uint64_t at_ = 0;
  std::uint32_t checksum_ = 0;
};

}  // namespace kvtier
