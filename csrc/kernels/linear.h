// Linear layers: out = x * weight^T + bias.
#pragma once

#include "packed_weight.h"
#include "types.h"

namespace kvtier::kernels {

// One call. x is [rows, k] of the weight's dtype; out is [rows, n] of its own;
// bias is [n] of the weight's dtype, or null. The ranges of x and out must not
// overlap.
struct LinearCall {
  const PackedWeight* weight = nullptr;
  Rows x;
  int rows = 0;
  Rows out;
  const void* bias = nullptr;

  // Set by Linear: x as the kernels read it, and how its rows are put into
  // tiles.
  float* packed_x = nullptr;
  int tiles = 0;

  int TileRows(int tile) const { return rows / tiles + (tile < rows % tiles ? 1 : 0); }
  int TileFirstRow(int tile) const {
    const int wide = rows % tiles;
    return tile * (rows / tiles) + (tile < wide ? tile : wide);
  }
};

// The part of a call that one task computes: some tiles of rows against one
// panel.
struct LinearTask {
  int first_tile = 0;
  int tiles = 0;
  int panel = 0;
};

// Sums in float32, for each output over k in ascending order whatever the
// number of rows and threads, so a row's result does not depend on the rows
// beside it. Throws std::invalid_argument for a call that is not as LinearCall
// says.
void Linear(LinearCall call);

}  // namespace kvtier::kernels
