// The vector of AVX-512: 16 floats. Included by isa_avx512*.cc inside their
// namespaces.

struct Avx512 {
  using Float = __m512;
  static constexpr int kWidth = 16;
  static constexpr bool kHasPairDot = false;
  static constexpr int kLinearRows = 14;  // x kLinearVectors sums, of 32 registers
  static constexpr int kLinearVectors = 2;
  static constexpr int kAttentionRows = 8;
  static constexpr int kAttentionVectors = 3;

  static KVTIER_INLINE Float Zero() { return _mm512_setzero_ps(); }
  static KVTIER_INLINE Float Set(float value) { return _mm512_set1_ps(value); }
  static KVTIER_INLINE Float Load(const float* from) { return _mm512_loadu_ps(from); }
  static KVTIER_INLINE void Store(float* to, Float value) { _mm512_storeu_ps(to, value); }

  static KVTIER_INLINE Float LoadBfloat(const std::uint16_t* from) {
    const __m256i half = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from));
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(half), 16));
  }
  // To nearest, ties to even; a NaN stays one.
  static KVTIER_INLINE void StoreBfloat(std::uint16_t* to, Float value) {
    const __m512i bits = _mm512_castps_si512(value);
    const __m512i odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
    const __m512i bias = _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff));
    const __m512i rounded = _mm512_srli_epi32(_mm512_add_epi32(bits, bias), 16);
    const __mmask16 nan = _mm512_cmp_ps_mask(value, value, _CMP_UNORD_Q);
    const __m512i safe = _mm512_mask_mov_epi32(rounded, nan, _mm512_set1_epi32(0x7fc0));
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), _mm512_cvtepi32_epi16(safe));
  }
  // The elements of even (low half) and odd (high half) place of 16 bfloat16
  // pairs.
  static KVTIER_INLINE void SplitPairs(Float pairs, Float& even, Float& odd) {
    const __m512i bits = _mm512_castps_si512(pairs);
    even = _mm512_castsi512_ps(_mm512_slli_epi32(bits, 16));
    odd = _mm512_castsi512_ps(_mm512_and_si512(bits, _mm512_set1_epi32(-65536)));
  }
  // a0 b0 a1 b1 ... in low, and the second halves in high.
  static KVTIER_INLINE void Interleave(Float a, Float b, Float& low, Float& high) {
    const __m512i first = _mm512_setr_epi32(0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
    const __m512i second = _mm512_add_epi32(first, _mm512_set1_epi32(8));
    low = _mm512_permutex2var_ps(a, first, b);
    high = _mm512_permutex2var_ps(a, second, b);
  }
  // Stores the first `count` elements.
  static KVTIER_INLINE void StoreFirst(float* to, int count, Float value) {
    _mm512_mask_storeu_ps(to, static_cast<__mmask16>((1u << count) - 1), value);
  }

  static KVTIER_INLINE Float Add(Float a, Float b) { return _mm512_add_ps(a, b); }
  static KVTIER_INLINE Float Sub(Float a, Float b) { return _mm512_sub_ps(a, b); }
  static KVTIER_INLINE Float Mul(Float a, Float b) { return _mm512_mul_ps(a, b); }
  static KVTIER_INLINE Float Div(Float a, Float b) { return _mm512_div_ps(a, b); }
  static KVTIER_INLINE Float Max(Float a, Float b) { return _mm512_max_ps(a, b); }
  static KVTIER_INLINE Float Min(Float a, Float b) { return _mm512_min_ps(a, b); }
  // a * b + c, rounded once.
  static KVTIER_INLINE Float Fma(Float a, Float b, Float c) { return _mm512_fmadd_ps(a, b, c); }
  static KVTIER_INLINE Float Round(Float a) {
    return _mm512_roundscale_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
  }
  // a * 2^n for whole n in [-126, 127].
  static KVTIER_INLINE Float Scale(Float a, Float n) { return _mm512_scalef_ps(a, n); }
  // a < b ? yes : no, in each place.
  static KVTIER_INLINE Float SelectLess(Float a, Float b, Float yes, Float no) {
    return _mm512_mask_blend_ps(_mm512_cmp_ps_mask(a, b, _CMP_LT_OQ), no, yes);
  }
  static KVTIER_INLINE Float Iota() {
    return _mm512_setr_ps(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
  }
};
