// A vector of 4 floats in the compilers' own vector extension: SSE2, NEON or
// plain code, whatever the target has. Included by isa_portable.cc inside its
// namespace.

struct Simd {
  using Float = float __attribute__((vector_size(16)));
  using Int = std::int32_t __attribute__((vector_size(16)));
  using Uint = std::uint32_t __attribute__((vector_size(16)));
  static constexpr int kWidth = 4;
  static constexpr bool kHasPairDot = false;
  static constexpr int kLinearRows = 4;  // x kLinearVectors sums, of 16 registers
  static constexpr int kLinearVectors = 2;
  static constexpr int kAttentionRows = 4;
  static constexpr int kAttentionVectors = 2;

  template <typename To, typename From>
  static KVTIER_INLINE To Bits(From from) {
    static_assert(sizeof(To) == sizeof(From));
    To to;
    __builtin_memcpy(&to, &from, sizeof(to));
    return to;
  }

  static KVTIER_INLINE Float Zero() { return Float{}; }
  static KVTIER_INLINE Float Set(float value) { return Float{value, value, value, value}; }
  static KVTIER_INLINE Float Load(const float* from) {
    Float value;
    __builtin_memcpy(&value, from, sizeof(value));
    return value;
  }
  static KVTIER_INLINE void Store(float* to, Float value) {
    __builtin_memcpy(to, &value, sizeof(value));
  }

  static KVTIER_INLINE Float LoadBfloat(const std::uint16_t* from) {
    const Uint bits = {from[0], from[1], from[2], from[3]};
    return Bits<Float>(bits << 16);
  }
  // To nearest, ties to even; a NaN stays one.
  static KVTIER_INLINE void StoreBfloat(std::uint16_t* to, Float value) {
    const Uint bits = Bits<Uint>(value);
    const Uint rounded = (bits + ((bits >> 16 & 1u) + 0x7fffu)) >> 16;
    const Uint nan = Bits<Uint>(value != value);
    const Uint safe = (rounded & ~nan) | (nan & 0x7fc0u);
    for (int i = 0; i < kWidth; ++i) to[i] = static_cast<std::uint16_t>(safe[i]);
  }
  // The elements of even (first in memory) and odd place of 4 bfloat16 pairs.
  static KVTIER_INLINE void SplitPairs(Float pairs, Float& even, Float& odd) {
    const Uint bits = Bits<Uint>(pairs);
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
    even = Bits<Float>(bits << 16);
    odd = Bits<Float>(bits & 0xffff0000u);
#else
    even = Bits<Float>(bits & 0xffff0000u);
    odd = Bits<Float>(bits << 16);
#endif
  }
  // a0 b0 a1 b1 in low, and the second halves in high.
  static KVTIER_INLINE void Interleave(Float a, Float b, Float& low, Float& high) {
    low = __builtin_shufflevector(a, b, 0, 4, 1, 5);
    high = __builtin_shufflevector(a, b, 2, 6, 3, 7);
  }
  // Stores the first `count` elements.
  static KVTIER_INLINE void StoreFirst(float* to, int count, Float value) {
    for (int i = 0; i < count; ++i) to[i] = value[i];
  }

  static KVTIER_INLINE Float Add(Float a, Float b) { return a + b; }
  static KVTIER_INLINE Float Sub(Float a, Float b) { return a - b; }
  static KVTIER_INLINE Float Mul(Float a, Float b) { return a * b; }
  static KVTIER_INLINE Float Div(Float a, Float b) { return a / b; }
  static KVTIER_INLINE Float Max(Float a, Float b) { return SelectLess(b, a, a, b); }
  static KVTIER_INLINE Float Min(Float a, Float b) { return SelectLess(a, b, a, b); }
  // a * b + c; rounded twice, alike everywhere (this file is built without
  // contraction).
  static KVTIER_INLINE Float Fma(Float a, Float b, Float c) { return a * b + c; }
  // To the nearest whole number for |a| < 2^22: adding 1.5 * 2^23 leaves no
  // fraction bits.
  static KVTIER_INLINE Float Round(Float a) {
    const Float magic = Set(12582912.0f);
    return (a + magic) - magic;
  }
  // a * 2^n for whole n in [-126, 127].
  static KVTIER_INLINE Float Scale(Float a, Float n) {
    const Int exponent = __builtin_convertvector(n, Int) + 127;
    return a * Bits<Float>(exponent << 23);
  }
  // a < b ? yes : no, in each place.
  static KVTIER_INLINE Float SelectLess(Float a, Float b, Float yes, Float no) {
    const Uint mask = Bits<Uint>(a < b);
    return Bits<Float>((Bits<Uint>(yes) & mask) | (Bits<Uint>(no) & ~mask));
  }
  static KVTIER_INLINE Float Iota() { return Float{0, 1, 2, 3}; }
};
