// Pages between two places in memory, by the kernels' threads.
#pragma once

#include <cstddef>
#include <span>
#include <utility>

namespace kvtier::kernels {

// Rows of `bytes` bytes, `stride` bytes apart.
struct PageRows {
  std::byte* data = nullptr;
  std::ptrdiff_t stride = 0;
};

// Copies row `second` of `from` to row `first` of `to`, for every pair. No row
// of `to` may be in two pairs, and the two memories may not overlap.
void CopyPages(const PageRows& to, const PageRows& from, std::size_t bytes,
               std::span<const std::pair<int, int>> pairs);

}  // namespace kvtier::kernels
