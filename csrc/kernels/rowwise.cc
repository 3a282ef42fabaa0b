#include "rowwise.h"

#include <algorithm>
#include <string>
#include <vector>

#include "isa.h"
#include "thread_pool.h"

namespace kvtier::kernels {
namespace {

// Elements below which a second thread costs more than it saves.
constexpr int kTaskElements = 8192;

// Calls body(row) for each row, on several threads where there is enough to do.
template <typename Body>
void ForRows(int rows, int row_elements, const Body& body) {
  const int task_rows = std::max(1, kTaskElements / std::max(1, row_elements));
  ThreadPool& pool = ThreadPool::Get();
  const std::lock_guard lock(pool.mutex());
  pool.Run((rows + task_rows - 1) / task_rows, [&](int task) {
    const int end = std::min(rows, (task + 1) * task_rows);
    for (int row = task * task_rows; row < end; ++row) body(row);
  });
}

// Without rows nothing is read, and the address may be null (torch's empty
// tensors).
void CheckRows(const Rows& rows, int count, int size, const std::string& what) {
  if (count == 0) return;
  Require(rows.data != nullptr, what + " is null");
  Require(count <= 1 || rows.stride >= size,
          what + ": its row stride " + std::to_string(rows.stride) + " is less than the row size " +
              std::to_string(size));
}

void CheckRopeWrite(const RopeWriteCall& call) {
  CheckPool(call.pool);
  call.batch->CheckPool(call.pool);
  Require(call.query.data != nullptr && call.key.data != nullptr && call.value.data != nullptr,
          "rope_write: the address of the queries, keys or values is null");
  Require(call.cos != nullptr && call.sin != nullptr, "rope_write: a table's address is null");
  Require(call.rotary_dim >= 2 && call.rotary_dim % 2 == 0 && call.rotary_dim <= call.pool.head_dim,
          "rope_write: rotary_dim must be even and 2 to head_dim, not " +
              std::to_string(call.rotary_dim));
  for (const Sequence& sequence : call.batch->sequences()) {
    Require(sequence.context <= call.positions, "rope_write: a context of " +
                                                    std::to_string(sequence.context) +
                                                    " tokens is longer than the tables' " +
                                                    std::to_string(call.positions) + " positions");
  }
}

std::vector<TokenPlace> Places(const Batch& batch) {
  std::vector<TokenPlace> places;
  places.reserve(static_cast<std::size_t>(batch.tokens()));
  for (const Sequence& sequence : batch.sequences()) {
    for (int i = 0; i < sequence.tokens; ++i) {
      TokenPlace place;
      place.row = sequence.query_start + i;
      place.position = sequence.FirstPosition() + i;
      place.page = sequence.pages[place.position / batch.page_tokens()];
      place.token = place.position % batch.page_tokens();
      places.push_back(place);
    }
  }
  return places;
}

}  // namespace

void RmsNorm(const RmsNormCall& call) {
  Require(call.rows >= 0 && call.size >= 1, "rms_norm: rows must be 0 or more, size 1 or more");
  CheckRows(call.x, call.rows, call.size, "rms_norm: x");
  CheckRows(call.out, call.rows, call.size, "rms_norm: out");
  if (call.residual.data != nullptr) {
    CheckRows(call.residual, call.rows, call.size, "rms_norm: residual");
  }
  Require(call.weight != nullptr, "rms_norm: the weight's address is null");
  const KernelTable& kernels = Kernels();
  ForRows(call.rows, call.size, [&](int row) { kernels.rms_norm_row(call, row); });
}

void SiluMul(const SiluMulCall& call) {
  Require(call.rows >= 0 && call.size >= 1, "silu_mul: rows must be 0 or more, size 1 or more");
  CheckRows(call.gate, call.rows, call.size, "silu_mul: gate");
  CheckRows(call.up, call.rows, call.size, "silu_mul: up");
  CheckRows(call.out, call.rows, call.size, "silu_mul: out");
  const KernelTable& kernels = Kernels();
  ForRows(call.rows, 2 * call.size, [&](int row) { kernels.silu_mul_row(call, row); });
}

void RopeWrite(const RopeWriteCall& call) {
  if (call.batch->tokens() == 0) return;
  CheckRopeWrite(call);
  const KernelTable& kernels = Kernels();
  const std::vector<TokenPlace> places = Places(*call.batch);
  const int row_elements = (call.query.heads + 2 * call.pool.kv_heads) * call.pool.head_dim;
  ForRows(static_cast<int>(places.size()), row_elements,
          [&](int row) { kernels.rope_write_token(call, places[static_cast<std::size_t>(row)]); });
}

}  // namespace kvtier::kernels
