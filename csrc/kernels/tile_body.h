// The multiply-accumulate tile under linear layers and attention alike.
// Included by isa_*.cc inside their namespaces, after math_body.h.

// An operand that is walked step by step: `stride` elements from one step to
// the next.
template <typename T>
struct Operand {
  const T* data;
  std::ptrdiff_t stride;
};

// Steps to fetch ahead of the sums. The processor's own prefetching does not
// keep up with an operand in the second level cache: without these a tile of
// linear ran at 2/3 of its speed.
inline constexpr int kFetchAheadA = 16;
inline constexpr int kFetchAheadB = 8;

template <int kRows, int kVectors>
struct Tile {
  Float sum[kRows][kVectors];

  KVTIER_INLINE void Clear() {
#pragma GCC unroll 16
    for (int row = 0; row < kRows; ++row) {
#pragma GCC unroll 4
      for (int v = 0; v < kVectors; ++v) sum[row][v] = Simd::Zero();
    }
  }
  KVTIER_INLINE void Load(const float* from, std::ptrdiff_t stride) {
#pragma GCC unroll 16
    for (int row = 0; row < kRows; ++row) {
#pragma GCC unroll 4
      for (int v = 0; v < kVectors; ++v) {
        sum[row][v] = Simd::Load(from + row * stride + v * kWidth);
      }
    }
  }
  KVTIER_INLINE void Store(float* to, std::ptrdiff_t stride) const {
#pragma GCC unroll 16
    for (int row = 0; row < kRows; ++row) {
#pragma GCC unroll 4
      for (int v = 0; v < kVectors; ++v) Simd::Store(to + row * stride + v * kWidth, sum[row][v]);
    }
  }
  // Multiplies column c of the tile with factor[c].
  KVTIER_INLINE void ScaleColumns(const float* factor) {
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) {
      const Float by = Simd::Load(factor + v * kWidth);
#pragma GCC unroll 16
      for (int row = 0; row < kRows; ++row) sum[row][v] = Simd::Mul(sum[row][v], by);
    }
  }

  // sum[row][column] += a[step][row] * b[step][column], for one step after the
  // other: each sum is one chain of fused multiply-adds in the order of the
  // steps, whatever the tile's size. That is what makes every result
  // independent of how rows were put into tiles.
  KVTIER_INLINE void Accumulate(int steps, Operand<float> a, Operand<float> b) {
    for (int step = 0; step < steps; ++step) {
      Float column[kVectors];
#pragma GCC unroll 4
      for (int v = 0; v < kVectors; ++v) column[v] = Simd::Load(b.data + v * kWidth);
      __builtin_prefetch(a.data + kFetchAheadA * a.stride);
      Prefetch<kVectors * kWidth * sizeof(float)>(b.data + kFetchAheadB * b.stride);
      AddProducts(a.data, column);
      a.data += a.stride;
      b.data += b.stride;
    }
  }
  // The same with b in bfloat16, two steps in each pair of elements.
  KVTIER_INLINE void Accumulate(int pairs, Operand<float> a, Operand<std::uint16_t> b) {
    for (int pair = 0; pair < pairs; ++pair) {
      Float even[kVectors];
      Float odd[kVectors];
#pragma GCC unroll 4
      for (int v = 0; v < kVectors; ++v) {
        Simd::SplitPairs(LoadRawPairs(b.data + v * 2 * kWidth), even[v], odd[v]);
      }
      __builtin_prefetch(a.data + kFetchAheadA * a.stride);
      __builtin_prefetch(a.data + (kFetchAheadA + 1) * a.stride);
      Prefetch<2 * kVectors * kWidth * sizeof(std::uint16_t)>(b.data + kFetchAheadB * b.stride);
      AddProducts(a.data, even);
      AddProducts(a.data + a.stride, odd);
      a.data += 2 * a.stride;
      b.data += b.stride;
    }
  }
  // The same with both in bfloat16, by the dot product of pairs: one chain in
  // the order of the pairs. a has two steps of a row in each element. A
  // template, as not every Simd can.
  template <typename Vectors = Simd>
  KVTIER_INLINE void Accumulate(int pairs, Operand<std::uint32_t> a, Operand<std::uint16_t> b) {
    for (int pair = 0; pair < pairs; ++pair) {
      __builtin_prefetch(a.data + kFetchAheadA * a.stride);
      Prefetch<2 * kVectors * kWidth * sizeof(std::uint16_t)>(b.data + kFetchAheadB * b.stride);
#pragma GCC unroll 16
      for (int row = 0; row < kRows; ++row) {
#pragma GCC unroll 4
        for (int v = 0; v < kVectors; ++v) {
          sum[row][v] = Vectors::AddPairDot(sum[row][v], a.data[row], b.data + v * 2 * kWidth);
        }
      }
      a.data += a.stride;
      b.data += b.stride;
    }
  }

 private:
  template <int kBytes>
  static KVTIER_INLINE void Prefetch(const void* from) {
#pragma GCC unroll 4
    for (int i = 0; i < kBytes; i += 64) __builtin_prefetch(static_cast<const char*>(from) + i);
  }
  KVTIER_INLINE void AddProducts(const float* a, const Float (&column)[kVectors]) {
#pragma GCC unroll 16
    for (int row = 0; row < kRows; ++row) {
      const Float factor = Simd::Set(a[row]);
#pragma GCC unroll 4
      for (int v = 0; v < kVectors; ++v) {
        sum[row][v] = Simd::Fma(factor, column[v], sum[row][v]);
      }
    }
  }
};
