// The row kernels (rowwise.h). Included by isa_*.cc inside their namespaces,
// after math_body.h.

// kWidth elements at data + offset, of which the first `count` exist; zeros
// past them.
KVTIER_INLINE Float LoadPart(const void* data, Dtype dtype, std::ptrdiff_t offset, int count) {
  if (count >= kWidth) {
    if (dtype == Dtype::kFloat32) return Simd::Load(static_cast<const float*>(data) + offset);
    return Simd::LoadBfloat(static_cast<const std::uint16_t*>(data) + offset);
  }
  float values[kWidth] = {};
  for (int i = 0; i < count; ++i) {
    values[i] = dtype == Dtype::kFloat32
                    ? static_cast<const float*>(data)[offset + i]
                    : FromBfloat(static_cast<const std::uint16_t*>(data)[offset + i]);
  }
  return Simd::Load(values);
}

KVTIER_INLINE void StorePart(void* data, Dtype dtype, std::ptrdiff_t offset, int count,
                             Float value) {
  if (dtype == Dtype::kFloat32) {
    float* to = static_cast<float*>(data) + offset;
    if (count >= kWidth) {
      Simd::Store(to, value);
      return;
    }
    float values[kWidth];
    Simd::Store(values, value);
    for (int i = 0; i < count; ++i) to[i] = values[i];
    return;
  }
  std::uint16_t* to = static_cast<std::uint16_t*>(data) + offset;
  if (count >= kWidth) {
    Simd::StoreBfloat(to, value);
    return;
  }
  std::uint16_t values[kWidth];
  Simd::StoreBfloat(values, value);
  for (int i = 0; i < count; ++i) to[i] = values[i];
}

// The value as the dtype would keep it.
KVTIER_INLINE Float RoundTo(Dtype dtype, Float value) {
  if (dtype == Dtype::kFloat32) return value;
  std::uint16_t rounded[kWidth];
  Simd::StoreBfloat(rounded, value);
  return Simd::LoadBfloat(rounded);
}

inline void RmsNormRow(const RmsNormCall& call, int row) {
  const Dtype dtype = call.x.dtype;
  const bool has_residual = call.residual.data != nullptr;
  const std::ptrdiff_t x_first = row * call.x.stride;
  const std::ptrdiff_t residual_first = row * call.residual.stride;
  const std::ptrdiff_t out_first = row * call.out.stride;
  Float squares = Simd::Zero();
  for (int i = 0; i < call.size; i += kWidth) {
    const int count = call.size - i;
    Float value = LoadPart(call.x.data, dtype, x_first + i, count);
    if (has_residual) {
      const Float before = LoadPart(call.residual.data, dtype, residual_first + i, count);
      value = RoundTo(dtype, Simd::Add(before, value));
      StorePart(call.residual.data, dtype, residual_first + i, count, value);
    }
    squares = Simd::Fma(value, value, squares);
  }
  const float mean = Sum(squares) / static_cast<float>(call.size);
  const Float inverse = Simd::Set(1.0f / __builtin_sqrtf(mean + call.epsilon));
  const void* source = has_residual ? call.residual.data : call.x.data;
  const std::ptrdiff_t source_first = has_residual ? residual_first : x_first;
  for (int i = 0; i < call.size; i += kWidth) {
    const int count = call.size - i;
    const Float value = LoadPart(source, dtype, source_first + i, count);
    const Float normal = RoundTo(dtype, Simd::Mul(value, inverse));
    const Float weight = LoadPart(call.weight, dtype, i, count);
    StorePart(call.out.data, dtype, out_first + i, count, Simd::Mul(weight, normal));
  }
}

inline void SiluMulRow(const SiluMulCall& call, int row) {
  const Dtype dtype = call.gate.dtype;
  const Float one = Simd::Set(1.0f);
  for (int i = 0; i < call.size; i += kWidth) {
    const int count = call.size - i;
    const Float gate = LoadPart(call.gate.data, dtype, row * call.gate.stride + i, count);
    const Float up = LoadPart(call.up.data, dtype, row * call.up.stride + i, count);
    const Float power = Exp(Simd::Sub(Simd::Zero(), gate));
    const Float silu = RoundTo(dtype, Simd::Div(gate, Simd::Add(one, power)));
    StorePart(call.out.data, dtype, row * call.out.stride + i, count, Simd::Mul(silu, up));
  }
}

// A head's elements, before and after.
struct HeadMove {
  const void* from;
  std::ptrdiff_t from_offset;
  void* to;
  std::ptrdiff_t to_offset;
};

KVTIER_INLINE void CopyHead(const RopeWriteCall& call, const HeadMove& move, int first) {
  const std::size_t bytes = call.pool.dtype == Dtype::kFloat32 ? 4 : 2;
  __builtin_memcpy(static_cast<char*>(move.to) + (move.to_offset + first) * bytes,
                   static_cast<const char*>(move.from) + (move.from_offset + first) * bytes,
                   (call.pool.head_dim - first) * bytes);
}

// Reads both halves of a vector before it writes either, so from may be to.
KVTIER_INLINE void RotateHead(const RopeWriteCall& call, const HeadMove& move, int position) {
  const Dtype dtype = call.pool.dtype;
  const int half = call.rotary_dim / 2;
  const float* cos_row = call.cos + position * call.table_stride;
  const float* sin_row = call.sin + position * call.table_stride;
  for (int i = 0; i < half; i += kWidth) {
    const int count = half - i;
    const Float low = LoadPart(move.from, dtype, move.from_offset + i, count);
    const Float high = LoadPart(move.from, dtype, move.from_offset + half + i, count);
    const Float cos = LoadPart(cos_row, Dtype::kFloat32, i, count);
    const Float sin = LoadPart(sin_row, Dtype::kFloat32, i, count);
    const Float low_cos = RoundTo(dtype, Simd::Mul(low, cos));
    const Float low_sin = RoundTo(dtype, Simd::Mul(low, sin));
    const Float high_cos = RoundTo(dtype, Simd::Mul(high, cos));
    const Float high_sin = RoundTo(dtype, Simd::Mul(high, sin));
    StorePart(move.to, dtype, move.to_offset + i, count, Simd::Sub(low_cos, high_sin));
    StorePart(move.to, dtype, move.to_offset + half + i, count, Simd::Add(high_cos, low_sin));
  }
}

inline void RopeWriteToken(const RopeWriteCall& call, const TokenPlace& place) {
  const PagePool& pool = call.pool;
  for (int head = 0; head < call.query.heads; ++head) {
    const std::ptrdiff_t offset =
        place.row * call.query.token_stride + head * call.query.head_stride;
    RotateHead(call, {call.query.data, offset, call.query.data, offset}, place.position);
  }
  for (int head = 0; head < pool.kv_heads; ++head) {
    const HeadMove key{call.key.data,
                       place.row * call.key.token_stride + head * call.key.head_stride, pool.data,
                       pool.Offset(place.page, head, 0, place.token)};
    RotateHead(call, key, place.position);
    if (call.rotary_dim < pool.head_dim) CopyHead(call, key, call.rotary_dim);
    const HeadMove value{call.value.data,
                         place.row * call.value.token_stride + head * call.value.head_stride,
                         pool.data, pool.Offset(place.page, head, 1, place.token)};
    CopyHead(call, value, 0);
  }
}
