#include "eviction.h"

namespace kvtier {
namespace {

class Lru : public EvictionPolicy {
 public:
  std::uint64_t OnInsert() override { return ++uses_; }
  std::uint64_t OnUse(bool) override { return ++uses_; }

 private:
  std::uint64_t uses_ = 0;
};

// Most pages of a chat are never read again; those that were, are read once more by the next turn.
// So a page that was read outlives some stores full of pages that were not. On small stores that
// gives back much of what ARC does (docs/benchmarks.md has the traces), at no memory.
class KeepReused : public EvictionPolicy {
 public:
  explicit KeepReused(std::uint64_t pages_max) : bonus_(kStoresFull * pages_max) {}

  std::uint64_t OnInsert() override { return ++uses_; }
  std::uint64_t OnUse(bool was_read) override { return ++uses_ + (was_read ? bonus_ : 0); }

 private:
  static constexpr std::uint64_t kStoresFull = 4;

  const std::uint64_t bonus_;
  std::uint64_t uses_ = 0;
};

}  // namespace

std::unique_ptr<EvictionPolicy> MakeEvictionPolicy(Eviction eviction, std::uint64_t pages_max) {
  if (eviction == Eviction::kKeepReused) return std::make_unique<KeepReused>(pages_max);
  return std::make_unique<Lru>();
}

}  // namespace kvtier
