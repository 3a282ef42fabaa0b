#include "batch.h"

#include <algorithm>
#include <string>

namespace kvtier::kernels {
namespace {

std::string Of(int sequence) { return " of sequence " + std::to_string(sequence); }

}  // namespace

Batch::Batch(const BatchArrays& arrays) : page_tokens_(arrays.page_tokens) {
  Require(arrays.sequences >= 0 && arrays.table_stride >= 0,
          "batch: sequences and table_stride must not be negative");
  Require(arrays.page_tokens >= 1, "batch: page_tokens must be at least 1");
  if (arrays.sequences == 0) return;
  Require(
      arrays.query_starts != nullptr && arrays.contexts != nullptr && arrays.page_tables != nullptr,
      "batch: an address is null");
  Require(arrays.query_starts[0] == 0, "batch: query_starts must begin with 0");
  const std::size_t size =
      static_cast<std::size_t>(arrays.sequences) * static_cast<std::size_t>(arrays.table_stride);
  page_tables_.assign(arrays.page_tables, arrays.page_tables + size);
  sequences_.reserve(static_cast<std::size_t>(arrays.sequences));
  for (int number = 0; number < arrays.sequences; ++number) AddSequence(arrays, number);
  tokens_ = arrays.query_starts[arrays.sequences];
}

void Batch::AddSequence(const BatchArrays& arrays, int number) {
  Sequence sequence;
  sequence.query_start = arrays.query_starts[number];
  sequence.tokens = arrays.query_starts[number + 1] - sequence.query_start;
  sequence.context = arrays.contexts[number];
  sequence.pages = page_tables_.data() + static_cast<std::ptrdiff_t>(number) * arrays.table_stride;
  Require(sequence.tokens >= 0, "batch: query_starts descends after that" + Of(number));
  Require(sequence.context >= sequence.tokens,
          "batch: the context" + Of(number) + ", " + std::to_string(sequence.context) +
              " tokens, is less than its " + std::to_string(sequence.tokens) + " query tokens");
  const int pages = sequence.context / page_tokens_ + (sequence.context % page_tokens_ != 0);
  Require(pages <= arrays.table_stride,
          "batch: the page table" + Of(number) + " has " + std::to_string(arrays.table_stride) +
              " entries, and its context needs " + std::to_string(pages));
  for (int i = 0; i < pages; ++i) {
    Require(sequence.pages[i] >= 0, "batch: page " + std::to_string(i) + Of(number) + " is " +
                                        std::to_string(sequence.pages[i]));
    page_max_ = std::max(page_max_, static_cast<int>(sequence.pages[i]));
  }
  sequences_.push_back(sequence);
}

void Batch::CheckPool(const PagePool& pool) const {
  Require(pool.page_tokens == page_tokens_,
          "the batch has pages of " + std::to_string(page_tokens_) + " tokens, the pool of " +
              std::to_string(pool.page_tokens));
  Require(page_max_ < pool.pages, "the batch names page " + std::to_string(page_max_) +
                                      ", and the pool has " + std::to_string(pool.pages));
}

void CheckPool(const PagePool& pool) {
  Require(pool.data != nullptr, "page pool: the address is null");
  Require(pool.pages >= 1 && pool.kv_heads >= 1 && pool.page_tokens >= 1,
          "page pool: pages, kv_heads and page_tokens must be at least 1");
  Require(pool.head_dim >= kHeadDimMin && pool.head_dim <= kHeadDimMax &&
              pool.head_dim % kHeadDimStep == 0,
          "head_dim must be a multiple of " + std::to_string(kHeadDimStep) + " from " +
              std::to_string(kHeadDimMin) + " to " + std::to_string(kHeadDimMax) + ", not " +
              std::to_string(pool.head_dim));
  Require(pool.token_stride >= pool.head_dim, "page pool: token_stride is less than head_dim");
}

}  // namespace kvtier::kernels
