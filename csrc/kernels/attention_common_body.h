// What both attention kernels share (attention.h). Included by isa_*.cc inside
// their namespaces, after tile_body.h.

inline constexpr float kMinusInfinity = -__builtin_inff();
inline constexpr float kLog2E = 1.44269502f;

// A block of a sequence's keys: `count` <= kKeyBlock of them, and where each
// one's K lies in the pool (its V is kv_stride further).
struct KeyBlock {
  const PagePool* pool;
  int count;
  std::ptrdiff_t offsets[kKeyBlock];
};

// The keys at positions [first, first + count) of one kv head.
inline void FindKeys(const AttentionCall& call, const AttentionTask& task, int first,
                     KeyBlock& block) {
  const PagePool& pool = call.pool;
  const std::int32_t* page = call.sequences[task.sequence].pages + first / pool.page_tokens;
  int token = first % pool.page_tokens;
  block.pool = &pool;
  for (int key = 0; key < block.count; ++key) {
    block.offsets[key] = pool.Offset(*page, task.kv_head, 0, token);
    if (++token == pool.page_tokens) {
      token = 0;
      ++page;
    }
  }
}

// V of a block as [kKeyBlock][head_dim], zero past its count.
inline void LoadValues(const KeyBlock& block, float* to) {
  const PagePool& pool = *block.pool;
  const int head_dim = pool.head_dim;
  for (int key = 0; key < block.count; ++key) {
    const std::ptrdiff_t offset = block.offsets[key] + pool.kv_stride;
    float* row = to + key * head_dim;
    for (int i = 0; i < head_dim; i += kWidth) {
      Simd::Store(row + i, pool.dtype == Dtype::kFloat32
                               ? Simd::Load(static_cast<const float*>(pool.data) + offset + i)
                               : Simd::LoadBfloat(static_cast<const std::uint16_t*>(pool.data) +
                                                  offset + i));
    }
  }
  for (int i = block.count * head_dim; i < kKeyBlock * head_dim; i += kWidth) {
    Simd::Store(to + i, Simd::Zero());
  }
}

// Elements [first, first + kWidth) of kWidth keys (pairs of elements for
// bfloat16).
KVTIER_INLINE void LoadKeyVectors(const KeyBlock& block, int key, int first,
                                  Float (&vectors)[kWidth]) {
  for (int i = 0; i < kWidth; ++i) {
    if (key + i >= block.count) {
      vectors[i] = Simd::Zero();
    } else if (block.pool->dtype == Dtype::kFloat32) {
      const float* data = static_cast<const float*>(block.pool->data);
      vectors[i] = Simd::Load(data + block.offsets[key + i] + first);
    } else {
      const std::uint16_t* data = static_cast<const std::uint16_t*>(block.pool->data);
      vectors[i] = LoadRawPairs(data + block.offsets[key + i] + first);
    }
  }
}

// K of a block as [head_dim][kKeyBlock], zero past its count.
inline void LoadKeysTransposed(const KeyBlock& block, float* to) {
  const bool is_bfloat = block.pool->dtype == Dtype::kBfloat16;
  const int head_dim = block.pool->head_dim;
  const int step = is_bfloat ? 2 * kWidth : kWidth;
  for (int next = 0; next < head_dim; next += step) {
    // The last step may repeat elements of the one before rather than read past
    // a token.
    const int first = next + step <= head_dim ? next : head_dim - step;
    for (int key = 0; key < kKeyBlock; key += kWidth) {
      Float vectors[kWidth];
      LoadKeyVectors(block, key, first, vectors);
      Transpose(vectors);
      float* column = to + first * kKeyBlock + key;
      for (int i = 0; i < kWidth; ++i) {
        if (!is_bfloat) {
          Simd::Store(column + i * kKeyBlock, vectors[i]);
          continue;
        }
        Float even;
        Float odd;
        Simd::SplitPairs(vectors[i], even, odd);
        Simd::Store(column + 2 * i * kKeyBlock, even);
        Simd::Store(column + (2 * i + 1) * kKeyBlock, odd);
      }
    }
  }
}

static_assert(2 * kWidth <= kHeadDimMin);

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

// The running state of rows that lie side by side in vectors, or of one row in
// all lanes.
struct Softmax {
  Float maximum;  // of the scores seen, as exponents of 2
  Float sum;      // of 2^(score - maximum)
};

// The factors that bring two states, and what was weighted with them, to one
// maximum.
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
