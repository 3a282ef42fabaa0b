// What each instruction set's source provides: the tasks that the drivers
// (linear.cc, attention.cc, rowwise.cc) hand to the threads.
#pragma once

#include "attention.h"
#include "linear.h"
#include "rowwise.h"

namespace kvtier::kernels {

struct KernelTable {
  int linear_tile_rows;  // most rows in a tile
  // Writes one tile's rows of x to call.packed_x as [k][rows of the tile].
  void (*linear_pack)(const LinearCall& call, int tile);
  void (*linear_task)(const LinearCall& call, const LinearTask& task);

  void (*attention_many)(const AttentionCall& call, const AttentionTask& task);
  void (*attention_one)(const AttentionCall& call, const AttentionTask& task);
  void (*attention_merge)(const AttentionCall& call, const AttentionTask& task);

  void (*rms_norm_row)(const RmsNormCall& call, int row);
  void (*silu_mul_row)(const SiluMulCall& call, int row);
  void (*rope_write_token)(const RopeWriteCall& call, const TokenPlace& place);
};

extern const KernelTable kPortableKernels;
extern const KernelTable kAvx2Kernels;
extern const KernelTable kAvx512Kernels;
extern const KernelTable kAvx512Bf16Kernels;

}  // namespace kvtier::kernels
