// Attention of many query rows of one kv head: vectors run over query rows, so
// softmax needs no sums across a vector. Included by isa_*.cc, after
// attention_common_body.h.

inline constexpr int kPanelRows = Simd::kAttentionVectors * kWidth;
static_assert(kKeyBlock % Simd::kAttentionRows == 0 && kHeadDimStep % Simd::kAttentionRows == 0);

// A panel of query rows and their state. Row r is query token r / group, head r
// % group of the task; rows past the task's last see no key and are not
// written.
struct QueryPanel {
  float* query;   // [head_dim][kPanelRows]
  float* split;   // [head_dim][kPanelRows], weighted values of this split
  float* total;   // [head_dim][kPanelRows], of the splits before
  float* state;   // four rows of kPanelRows: maximum and sum of split and of total
  float* first;   // [kPanelRows], first key seen
  float* end;     // [kPanelRows], one past the last key seen
  int first_max;  // of the rows that exist
  int first_min;
  int end_min;
  int end_max;
};

struct ManyArgs {
  const AttentionCall* call;
  const AttentionTask* task;
  float* keys;    // [head_dim][kKeyBlock]
  float* values;  // [kKeyBlock][head_dim]
  float* scores;  // [kKeyBlock][kPanelRows]
  int block_first;
};

KVTIER_INLINE void Fill(float* to, int count, float value) {
  for (int i = 0; i < count; i += kWidth) Simd::Store(to + i, Simd::Set(value));
}

inline void ResetSplit(const AttentionCall& call, const QueryPanel& panel) {
  Fill(panel.split, call.pool.head_dim * kPanelRows, 0.0f);
  Fill(panel.state, kPanelRows, kMinusInfinity);
  Fill(panel.state + kPanelRows, kPanelRows, 0.0f);
}

inline void LoadQueryRow(const ManyArgs& args, QueryPanel& panel, int row, int column) {
  const AttentionCall& call = *args.call;
  const Sequence& sequence = call.sequences[args.task->sequence];
  const int group = call.Group();
  const int token = args.task->first_token + row / group;
  const int head = args.task->kv_head * group + row % group;
  const std::ptrdiff_t offset = HeadOffset(call.query, sequence.query_start + token, head);
  for (int i = 0; i < call.pool.head_dim; ++i) {
    panel.query[i * kPanelRows + column] = LoadElement(call.query.data, call.dtype, offset + i);
  }
  const int position = sequence.FirstPosition() + token;
  const int first = call.FirstKey(position);
  panel.first[column] = static_cast<float>(first);
  panel.end[column] = static_cast<float>(position + 1);
  panel.first_min = first < panel.first_min ? first : panel.first_min;
  panel.first_max = first > panel.first_max ? first : panel.first_max;
  panel.end_min = position + 1 < panel.end_min ? position + 1 : panel.end_min;
  panel.end_max = position + 1 > panel.end_max ? position + 1 : panel.end_max;
}

inline void StartPanel(const ManyArgs& args, QueryPanel& panel, int number) {
  const AttentionCall& call = *args.call;
  const int head_dim = call.pool.head_dim;
  Fill(panel.query, head_dim * kPanelRows, 0.0f);
  Fill(panel.total, head_dim * kPanelRows, 0.0f);
  ResetSplit(call, panel);
  Fill(panel.state + 2 * kPanelRows, kPanelRows, kMinusInfinity);
  Fill(panel.state + 3 * kPanelRows, kPanelRows, 0.0f);
  Fill(panel.first, kPanelRows, 0.0f);
  Fill(panel.end, kPanelRows, 0.0f);
  panel.first_max = 0;
  panel.first_min = kContextMax;
  panel.end_min = kContextMax;
  panel.end_max = 0;
  const int rows = args.task->tokens * call.Group();
  for (int column = 0; column < kPanelRows && number * kPanelRows + column < rows; ++column) {
    LoadQueryRow(args, panel, number * kPanelRows + column, column);
  }
}

// scores[key][row] = keys[.][key] * query[.][row].
inline void ScorePanel(const ManyArgs& args, const QueryPanel& panel) {
  for (int key = 0; key < kKeyBlock; key += Simd::kAttentionRows) {
    Tile<Simd::kAttentionRows, Simd::kAttentionVectors> tile;
    tile.Clear();
    tile.Accumulate(args.call->pool.head_dim, Operand<float>{args.keys + key, kKeyBlock},
                    Operand<float>{panel.query, kPanelRows});
    tile.Store(args.scores + key * kPanelRows, kPanelRows);
  }
}

