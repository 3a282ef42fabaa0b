// AVX-512 with the dot product of bfloat16 pairs. Included by
// isa_avx512_bf16.cc inside its namespace, after simd_avx512.h.

struct Simd : Avx512 {
  static constexpr bool kHasPairDot = true;

  // sum + the product of each pair of a with the pair of b in the same place.
  // One `a` for all.
  static KVTIER_INLINE Float AddPairDot(Float sum, std::uint32_t a, const std::uint16_t* b) {
    const __m512i pair = _mm512_set1_epi32(static_cast<int>(a));
    const __m512i pairs = _mm512_loadu_si512(b);
    return _mm512_dpbf16_ps(sum, reinterpret_cast<__m512bh>(pair),
                            reinterpret_cast<__m512bh>(pairs));
  }
};
