// Causal attention with grouped query heads, straight out of the page pool.
#pragma once

#include "batch.h"
#include "types.h"

namespace kvtier::kernels {

// Keys are walked in absolute order, in blocks of kKeyBlock aligned at position
// 0, with an online softmax that starts afresh every kKeySplit keys; the
// splits' results are merged in order. Nothing of that depends on how a prompt
// was chunked, on the other sequences of the batch or on the threads, and both
// kernels below round alike, so neither does the answer.
inline constexpr int kKeyBlock = 64;
inline constexpr int kKeySplit = 512;

// Query heads that share a kv head.
inline constexpr int kGroupMax = 256;

// Positions are compared as float32, which counts exactly up to here.
inline constexpr int kContextMax = 1 << 24;

// One call. query is [tokens, heads, head_dim] and so is out; their rows are
// the batch's.
struct AttentionCall {
  const Batch* batch = nullptr;
  PagePool pool;
  Heads query;
  Heads out;
  Dtype dtype = Dtype::kFloat32;  // of query and out
  float scale = 0;
  int window = 0;     // keys that a query sees, itself included; 0: all before it
  float softcap = 0;  // scores become softcap * tanh(score / softcap); 0: as they are

  // Set by Attention: the batch's sequences, and room for what attention_one
  // leaves for attention_merge.
  const Sequence* sequences = nullptr;
  float* partials = nullptr;

  int Group() const { return query.heads / pool.kv_heads; }
  // Floats of one partial result: maximum and sum of each head, then the heads'
  // outputs.
  int PartialFloats() const { return Group() * (pool.head_dim + 2); }
  // The first key that the query at `position` sees.
  int FirstKey(int position) const {
    return window > 0 && position >= window ? position - window + 1 : 0;
  }
};

// What one task computes for one kv head and the query heads that share it:
// attention_many: some query tokens over all their keys;
// attention_one: one query token over the keys of one split, into
// partials[partial]; attention_merge: one query token from `splits` partials.
struct AttentionTask {
  int sequence = 0;
  int kv_head = 0;
  int first_token = 0;
  int tokens = 0;
  int split = 0;
  int splits = 0;
  int partial = 0;
};

// Throws std::invalid_argument for a call that is not as AttentionCall says.
// The keys and values of all the batch's tokens are in the pool already.
void Attention(AttentionCall call);

}  // namespace kvtier::kernels
