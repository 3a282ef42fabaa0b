// What both attention kernels share (attention.h). Included by isa_*.cc inside their
// namespaces, after tile_body.h.

inline constexpr float kMinusInfinity = -__builtin_inff();
inline constexpr float kLog2E = 1.44269502f;

// A block of a sequence's keys: positions [first, first + count), count <= kKeyBlock.
struct KeyBlock {
  const AttentionCall* call;
  const Sequence* sequence;
  int kv_head;
  int first;
  int count;

  // K (which = 0) or V (which = 1) of the token at first + key.
  std::ptrdiff_t Offset(int which, int key) const {
    const PagePool& pool = call->pool;
    const int position = first + key;
    const int page = sequence->pages[position / pool.page_tokens];
    return pool.Offset(page, kv_head, which, position % pool.page_tokens);
  }
};

// Widens head_dim elements of the pool to float32.
KVTIER_INLINE void LoadToken(const PagePool& pool, std::ptrdiff_t offset, float* to) {
  if (pool.dtype == Dtype::kFloat32) {
    __builtin_memcpy(to, static_cast<const float*>(pool.data) + offset,
                     sizeof(float) * pool.head_dim);
    return;
  }
  const std::uint16_t* from = static_cast<const std::uint16_t*>(pool.data) + offset;
  for (int i = 0; i < pool.head_dim; i += kWidth) Simd::Store(to + i, Simd::LoadBfloat(from + i));
}

// V of a block as [kKeyBlock][head_dim], zero past its count.
inline void LoadValues(const KeyBlock& block, float* to) {
  const PagePool& pool = block.call->pool;
  for (int key = 0; key < kKeyBlock; ++key) {
    float* row = to + key * pool.head_dim;
    if (key < block.count) {
      LoadToken(pool, block.Offset(1, key), row);
    } else {
      for (int i = 0; i < pool.head_dim; ++i) row[i] = 0.0f;
    }
  }
}

// K of a block as [head_dim][kKeyBlock], zero past its count.
inline void LoadKeysTransposed(const KeyBlock& block, float* to) {
  const PagePool& pool = block.call->pool;
  for (int key = 0; key < kKeyBlock; ++key) {
    float row[kHeadDimMax];
    if (key < block.count) {
      LoadToken(pool, block.Offset(0, key), row);
    } else {
      for (int i = 0; i < pool.head_dim; ++i) row[i] = 0.0f;
    }
    for (int i = 0; i < pool.head_dim; ++i) to[i * kKeyBlock + key] = row[i];
  }
}

// softcap * tanh(score * scale / softcap), for `count` scores in place.
inline void CapScores(const AttentionCall& call, float* scores, int count) {
  const Float twice = Simd::Set(2.0f * call.scale / call.softcap);
  const Float cap = Simd::Set(call.softcap);
  const Float one = Simd::Set(1.0f);
  const Float limit = Simd::Set(80.0f);  // tanh is 1 in float32 long before
  for (int i = 0; i < count; i += kWidth) {
    const Float x = Simd::Min(Simd::Mul(Simd::Load(scores + i), twice), limit);
    const Float power = Exp(x);
    const Float tanh = Simd::Div(Simd::Sub(power, one), Simd::Add(power, one));
    Simd::Store(scores + i, Simd::Mul(tanh, cap));
  }
}

// What turns a (capped) score into an exponent of 2.
KVTIER_INLINE float ScoreFactor(const AttentionCall& call) {
  return call.softcap > 0 ? kLog2E : call.scale * kLog2E;
}

// -maximum, or 0 where no key was seen yet: -inf minus itself would be a NaN.
KVTIER_INLINE Float Shift(Float maximum) {
  const Float lowest = Simd::Set(-3.0e38f);
  return Simd::SelectLess(maximum, lowest, Simd::Zero(), Simd::Sub(Simd::Zero(), maximum));
}

// The running state of rows that lie side by side in vectors, or of one row in all lanes.
struct Softmax {
  Float maximum;  // of the scores seen, as exponents of 2
  Float sum;      // of 2^(score - maximum)
};

// The factors that bring two states, and what was weighted with them, to one maximum.
struct Blend {
  Float maximum;
  Float old_factor;
  Float new_factor;
};

KVTIER_INLINE Blend BlendMaxima(Float old_maximum, Float new_maximum) {
  Blend blend;
  blend.maximum = Simd::Max(old_maximum, new_maximum);
  const Float shift = Shift(blend.maximum);
  blend.old_factor = Exp2(Simd::Add(old_maximum, shift));
  blend.new_factor = Exp2(Simd::Add(new_maximum, shift));
  return blend;
}

// old * old_factor + new * new_factor, as both kernels round it.
KVTIER_INLINE Float BlendSums(const Blend& blend, Float old_sum, Float new_sum) {
  return Simd::Fma(new_sum, blend.new_factor, Simd::Mul(old_sum, blend.old_factor));
}

KVTIER_INLINE float FirstLane(Float vector) {
  float lane[kWidth];
  Simd::Store(lane, vector);
  return lane[0];
}

// Query or output element (token, head, 0).
KVTIER_INLINE std::ptrdiff_t HeadOffset(const Heads& heads, int token, int head) {
  return token * heads.token_stride + head * heads.head_stride;
}

KVTIER_INLINE float LoadElement(const void* data, Dtype dtype, std::ptrdiff_t offset) {
  if (dtype == Dtype::kFloat32) return static_cast<const float*>(data)[offset];
  return FromBfloat(static_cast<const std::uint16_t*>(data)[offset]);
}

KVTIER_INLINE void StoreElement(void* data, Dtype dtype, std::ptrdiff_t offset, float value) {
  if (dtype == Dtype::kFloat32) {
    static_cast<float*>(data)[offset] = value;
  } else {
    static_cast<std::uint16_t*>(data)[offset] = ToBfloat(value);
  }
}
