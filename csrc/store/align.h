#pragma once

#include <cstddef>
#include <cstdint>

namespace kvtier {

// What direct I/O wants of every address, offset and length, on every disk there is.
inline constexpr std::size_t kBlockBytes = 4096;

constexpr std::uint64_t RoundUp(std::uint64_t value, std::uint64_t multiple) {
  return (value + multiple - 1) / multiple * multiple;
}

constexpr bool IsAligned(std::uint64_t value) { return value % kBlockBytes == 0; }

}  // namespace kvtier
