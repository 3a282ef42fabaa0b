#include "linear.h"

#include <algorithm>
#include <string>

#include "isa.h"
#include "thread_pool.h"

namespace kvtier::kernels {
namespace {

// Of packed x, what one task walks again and again: half of a common second
// level cache.
constexpr int kBlockBytes = 1 << 20;
constexpr int kBlockRowsMin = 112;

// The second of the two regimes: rows enough that packing them is worth a
// parallel pass.
constexpr int kParallelPackElements = 32768;

// Without rows nothing is read, and the addresses may be null (torch's empty
// tensors).
void Check(const LinearCall& call) {
  Require(call.rows >= 0, "linear: m is negative");
  if (call.rows == 0) return;
  Require(call.x.data != nullptr, "linear: the address of x is null");
  Require(call.out.data != nullptr, "linear: the address of out is null");
  Require(call.x.dtype == call.weight->dtype(), "linear: x does not have the weight's dtype");
  Require(call.rows <= 1 || call.x.stride >= call.weight->k(),
          "linear: the row stride of x, " + std::to_string(call.x.stride) + ", is less than k, " +
              std::to_string(call.weight->k()));
  Require(call.rows <= 1 || call.out.stride >= call.weight->n(),
          "linear: the row stride of out, " + std::to_string(call.out.stride) +
              ", is less than n, " + std::to_string(call.weight->n()));
}

void PackX(const LinearCall& call, const KernelTable& kernels, ThreadPool& pool) {
  const auto pack = [&](int tile) { kernels.linear_pack(call, tile); };
  if (call.rows * call.weight->k() >= kParallelPackElements) {
    pool.Run(call.tiles, pack);
    return;
  }
  for (int tile = 0; tile < call.tiles; ++tile) pack(tile);
}

// Every task covers one panel and as many tiles of rows as stay in the cache;
// panels vary fastest, so that threads at work share a block of rows and stream
// the weights once.
void Compute(const LinearCall& call, const KernelTable& kernels, ThreadPool& pool) {
  const int row_bytes = call.weight->steps() * static_cast<int>(sizeof(float));
  const int block_rows = std::max(kBlockRowsMin, kBlockBytes / row_bytes);
  const int block_tiles = std::max(1, block_rows / kernels.linear_tile_rows);
  const int blocks = (call.tiles + block_tiles - 1) / block_tiles;
  const int panels = call.weight->panels();
  pool.Run(blocks * panels, [&](int number) {
    LinearTask task;
    task.panel = number % panels;
    task.first_tile = number / panels * block_tiles;
    task.tiles = std::min(block_tiles, call.tiles - task.first_tile);
    kernels.linear_task(call, task);
  });
}

}  // namespace

void Linear(LinearCall call) {
  Check(call);
  if (call.rows == 0) return;
  static Workspace* packed = new Workspace;  // guarded by the pool's mutex; never destroyed
  ThreadPool& pool = ThreadPool::Get();
  const std::lock_guard lock(pool.mutex());
  const KernelTable& kernels = Kernels();
  call.tiles = (call.rows + kernels.linear_tile_rows - 1) / kernels.linear_tile_rows;
  call.packed_x = packed->Floats(static_cast<std::size_t>(call.rows) *
                                 static_cast<std::size_t>(call.weight->steps()));
  PackX(call, kernels, pool);
  Compute(call, kernels, pool);
}

}  // namespace kvtier::kernels
