// The vector of AVX2 and FMA: 8 floats. Included by isa_avx2.cc inside its
// namespace.

struct Simd {
  using Float = __m256;
  static constexpr int kWidth = 8;
  static constexpr bool kHasPairDot = false;
  static constexpr int kLinearRows = 6;  // x kLinearVectors sums, of 16 registers
  static constexpr int kLinearVectors = 2;
  static constexpr int kAttentionRows = 4;
  static constexpr int kAttentionVectors = 3;

  static KVTIER_INLINE Float Zero() { return _mm256_setzero_ps(); }
  static KVTIER_INLINE Float Set(float value) { return _mm256_set1_ps(value); }
  static KVTIER_INLINE Float Load(const float* from) { return _mm256_loadu_ps(from); }
  static KVTIER_INLINE void Store(float* to, Float value) { _mm256_storeu_ps(to, value); }

  static KVTIER_INLINE Float LoadBfloat(const std::uint16_t* from) {
    const __m128i half = _mm_loadu_si128(reinterpret_cast<const __m128i*>(from));
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(half), 16));
  }
  // To nearest, ties to even; a NaN stays one.
  static KVTIER_INLINE void StoreBfloat(std::uint16_t* to, Float value) {
    const __m256i bits = _mm256_castps_si256(value);
    const __m256i odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
    const __m256i bias = _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff));
    const __m256i rounded = _mm256_srli_epi32(_mm256_add_epi32(bits, bias), 16);
    const __m256i nan = _mm256_castps_si256(_mm256_cmp_ps(value, value, _CMP_UNORD_Q));
    const __m256i safe = _mm256_blendv_epi8(rounded, _mm256_set1_epi32(0x7fc0), nan);
    const __m128i low = _mm256_castsi256_si128(safe);
    const __m128i high = _mm256_extracti128_si256(safe, 1);
    _mm_storeu_si128(reinterpret_cast<__m128i*>(to), _mm_packus_epi32(low, high));
  }
  // The elements of even (low half) and odd (high half) place of 8 bfloat16
  // pairs.
  static KVTIER_INLINE void SplitPairs(Float pairs, Float& even, Float& odd) {
    const __m256i bits = _mm256_castps_si256(pairs);
    even = _mm256_castsi256_ps(_mm256_slli_epi32(bits, 16));
    odd = _mm256_castsi256_ps(_mm256_and_si256(bits, _mm256_set1_epi32(-65536)));
  }
  // a0 b0 a1 b1 ... in low, and the second halves in high.
  static KVTIER_INLINE void Interleave(Float a, Float b, Float& low, Float& high) {
    const Float even = _mm256_unpacklo_ps(a, b);
    const Float odd = _mm256_unpackhi_ps(a, b);
    low = _mm256_permute2f128_ps(even, odd, 0x20);
    high = _mm256_permute2f128_ps(even, odd, 0x31);
  }
  // Stores the first `count` elements.
  static KVTIER_INLINE void StoreFirst(float* to, int count, Float value) {
    const __m256i place = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    _mm256_maskstore_ps(to, _mm256_cmpgt_epi32(_mm256_set1_epi32(count), place), value);
  }

  static KVTIER_INLINE Float Add(Float a, Float b) { return _mm256_add_ps(a, b); }
  static KVTIER_INLINE Float Sub(Float a, Float b) { return _mm256_sub_ps(a, b); }
  static KVTIER_INLINE Float Mul(Float a, Float b) { return _mm256_mul_ps(a, b); }
  static KVTIER_INLINE Float Div(Float a, Float b) { return _mm256_div_ps(a, b); }
  static KVTIER_INLINE Float Max(Float a, Float b) { return _mm256_max_ps(a, b); }
  static KVTIER_INLINE Float Min(Float a, Float b) { return _mm256_min_ps(a, b); }
  // a * b + c, rounded once.
  static KVTIER_INLINE Float Fma(Float a, Float b, Float c) { return _mm256_fmadd_ps(a, b, c); }
  static KVTIER_INLINE Float Round(Float a) {
    return _mm256_round_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
  }
  // a * 2^n for whole n in [-126, 127].
  static KVTIER_INLINE Float Scale(Float a, Float n) {
    const __m256i exponent = _mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127));
    return _mm256_mul_ps(a, _mm256_castsi256_ps(_mm256_slli_epi32(exponent, 23)));
  }
  // a < b ? yes : no, in each place.
  static KVTIER_INLINE Float SelectLess(Float a, Float b, Float yes, Float no) {
    return _mm256_blendv_ps(no, yes, _mm256_cmp_ps(a, b, _CMP_LT_OQ));
  }
  static KVTIER_INLINE Float Iota() { return _mm256_setr_ps(0, 1, 2, 3, 4, 5, 6, 7); }
};
