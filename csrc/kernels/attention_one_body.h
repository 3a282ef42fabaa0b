// Attention of one query token, for the query heads of one kv head: vectors run
// over keys, then over head_dim. Included by isa_*.cc, after linear_body.h and
// attention_common_body.h.

// A partial result: maximum and sum of each head, then [group][head_dim]
// weighted values.
struct Partial {
  float* maximum;
  float* sum;
  float* values;
};

KVTIER_INLINE Partial PartialAt(const AttentionCall& call, int number) {
  float* data = call.partials + static_cast<std::ptrdiff_t>(number) * call.PartialFloats();
  return {data, data + call.Group(), data + 2 * call.Group()};
}

struct OneArgs {
  const AttentionCall* call;
  float* query;    // [head_dim][group]
  float* keys;     // [head_dim][kKeyBlock]
  float* values;   // [kKeyBlock][head_dim]
  float* scores;   // [group][kKeyBlock]
  float* weights;  // [kKeyBlock][group]
  int first;       // of the keys seen, in the block
  int end;
};

// sums[row][column] (+)= a[step][row] * b[step][column] for `rows` x `columns`
// of any size.
struct ProductArgs {
  Operand<float> a;
  Operand<float> b;
  int steps;
  float* sums;
  int columns;
  bool is_first;
};

template <int kRows, int kVectors>
KVTIER_INLINE void ProductTile(const ProductArgs& args, int column) {
  Tile<kRows, kVectors> tile;
  if (args.is_first) {
    tile.Clear();
  } else {
    tile.Load(args.sums + column, args.columns);
  }
  tile.Accumulate(args.steps, args.a, Operand<float>{args.b.data + column, args.b.stride});
  tile.Store(args.sums + column, args.columns);
}

template <int kRows>
void ProductRows(const ProductArgs& args) {
  int column = 0;
  for (; column + kTileColumns <= args.columns; column += kTileColumns) {
    ProductTile<kRows, Simd::kLinearVectors>(args, column);
  }
  for (; column < args.columns; column += kWidth) ProductTile<kRows, 1>(args, column);
}

template <int kRows = Simd::kLinearRows>
KVTIER_INLINE void ProductRowsOf(int rows, const ProductArgs& args) {
  if (rows == kRows) {
    ProductRows<kRows>(args);
  } else if constexpr (kRows > 1) {
    ProductRowsOf<kRows - 1>(rows, args);
  }
}

inline void Product(int rows, ProductArgs args) {
  while (rows > 0) {
    const int part = rows < Simd::kLinearRows ? rows : Simd::kLinearRows;
    ProductRowsOf(part, args);
    args.a.data += part;
    args.sums += static_cast<std::ptrdiff_t>(part) * args.columns;
    rows -= part;
  }
}

// Turns one head's scores into weights and updates its state; returns what
// earlier sums and values are to be multiplied with.
inline float WeighHead(const OneArgs& args, const Partial& partial, int head) {
  float* scores = args.scores + head * kKeyBlock;
  const Float hidden = Simd::Set(kMinusInfinity);
  const Float factor = Simd::Set(ScoreFactor(*args.call));
  const Float first = Simd::Set(static_cast<float>(args.first));
  const Float end = Simd::Set(static_cast<float>(args.end));
  Float top = hidden;
  for (int key = 0; key < kKeyBlock; key += kWidth) {
    const Float place = Simd::Add(Simd::Set(static_cast<float>(key)), Simd::Iota());
    Float score = Simd::SelectLess(place, end, Simd::Load(scores + key), hidden);
    score = Simd::SelectLess(place, first, hidden, score);
    Simd::Store(scores + key, score);
    top = Simd::Max(top, score);
  }
  const Float before = Simd::Set(partial.maximum[head]);
  const Float maximum = Simd::Max(before, Simd::Mul(Simd::Set(Largest(top)), factor));
  const Float shift = Shift(maximum);
  const Float old_factor = Exp2(Simd::Add(before, shift));
  Float sum = Simd::Zero();
  for (int key = 0; key < kKeyBlock; key += kWidth) {
    const Float weight = Exp2(Simd::Fma(Simd::Load(scores + key), factor, shift));
    Simd::Store(scores + key, weight);
    sum = Simd::Add(sum, weight);
  }
  const Float old_sum = Simd::Set(partial.sum[head]);
  partial.maximum[head] = FirstLane(maximum);
  partial.sum[head] = FirstLane(Simd::Fma(old_sum, old_factor, Simd::Set(Sum(sum))));
  return FirstLane(old_factor);
}