// Replaces the scores that a row does not see by -inf.
inline void MaskScores(const ManyArgs& args, const QueryPanel& panel) {
  const Float hidden = Simd::Set(kMinusInfinity);
  for (int column = 0; column < kPanelRows; column += kWidth) {
    const Float first = Simd::Load(panel.first + column);
    const Float end = Simd::Load(panel.end + column);
    for (int key = 0; key < kKeyBlock; ++key) {
      float* at = args.scores + key * kPanelRows + column;
      const Float position = Simd::Set(static_cast<float>(args.block_first + key));
      const Float seen = Simd::SelectLess(position, end, Simd::Load(at), hidden);
      Simd::Store(at, Simd::SelectLess(position, first, hidden, seen));
    }
  }
}

// The sum of one row's weights in the order in which attention_one adds them:
// keys kWidth apart one after the other, then halves.
KVTIER_INLINE Float WeightSum(Float (&sums)[kWidth]) {
#pragma GCC unroll 8
  for (int half = kWidth / 2; half > 0; half /= 2) {
#pragma GCC unroll 8
    for (int i = 0; i < half; ++i) sums[i] = Simd::Add(sums[i], sums[i + half]);
  }
  return sums[0];
}

// Turns one vector of rows' scores into weights; `rescale` gets what earlier
// sums and values of the split are to be multiplied with.
inline void WeighColumn(const ManyArgs& args, float* state, float* scores, float* rescale) {
  const Float factor = Simd::Set(ScoreFactor(*args.call));
  Float top = Simd::Set(kMinusInfinity);
  for (int key = 0; key < kKeyBlock; ++key) {
    top = Simd::Max(top, Simd::Load(scores + key * kPanelRows));
  }
  const Float before = Simd::Load(state);
  const Float maximum = Simd::Max(before, Simd::Mul(top, factor));
  const Float shift = Shift(maximum);
  const Float old_factor = Exp2(Simd::Add(before, shift));
  Float sums[kWidth];
  for (int i = 0; i < kWidth; ++i) {
    Float sum = Simd::Zero();
#pragma GCC unroll 4
    for (int key = i; key < kKeyBlock; key += kWidth) {
      float* at = scores + key * kPanelRows;
      const Float weight = Exp2(Simd::Fma(Simd::Load(at), factor, shift));
      Simd::Store(at, weight);
      sum = Simd::Add(sum, weight);
    }
    sums[i] = sum;
  }
  Simd::Store(state, maximum);
  const Float old_sum = Simd::Load(state + kPanelRows);
  Simd::Store(state + kPanelRows, Simd::Fma(old_sum, old_factor, WeightSum(sums)));
  Simd::Store(rescale, old_factor);
}

// split[.][row] = split[.][row] * rescale[row] + values[key][.] *
// weights[key][row].
inline void AddValues(const ManyArgs& args, const QueryPanel& panel, const float* rescale) {
  const int head_dim = args.call->pool.head_dim;
  for (int row = 0; row < head_dim; row += Simd::kAttentionRows) {
    Tile<Simd::kAttentionRows, Simd::kAttentionVectors> tile;
    tile.Load(panel.split + row * kPanelRows, kPanelRows);
    tile.ScaleColumns(rescale);
    tile.Accumulate(kKeyBlock, Operand<float>{args.values + row, head_dim},
                    Operand<float>{args.scores, kPanelRows});
    tile.Store(panel.split + row * kPanelRows, kPanelRows);
  }
}

inline void AttendPanel(const ManyArgs& args, const QueryPanel& panel) {
  const int block_end = args.block_first + kKeyBlock;
  if (args.block_first >= panel.end_max || block_end <= panel.first_min) return;
  ScorePanel(args, panel);
  if (args.call->softcap > 0) CapScores(*args.call, args.scores, kKeyBlock * kPanelRows);
  if (block_end > panel.end_min || args.block_first < panel.first_max) MaskScores(args, panel);
  alignas(64) float rescale[kPanelRows];
  for (int column = 0; column < kPanelRows; column += kWidth) {
    WeighColumn(args, panel.state + column, args.scores + column, rescale + column);
  }
  AddValues(args, panel, rescale);
}

