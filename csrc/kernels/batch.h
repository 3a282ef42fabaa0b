// The sequences of one model step and where their tokens lie in the page pool.
#pragma once

#include <cstdint>
#include <vector>

#include "types.h"

namespace kvtier::kernels {

// What the caller hands over: int32 arrays, read once.
struct BatchArrays {
  const std::int32_t* query_starts = nullptr;  // [sequences + 1], rows of the step's tokens
  const std::int32_t* contexts = nullptr;      // [sequences], tokens with this step's
  const std::int32_t* page_tables = nullptr;   // [sequences][table_stride], pages in order
  int sequences = 0;
  int table_stride = 0;
  int page_tokens = 0;
};

// A sequence's part in a step: `tokens` query rows from `query_start`, which
// are the last ones of its `context` tokens, whose pages are pages[0],
// pages[1], ...
struct Sequence {
  int query_start = 0;
  int tokens = 0;
  int context = 0;
  const std::int32_t* pages = nullptr;

  int FirstPosition() const { return context - tokens; }
};

// Copies and checks the arrays once a step, so that each layer's calls need
// not. Throws std::invalid_argument where they contradict one another.
class Batch {
 public:
  explicit Batch(const BatchArrays& arrays);
  Batch(const Batch&) = delete;  // sequences point into page_tables_
  Batch& operator=(const Batch&) = delete;

  const std::vector<Sequence>& sequences() const { return sequences_; }
  int page_tokens() const { return page_tokens_; }
  int tokens() const { return tokens_; }
  // Throws unless every page of the batch lies in `pool`, of the batch's
  // page_tokens.
  void CheckPool(const PagePool& pool) const;

 private:
  void AddSequence(const BatchArrays& arrays, int number);

  std::vector<Sequence> sequences_;
  std::vector<std::int32_t> page_tables_;
  int page_tokens_;
  int tokens_ = 0;
  int page_max_ = -1;
};

// Throws unless the pool's shape is one that the kernels support.
void CheckPool(const PagePool& pool);

}  // namespace kvtier::kernels
