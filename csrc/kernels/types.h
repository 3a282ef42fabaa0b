// Plain values that the kernels share. Addresses, lengths and strides only: no
// tensors.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <stdexcept>
#include <string>

namespace kvtier::kernels {

enum class Dtype { kFloat32, kBfloat16 };

constexpr std::size_t ElementBytes(Dtype dtype) { return dtype == Dtype::kFloat32 ? 4 : 2; }

// Rows of elements in the caller's memory: `stride` elements from one row to
// the next.
struct Rows {
  void* data = nullptr;
  std::ptrdiff_t stride = 0;
  Dtype dtype = Dtype::kFloat32;

  const float* Float(std::ptrdiff_t row) const {
    return static_cast<const float*>(data) + row * stride;
  }
  float* Float(std::ptrdiff_t row) { return static_cast<float*>(data) + row * stride; }
  const std::uint16_t* Bfloat(std::ptrdiff_t row) const {
    return static_cast<const std::uint16_t*>(data) + row * stride;
  }
  std::uint16_t* Bfloat(std::ptrdiff_t row) {
    return static_cast<std::uint16_t*>(data) + row * stride;
  }
};

// Tokens of several heads: element (token, head, i) is at token * token_stride
// + head * head_stride + i.
struct Heads {
  void* data = nullptr;
  std::ptrdiff_t token_stride = 0;
  std::ptrdiff_t head_stride = 0;
  int heads = 0;
};

// One layer of the page pool (L1). K (which = 0) or V (which = 1) of a token in
// a page is at page * page_stride + kv_head * head_stride + which * kv_stride +
// token * token_stride.
struct PagePool {
  void* data = nullptr;
  Dtype dtype = Dtype::kFloat32;
  int pages = 0;
  int kv_heads = 0;
  int page_tokens = 0;
  int head_dim = 0;
  std::ptrdiff_t page_stride = 0;
  std::ptrdiff_t head_stride = 0;
  std::ptrdiff_t kv_stride = 0;
  std::ptrdiff_t token_stride = 0;

  std::ptrdiff_t Offset(int page, int kv_head, int which, int token) const {
    return page * page_stride + kv_head * head_stride + which * kv_stride + token * token_stride;
  }
};

inline constexpr int kHeadDimMin = 32;
inline constexpr int kHeadDimMax = 256;
inline constexpr int kHeadDimStep = 16;

// Throws std::invalid_argument (ValueError in Python) with `message` unless
// `holds`.
inline void Require(bool holds, const std::string& message) {
  if (!holds) throw std::invalid_argument(message);
}

}  // namespace kvtier::kernels