inline void AttendBlock(const OneArgs& args, const Partial& partial) {
  const AttentionCall& call = *args.call;
  const int group = call.Group();
  const int head_dim = call.pool.head_dim;
  Product(group,
          {{args.query, group}, {args.keys, kKeyBlock}, head_dim, args.scores, kKeyBlock, true});
  if (call.softcap > 0) CapScores(call, args.scores, group * kKeyBlock);
  for (int head = 0; head < group; ++head) {
    const Float rescale = Simd::Set(WeighHead(args, partial, head));
    float* values = partial.values + head * head_dim;
    for (int i = 0; i < head_dim; i += kWidth) {
      Simd::Store(values + i, Simd::Mul(Simd::Load(values + i), rescale));
    }
    for (int key = 0; key < kKeyBlock; ++key) {
      args.weights[key * group + head] = args.scores[head * kKeyBlock + key];
    }
  }
  Product(
      group,
      {{args.weights, group}, {args.values, head_dim}, kKeyBlock, partial.values, head_dim, false});
}

inline void LoadOneQuery(const OneArgs& args, const AttentionTask& task) {
  const AttentionCall& call = *args.call;
  const Sequence& sequence = call.sequences[task.sequence];
  const int group = call.Group();
  for (int head = 0; head < group; ++head) {
    const std::ptrdiff_t offset = HeadOffset(call.query, sequence.query_start + task.first_token,
                                             task.kv_head * group + head);
    for (int i = 0; i < call.pool.head_dim; ++i) {
      args.query[i * group + head] = LoadElement(call.query.data, call.dtype, offset + i);
    }
  }
}

inline OneArgs PlaceOne(const AttentionCall& call) {
  const std::size_t plane = static_cast<std::size_t>(call.pool.head_dim) * kKeyBlock;
  const std::size_t group = static_cast<std::size_t>(call.Group());
  OneArgs args{};
  args.call = &call;
  args.keys = ThreadWorkspace().Floats(2 * plane + group * (2 * kKeyBlock + kHeadDimMax));
  args.values = args.keys + plane;
  args.scores = args.values + plane;
  args.weights = args.scores + group * kKeyBlock;
  args.query = args.weights + group * kKeyBlock;
  return args;
}

inline void AttentionOne(const AttentionCall& call, const AttentionTask& task) {
  OneArgs args = PlaceOne(call);
  LoadOneQuery(args, task);
  const Partial partial = PartialAt(call, task.partial);
  const int group = call.Group();
  for (int head = 0; head < group; ++head) {
    partial.maximum[head] = kMinusInfinity;
    partial.sum[head] = 0.0f;
  }
  for (int i = 0; i < group * call.pool.head_dim; ++i) partial.values[i] = 0.0f;
  const Sequence& sequence = call.sequences[task.sequence];
  const int position = sequence.FirstPosition() + task.first_token;
  const int first_key = call.FirstKey(position);
  const int split_first = task.split * kKeySplit;
  const int window_first = first_key / kKeyBlock * kKeyBlock;
  const int first = split_first > window_first ? split_first : window_first;
  const int split_end = split_first + kKeySplit;
  const int end = position + 1 < split_end ? position + 1 : split_end;
  for (int block_first = first; block_first < end; block_first += kKeyBlock) {
    KeyBlock block;
    block.count = end - block_first < kKeyBlock ? end - block_first : kKeyBlock;
    FindKeys(call, task, block_first, block);
    LoadKeysTransposed(block, args.keys);
    LoadValues(block, args.values);
    args.first = first_key - block_first;
    args.end = block.count;
    AttendBlock(args, partial);
  }
}

inline void AttentionMerge(const AttentionCall& call, const AttentionTask& task) {
  const Sequence& sequence = call.sequences[task.sequence];
  const int group = call.Group();
  const int head_dim = call.pool.head_dim;
  for (int head = 0; head < group; ++head) {
    alignas(64) float total[kHeadDimMax] = {};
    Softmax state{Simd::Set(kMinusInfinity), Simd::Zero()};
    for (int split = 0; split < task.splits; ++split) {
      const Partial partial = PartialAt(call, task.partial + split);
      const Blend blend = BlendMaxima(state.maximum, Simd::Set(partial.maximum[head]));
      state.maximum = blend.maximum;
      state.sum = BlendSums(blend, state.sum, Simd::Set(partial.sum[head]));
      for (int i = 0; i < head_dim; i += kWidth) {
        const Float values = Simd::Load(partial.values + head * head_dim + i);
        Simd::Store(total + i, BlendSums(blend, Simd::Load(total + i), values));
      }
    }
    const std::ptrdiff_t offset =
        HeadOffset(call.out, sequence.query_start + task.first_token, task.kv_head * group + head);
    for (int i = 0; i < head_dim; i += kWidth) {
      Simd::Store(total + i, Simd::Div(Simd::Load(total + i), state.sum));
    }
    for (int i = 0; i < head_dim; ++i) {
      StoreElement(call.out.data, call.dtype, offset + i, total[i]);
    }
  }
}
