// What works on one row (token) at a time: normalisation, activation, rotary
// embedding.
#pragma once

#include "batch.h"
#include "types.h"

namespace kvtier::kernels {

// RMSNorm as Hugging Face's Llama rounds it: in float32, cast to the dtype,
// times weight. With a residual: residual += x first (rounded to the dtype),
// and the sum is normalised. All of one dtype; out may be x. weight is [size].
struct RmsNormCall {
  Rows x;
  Rows residual;  // data null: none
  Rows out;
  const void* weight = nullptr;
  int rows = 0;
  int size = 0;
  float epsilon = 0;
};

void RmsNorm(const RmsNormCall& call);

// out = silu(gate) * up; for bfloat16 silu is rounded before the product, as
// torch does. All of one dtype; out may be gate or up.
struct SiluMulCall {
  Rows gate;
  Rows up;
  Rows out;
  int rows = 0;
  int size = 0;
};

void SiluMul(const SiluMulCall& call);

// Rotates queries in place and writes the rotated keys and the values of the
// batch's tokens to their pages. Rotation is by halves of the first rotary_dim
// elements of a head; for bfloat16 both products and their sum are rounded, as
// torch does. cos and sin are float32 tables [positions][rotary_dim / 2] whose
// rows are table_stride apart.
struct RopeWriteCall {
  const Batch* batch = nullptr;
  PagePool pool;
  Heads query;
  Heads key;
  Heads value;
  const float* cos = nullptr;
  const float* sin = nullptr;
  int rotary_dim = 0;
  int positions = 0;
  std::ptrdiff_t table_stride = 0;
};

// One of the batch's tokens: its row and where it is.
struct TokenPlace {
  int row = 0;
  int position = 0;
  int page = 0;
  int token = 0;  // in the page
};

void RopeWrite(const RopeWriteCall& call);

}  // namespace kvtier::kernels
