// The tasks of a linear layer (linear.h). Included by isa_*.cc inside their
// namespaces, after tile_body.h.

// Steps summed at a time: a converted panel of them stays in the second level
// cache.
inline constexpr int kDepth = 1024;

inline constexpr int kTileColumns = Simd::kLinearVectors * kWidth;
static_assert(kPanel % kTileColumns == 0);

// One tile of rows against a panel, over some steps. Either `weight` or `pairs`
// is read; with `x_pairs`, x has two steps in each element: [steps / 2][rows].
struct TileArgs {
  const float* x;  // [steps][rows]
  const std::uint32_t* x_pairs;
  const float* weight;         // [steps][kPanel], or null
  const std::uint16_t* pairs;  // [steps / 2][kPanel][2]
  int steps;
  float* sums;  // [rows][kPanel]
  bool is_first;
};

template <int kRows>
void SumTile(const TileArgs& args) {
  for (int column = 0; column < kPanel; column += kTileColumns) {
    Tile<kRows, Simd::kLinearVectors> tile;
    if (args.is_first) {
      tile.Clear();
    } else {
      tile.Load(args.sums + column, kPanel);
    }
    const Operand<float> x{args.x, kRows};
    const Operand<std::uint16_t> pairs{args.pairs + 2 * column, 2 * kPanel};
    if (args.weight != nullptr) {
      tile.Accumulate(args.steps, x, Operand<float>{args.weight + column, kPanel});
    } else if constexpr (Simd::kHasPairDot) {
      tile.Accumulate(args.steps / 2, Operand<std::uint32_t>{args.x_pairs, kRows}, pairs);
    } else {
      tile.Accumulate(args.steps / 2, x, pairs);
    }
    tile.Store(args.sums + column, kPanel);
  }
}

// Calls SumTile for a number of rows known at run time only.
template <int kRows = Simd::kLinearRows>
KVTIER_INLINE void SumTileOf(int rows, const TileArgs& args) {
  if (rows == kRows) {
    SumTile<kRows>(args);
  } else if constexpr (kRows > 1) {
    SumTileOf<kRows - 1>(rows, args);
  }
}

// Tiles of rows from which on a panel of pairs is widened to float32 once for
// all of them.
inline constexpr int kWidenedTilesMin = 5;

KVTIER_INLINE void WidenPanel(const std::uint16_t* pairs, int steps, float* to) {
  for (int pair = 0; pair < steps / 2; ++pair) {
    for (int column = 0; column < kPanel; column += kWidth) {
      Float even;
      Float odd;
      Simd::SplitPairs(LoadRawPairs(pairs + 2 * column), even, odd);
      Simd::Store(to + column, even);
      Simd::Store(to + kPanel + column, odd);
    }
    pairs += 2 * kPanel;
    to += 2 * kPanel;
  }
}

KVTIER_INLINE float BiasAt(const LinearCall& call, int column) {
  if (call.bias == nullptr) return 0.0f;
  if (call.weight->dtype() == Dtype::kFloat32) {
    return static_cast<const float*>(call.bias)[column];
  }
  return FromBfloat(static_cast<const std::uint16_t*>(call.bias)[column]);
}

// Adds the bias and writes rows [first, first + rows) of a panel's columns.
inline void WritePanel(const LinearCall& call, int panel, int first, int rows, const float* sums) {
  const int column = panel * kPanel;
  const int columns = call.weight->n() - column < kPanel ? call.weight->n() - column : kPanel;
  alignas(64) float bias[kPanel] = {};
  for (int i = 0; i < columns; ++i) bias[i] = BiasAt(call, column + i);
  Rows out = call.out;
  for (int row = 0; row < rows; ++row) {
    alignas(64) float values[kPanel];
    for (int i = 0; i < kPanel; i += kWidth) {
      const Float sum = Simd::Load(sums + row * kPanel + i);
      Simd::Store(values + i, call.bias == nullptr ? sum : Simd::Add(sum, Simd::Load(bias + i)));
    }
    if (out.dtype == Dtype::kFloat32) {
      __builtin_memcpy(out.Float(first + row) + column, values, sizeof(float) * columns);
      continue;
    }
    alignas(64) std::uint16_t rounded[kPanel];
    for (int i = 0; i < kPanel; i += kWidth) {
      Simd::StoreBfloat(rounded + i, Simd::Load(values + i));
    }
    __builtin_memcpy(out.Bfloat(first + row) + column, rounded, sizeof(rounded[0]) * columns);
  }
}

// Whether x is packed in pairs, for the dot product of pairs.
KVTIER_INLINE bool PacksPairs(const LinearCall& call) {
  return Simd::kHasPairDot && call.x.dtype == Dtype::kBfloat16;
}

