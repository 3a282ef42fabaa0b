// Small mathematics on vectors, the same operations for every element wherever
// it lies. Included by isa_*.cc inside their namespaces, after simd_*.h.

using Float = Simd::Float;
inline constexpr int kWidth = Simd::kWidth;

// 2^x for x <= 127, 0 for x < -126; relative error 1.5e-7. Exactly 1 at 0.
KVTIER_INLINE Float Exp2(Float x) {
  const Float lowest = Simd::Set(-126.0f);
  const Float clamped = Simd::Max(x, lowest);
  const Float whole = Simd::Round(clamped);
  const Float part = Simd::Sub(clamped, whole);
  // 2^part on [-1/2, 1/2]: minimax in relative error, the constant term held
  // at 1.
  Float power = Simd::Set(0.00132647268f);
  power = Simd::Fma(power, part, Simd::Set(0.00967151299f));
  power = Simd::Fma(power, part, Simd::Set(0.0555073358f));
  power = Simd::Fma(power, part, Simd::Set(0.240222424f));
  power = Simd::Fma(power, part, Simd::Set(0.693146944f));
  power = Simd::Fma(power, part, Simd::Set(1.0f));
  return Simd::SelectLess(x, lowest, Simd::Zero(), Simd::Scale(power, whole));
}

// e^x for x <= 88, 0 below -87.3.
KVTIER_INLINE Float Exp(Float x) {
  // x * log2(e) as a whole number and a rest, the rest from x in two steps: one
  // product would lose the low bits of a large x.
  const Float whole = Simd::Round(Simd::Mul(x, Simd::Set(1.44269502f)));
  const Float clamped = Simd::Max(Simd::Min(whole, Simd::Set(127.0f)), Simd::Set(-126.0f));
  Float rest = Simd::Fma(clamped, Simd::Set(-0.693145752f), x);
  rest = Simd::Fma(clamped, Simd::Set(-1.42860677e-06f), rest);
  const Float scaled = Simd::Mul(rest, Simd::Set(1.44269502f));
  Float power = Simd::Set(0.000153533619f);
  power = Simd::Fma(power, scaled, Simd::Set(0.00133988739f));
  power = Simd::Fma(power, scaled, Simd::Set(0.00961843785f));
  power = Simd::Fma(power, scaled, Simd::Set(0.0555033247f));
  power = Simd::Fma(power, scaled, Simd::Set(0.240226477f));
  power = Simd::Fma(power, scaled, Simd::Set(0.693147182f));
  power = Simd::Fma(power, scaled, Simd::Set(1.0f));
  const Float value = Simd::Scale(power, clamped);
  return Simd::SelectLess(x, Simd::Set(-87.3f), Simd::Zero(), value);
}

// The sum of a vector's elements: halves added until one is left. Attention's
// two kernels rely on this order.
KVTIER_INLINE float Sum(Float vector) {
  float lane[kWidth];
  Simd::Store(lane, vector);
  for (int half = kWidth / 2; half > 0; half /= 2) {
    for (int i = 0; i < half; ++i) lane[i] += lane[i + half];
  }
  return lane[0];
}

KVTIER_INLINE float Largest(Float vector) {
  float lane[kWidth];
  Simd::Store(lane, vector);
  for (int i = 1; i < kWidth; ++i) lane[0] = lane[i] > lane[0] ? lane[i] : lane[0];
  return lane[0];
}

// Element j of vectors[i] becomes element i of vectors[j]. Moves bits only.
KVTIER_INLINE void Transpose(Float (&vectors)[kWidth]) {
#pragma GCC unroll 4
  for (int step = 1; step < kWidth; step *= 2) {
    Float shuffled[kWidth];
#pragma GCC unroll 8
    for (int i = 0; i < kWidth / 2; ++i) {
      Simd::Interleave(vectors[i], vectors[i + kWidth / 2], shuffled[2 * i], shuffled[2 * i + 1]);
    }
#pragma GCC unroll 16
    for (int i = 0; i < kWidth; ++i) vectors[i] = shuffled[i];
  }
}

// kWidth pairs of bfloat16 as they are.
KVTIER_INLINE Float LoadRawPairs(const std::uint16_t* from) {
  Float pairs;
  __builtin_memcpy(&pairs, from, sizeof(pairs));
  return pairs;
}

KVTIER_INLINE float FromBfloat(std::uint16_t value) {
  const std::uint32_t bits = static_cast<std::uint32_t>(value) << 16;
  float result;
  __builtin_memcpy(&result, &bits, sizeof(result));
  return result;
}

// To nearest, ties to even; a NaN stays one.
KVTIER_INLINE std::uint16_t ToBfloat(float value) {
  std::uint32_t bits;
  __builtin_memcpy(&bits, &value, sizeof(bits));
  if (value != value) return 0x7fc0;
  return static_cast<std::uint16_t>((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

KVTIER_INLINE float RoundToBfloat(float value) { return FromBfloat(ToBfloat(value)); }