// Adds the split to the total and starts a new split.
inline void MergeSplit(const AttentionCall& call, const QueryPanel& panel) {
  for (int column = 0; column < kPanelRows; column += kWidth) {
    float* state = panel.state + column;
    const Blend blend = BlendMaxima(Simd::Load(state + 2 * kPanelRows), Simd::Load(state));
    const Float old_sum = Simd::Load(state + 3 * kPanelRows);
    const Float new_sum = Simd::Load(state + kPanelRows);
    Simd::Store(state + 2 * kPanelRows, blend.maximum);
    Simd::Store(state + 3 * kPanelRows, BlendSums(blend, old_sum, new_sum));
    for (int i = 0; i < call.pool.head_dim; ++i) {
      const int at = i * kPanelRows + column;
      const Float old_value = Simd::Load(panel.total + at);
      const Float new_value = Simd::Load(panel.split + at);
      Simd::Store(panel.total + at, BlendSums(blend, old_value, new_value));
    }
  }
  ResetSplit(call, panel);
}

inline void WritePanelRows(const ManyArgs& args, const QueryPanel& panel, int number) {
  const AttentionCall& call = *args.call;
  const Sequence& sequence = call.sequences[args.task->sequence];
  const int head_dim = call.pool.head_dim;
  for (int column = 0; column < kPanelRows; column += kWidth) {
    const Float sum = Simd::Load(panel.state + 3 * kPanelRows + column);
    for (int i = 0; i < head_dim; ++i) {
      float* at = panel.total + i * kPanelRows + column;
      Simd::Store(at, Simd::Div(Simd::Load(at), sum));
    }
  }
  const int group = call.Group();
  const int rows = args.task->tokens * group - number * kPanelRows;
  for (int column = 0; column < kPanelRows && column < rows; ++column) {
    const int row = number * kPanelRows + column;
    const int token = sequence.query_start + args.task->first_token + row / group;
    const std::ptrdiff_t offset =
        HeadOffset(call.out, token, args.task->kv_head * group + row % group);
    for (int i = 0; i < head_dim; ++i) {
      const float value = panel.total[i * kPanelRows + column];
      StoreElement(call.out.data, call.dtype, offset + i, value);
    }
  }
}

// Lays the panels out in `memory` and returns how many floats one takes.
inline std::size_t PlacePanel(const AttentionCall& call, float* memory, QueryPanel& panel) {
  const int plane = call.pool.head_dim * kPanelRows;
  panel.query = memory;
  panel.split = panel.query + plane;
  panel.total = panel.split + plane;
  panel.state = panel.total + plane;
  panel.first = panel.state + 4 * kPanelRows;
  panel.end = panel.first + kPanelRows;
  return static_cast<std::size_t>(3 * plane + 6 * kPanelRows);
}

inline constexpr int kTaskPanelsMax = 64;

inline void AttendBlocks(ManyArgs& args, QueryPanel* panels, int count) {
  const AttentionCall& call = *args.call;
  const Sequence& sequence = call.sequences[args.task->sequence];
  const int first_position = sequence.FirstPosition() + args.task->first_token;
  const int end = first_position + args.task->tokens;
  const int first = call.FirstKey(first_position) / kKeyBlock * kKeyBlock;
  for (int block_first = first; block_first < end; block_first += kKeyBlock) {
    args.block_first = block_first;
    KeyBlock block;
    block.count = end - block_first < kKeyBlock ? end - block_first : kKeyBlock;
    FindKeys(call, *args.task, block_first, block);
    LoadKeysTransposed(block, args.keys);
    LoadValues(block, args.values);
    for (int i = 0; i < count; ++i) AttendPanel(args, panels[i]);
    const int next = block_first + kKeyBlock;
    if (next % kKeySplit == 0 || next >= end) {
      for (int i = 0; i < count; ++i) MergeSplit(call, panels[i]);
    }
  }
}

inline void AttentionMany(const AttentionCall& call, const AttentionTask& task) {
  QueryPanel panels[kTaskPanelsMax];
  const int count = (task.tokens * call.Group() + kPanelRows - 1) / kPanelRows;
  const std::size_t panel_floats = PlacePanel(call, nullptr, panels[0]);
  const std::size_t plane = static_cast<std::size_t>(call.pool.head_dim) * kKeyBlock;
  float* memory = ThreadWorkspace().Floats(2 * plane + kKeyBlock * kPanelRows +
                                           static_cast<std::size_t>(count) * panel_floats);
  ManyArgs args{&call, &task, memory, memory + plane, memory + 2 * plane, 0};
  float* next = args.scores + kKeyBlock * kPanelRows;
  for (int i = 0; i < count; ++i) {
    next += PlacePanel(call, next, panels[i]);
    StartPanel(args, panels[i], i);
  }
  AttendBlocks(args, panels, count);
  for (int i = 0; i < count; ++i) WritePanelRows(args, panels[i], i);
}
