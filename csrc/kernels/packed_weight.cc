#include "packed_weight.h"

#include <algorithm>
#include <string>

namespace kvtier::kernels {

PackedWeight::PackedWeight(const Rows& weight, int n, int k)
    : n_(n), k_(k), dtype_(weight.dtype), steps_(k + (dtype_ == Dtype::kBfloat16 ? k % 2 : 0)) {
  Require(weight.data != nullptr, "the weight's address is null");
  Require(n >= 1 && k >= 1,
          "a weight is at least 1 x 1, not " + std::to_string(n) + " x " + std::to_string(k));
  Require(weight.stride >= k, "the weight's row stride " + std::to_string(weight.stride) +
                                  " is less than its " + std::to_string(k) + " columns");
  data_ = AllocateAligned(bytes());
  if (dtype_ == Dtype::kFloat32) {
    PackFloat(weight);
  } else {
    PackBfloat(weight);
  }
}

void PackedWeight::PackFloat(const Rows& weight) {
  auto* to = reinterpret_cast<float*>(data_.get());
  for (int first = 0; first < n_; first += kPanel) {
    for (int step = 0; step < steps_; ++step) {
      for (int column = 0; column < kPanel; ++column) {
        const int row = first + column;
        *to++ = row < n_ ? weight.Float(row)[step] : 0.0f;
      }
    }
  }
}

void PackedWeight::PackBfloat(const Rows& weight) {
  auto* to = reinterpret_cast<std::uint16_t*>(data_.get());
  for (int first = 0; first < n_; first += kPanel) {
    for (int step = 0; step < steps_; step += 2) {
      for (int column = 0; column < kPanel; ++column) {
        const int row = first + column;
        *to++ = row < n_ ? weight.Bfloat(row)[step] : 0;
        *to++ = row < n_ && step + 1 < k_ ? weight.Bfloat(row)[step + 1] : 0;
      }
    }
  }
}

}  // namespace kvtier::kernels
