#include "copy_pages.h"

#include <algorithm>
#include <cstring>

#include "thread_pool.h"

namespace kvtier::kernels {
namespace {

// Small enough that threads end together, large enough that memcpy streams.
constexpr std::size_t kPieceBytes = std::size_t{1} << 20;

}  // namespace

void CopyPages(const PageRows& to, const PageRows& from, std::size_t bytes,
               std::span<const std::pair<int, int>> pairs) {
  if (pairs.empty() || bytes == 0) return;
  const std::size_t pieces = (bytes + kPieceBytes - 1) / kPieceBytes;
  const std::size_t piece_bytes = (bytes + pieces - 1) / pieces;
  ThreadPool& pool = ThreadPool::Get();
  const std::lock_guard lock(pool.mutex());
  pool.Run(static_cast<int>(pairs.size() * pieces), [&](int task) {
    const auto& [target, source] = pairs[static_cast<std::size_t>(task) / pieces];
    const std::size_t at = static_cast<std::size_t>(task) % pieces * piece_bytes;
    if (at >= bytes) return;
    std::memcpy(to.data + target * to.stride + at, from.data + source * from.stride + at,
                std::min(piece_bytes, bytes - at));
  });
}

}  // namespace kvtier::kernels