// Where a row's tile begins in packed x, `step` steps on. A pair takes the
// place of a float.
KVTIER_INLINE float* PackedX(const LinearCall& call, int tile, int step) {
  const int per_element = PacksPairs(call) ? 2 : 1;
  const std::ptrdiff_t first = call.TileFirstRow(tile);
  return call.packed_x + first * (call.weight->steps() / per_element) +
         static_cast<std::ptrdiff_t>(step / per_element) * call.TileRows(tile);
}

// One step (a pair of steps with PacksPairs) of one row.
KVTIER_INLINE void PackElement(const LinearCall& call, int row, int step, float* to) {
  if (call.x.dtype == Dtype::kFloat32) {
    *to = call.x.Float(row)[step];
  } else if (!PacksPairs(call)) {
    *to = FromBfloat(call.x.Bfloat(row)[step]);
  } else {
    std::uint16_t pair[2] = {call.x.Bfloat(row)[step], 0};
    if (step + 1 < call.weight->k()) pair[1] = call.x.Bfloat(row)[step + 1];
    __builtin_memcpy(to, pair, sizeof(pair));
  }
}

// Packs whole vectors of steps of a tile by transposing them; returns the first
// step left.
KVTIER_INLINE int PackVectors(const LinearCall& call, int first, int rows, float* to) {
  const bool is_bfloat = call.x.dtype == Dtype::kBfloat16;
  const int block = is_bfloat ? 2 * kWidth : kWidth;
  int step = 0;
  for (; step + block <= call.weight->k(); step += block) {
    Float vectors[kWidth];
    for (int row = 0; row < kWidth; ++row) {
      if (row >= rows) {
        vectors[row] = Simd::Zero();
      } else if (is_bfloat) {
        vectors[row] = LoadRawPairs(call.x.Bfloat(first + row) + step);
      } else {
        vectors[row] = Simd::Load(call.x.Float(first + row) + step);
      }
    }
    Transpose(vectors);
    for (int i = 0; i < kWidth; ++i) {
      if (!is_bfloat || PacksPairs(call)) {
        Simd::StoreFirst(to, rows, vectors[i]);
        to += rows;
        continue;
      }
      Float even;
      Float odd;
      Simd::SplitPairs(vectors[i], even, odd);
      Simd::StoreFirst(to, rows, even);
      Simd::StoreFirst(to + rows, rows, odd);
      to += 2 * rows;
    }
  }
  return step;
}

static_assert(Simd::kLinearRows <= kWidth);

// Fewer rows than these are packed one by one: transposing moves mostly zeros.
inline constexpr int kTransposedRowsMin = 3;

inline void LinearPack(const LinearCall& call, int tile) {
  const int first = call.TileFirstRow(tile);
  const int rows = call.TileRows(tile);
  const int stride = PacksPairs(call) ? 2 : 1;
  int step = 0;
  if (rows >= kTransposedRowsMin) step = PackVectors(call, first, rows, PackedX(call, tile, 0));
  float* to = PackedX(call, tile, step);
  for (; step < call.weight->k(); step += stride) {
    for (int row = 0; row < rows; ++row) PackElement(call, first + row, step, to + row);
    to += rows;
  }
  if (step < call.weight->steps()) {
    for (int row = 0; row < rows; ++row) to[row] = 0.0f;
  }
}

inline void LinearPanelTask(const LinearCall& call, const LinearTask& task) {
  const PackedWeight& weight = *call.weight;
  const bool is_bfloat = weight.dtype() == Dtype::kBfloat16;
  const bool widens = is_bfloat && !Simd::kHasPairDot && task.tiles >= kWidenedTilesMin;
  const int first = call.TileFirstRow(task.first_tile);
  const int end = call.TileFirstRow(task.first_tile + task.tiles);
  const std::size_t sums_size = static_cast<std::size_t>(end - first) * kPanel;
  float* sums = ThreadWorkspace().Floats(sums_size + (widens ? kDepth * kPanel : 0));
  float* widened = sums + sums_size;
  for (int step = 0; step < weight.steps(); step += kDepth) {
    const int steps = weight.steps() - step < kDepth ? weight.steps() - step : kDepth;
    TileArgs args{};
    args.steps = steps;
    args.is_first = step == 0;
    if (is_bfloat) {
      args.pairs = weight.BfloatPanel(task.panel) + static_cast<std::ptrdiff_t>(step) * kPanel;
      if (widens) WidenPanel(args.pairs, steps, widened);
      args.weight = widens ? widened : nullptr;
    } else {
      args.weight = weight.FloatPanel(task.panel) + static_cast<std::ptrdiff_t>(step) * kPanel;
    }
    for (int tile = task.first_tile; tile < task.first_tile + task.tiles; ++tile) {
      const int row = call.TileFirstRow(tile);
      args.x = PackedX(call, tile, step);
      args.x_pairs = reinterpret_cast<const std::uint32_t*>(args.x);
      args.sums = sums + static_cast<std::ptrdiff_t>(row - first) * kPanel;
      SumTileOf(call.TileRows(tile), args);
    }
  }
  WritePanel(call, task.panel, first, end - first, sums);
}
