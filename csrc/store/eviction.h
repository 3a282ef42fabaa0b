#pragma once

#include <cstdint>
#include <memory>

namespace kvtier {

enum class Eviction {
  kLru,         // least recently used first
  kKeepReused,  // the same, but a page that was read since it was written counts as far younger
};

// The order in which pages leave: of two that may go, the one of lower rank goes first. A page gets
// a rank when it is written and a new one at each use. What may go at all (leaves, neither read nor
// pinned) is not its matter. Not thread-safe.
class EvictionPolicy {
 public:
  virtual ~EvictionPolicy() = default;

  virtual std::uint64_t OnInsert() = 0;
  // `was_read`: at this use, or earlier.
  virtual std::uint64_t OnUse(bool was_read) = 0;
};

// For a store of so many pages.
std::unique_ptr<EvictionPolicy> MakeEvictionPolicy(Eviction eviction, std::uint64_t pages_max);

}  // namespace kvtier
