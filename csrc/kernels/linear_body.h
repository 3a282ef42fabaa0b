// The tasks of a linear layer (linear.h). Included by isa_*.cc inside their namespaces, after
// tile_body.h.

// Steps summed at a time: a converted panel of them stays in the second level cache.
inline constexpr int kDepth = 1024;

inline constexpr int kTileColumns = Simd::kLinearVectors * kWidth;
static_assert(kPanel % kTileColumns == 0);

// One tile of rows against a panel, over some steps. Either `weight` or `pairs` is read; with
// `x_pairs`, x has two steps in each element: [steps / 2][rows].
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

KVTIER_INLINE void ConvertPanel(const std::uint16_t* pairs, int steps, float* to) {
  for (int pair = 0; pair < steps / 2; ++pair) {
    for (int column = 0; column < kPanel; column += kWidth) {
      Float even;
      Float odd;
      Simd::LoadPairs(pairs + 2 * column, even, odd);
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

// Where a row's tile begins in packed x, `step` steps on. A pair takes the place of a float.
KVTIER_INLINE float* PackedX(const LinearCall& call, int tile, int step) {
  const int per_element = PacksPairs(call) ? 2 : 1;
  const std::ptrdiff_t first = call.TileFirstRow(tile);
  return call.packed_x + first * (call.weight->steps() / per_element) +
         static_cast<std::ptrdiff_t>(step / per_element) * call.TileRows(tile);
}

KVTIER_INLINE void PackPairsRow(const std::uint16_t* from, int k, int rows, std::uint32_t* to) {
  for (int step = 0; step < k; step += 2) {
    const std::uint32_t high = step + 1 < k ? from[step + 1] : 0;
    to[step / 2 * rows] = from[step] | high << 16;
  }
}

KVTIER_INLINE void PackBfloatRow(const std::uint16_t* from, int k, int rows, float* to) {
  for (int step = 0; step < k; ++step) to[step * rows] = FromBfloat(from[step]);
  if (k % 2 != 0) to[k * rows] = 0.0f;
}

inline void LinearPack(const LinearCall& call, int tile) {
  const int first = call.TileFirstRow(tile);
  const int rows = call.TileRows(tile);
  const int k = call.weight->k();
  float* to = PackedX(call, tile, 0);
  for (int row = 0; row < rows; ++row) {
    if (PacksPairs(call)) {
      auto* pairs = reinterpret_cast<std::uint32_t*>(to);
      PackPairsRow(call.x.Bfloat(first + row), k, rows, pairs + row);
    } else if (call.x.dtype == Dtype::kBfloat16) {
      PackBfloatRow(call.x.Bfloat(first + row), k, rows, to + row);
    } else {
      const float* from = call.x.Float(first + row);
      for (int step = 0; step < k; ++step) to[step * rows + row] = from[step];
    }
  }
}

inline void LinearPanelTask(const LinearCall& call, const LinearTask& task) {
  const PackedWeight& weight = *call.weight;
  const bool is_bfloat = weight.dtype() == Dtype::kBfloat16;
  // Pays when the panel is read again.
  const bool converts = is_bfloat && !Simd::kHasPairDot && task.tiles > 1;
  const int first = call.TileFirstRow(task.first_tile);
  const int end = call.TileFirstRow(task.first_tile + task.tiles);
  const std::size_t sums_size = static_cast<std::size_t>(end - first) * kPanel;
  float* sums = ThreadWorkspace().Floats(sums_size + (converts ? kDepth * kPanel : 0));
  float* converted = sums + sums_size;
  for (int step = 0; step < weight.steps(); step += kDepth) {
    const int steps = weight.steps() - step < kDepth ? weight.steps() - step : kDepth;
    TileArgs args{};
    args.steps = steps;
    args.is_first = step == 0;
    if (is_bfloat) {
      args.pairs = weight.BfloatPanel(task.panel) + static_cast<std::ptrdiff_t>(step) * kPanel;
      if (converts) ConvertPanel(args.pairs, steps, converted);
      args.weight = converts ? converted : nullptr;
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
