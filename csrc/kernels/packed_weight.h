// A linear layer's weight in the order in which the kernels read it.
#pragma once

#include <cstddef>
#include <cstdint>

#include "memory.h"
#include "types.h"

namespace kvtier::kernels {

// Output features that lie side by side in a panel.
inline constexpr int kPanel = 32;

// A copy of a row-major [n, k] weight (torch's Linear layout) as panels of
// kPanel output features, the last one padded with zeros: [panel][k][kPanel]
// for float32 and [panel][k/2][kPanel][2] for bfloat16, k rounded up to even.
// The same bytes serve every instruction set. Never changes after construction;
// safe to share between threads.
class PackedWeight {
 public:
  // Copies `weight`, of n rows. Throws std::invalid_argument for n or k < 1.
  PackedWeight(const Rows& weight, int n, int k);

  int n() const { return n_; }
  int k() const { return k_; }
  Dtype dtype() const { return dtype_; }
  int panels() const { return (n_ + kPanel - 1) / kPanel; }
  // k as packed: even for bfloat16.
  int steps() const { return steps_; }
  std::size_t bytes() const { return static_cast<std::size_t>(panels()) * panel_bytes(); }

  const float* FloatPanel(int panel) const {
    return reinterpret_cast<const float*>(data_.get() + panel * panel_bytes());
  }
  const std::uint16_t* BfloatPanel(int panel) const {
    return reinterpret_cast<const std::uint16_t*>(data_.get() + panel * panel_bytes());
  }

 private:
  std::size_t panel_bytes() const {
    return static_cast<std::size_t>(steps_) * kPanel * ElementBytes(dtype_);
  }
  void PackFloat(const Rows& weight);
  void PackBfloat(const Rows& weight);

  int n_;
  int k_;
  Dtype dtype_;
  int steps_;
  AlignedBytes data_;
};

}  // namespace kvtier::kernels
