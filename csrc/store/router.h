#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <vector>

#include "catalog.h"
#include "lane.h"

namespace kvtier {

// Which directory a new page goes to. Thread-safe.
class Router {
 public:
  // One entry per directory: its most slots.
  explicit Router(std::vector<std::uint64_t> slots_max);

  // By capacity, so that pages stay as long in one directory as in another; once all are full,
  // where the page lies that should go. Another one if that lags behind, so that each writes as
  // fast as it can. Nothing when none takes writes.
  std::optional<std::size_t> Choose(std::span<const std::shared_ptr<Lane>> lanes,
                                    const Catalog& catalog);

 private:
  void Update(std::span<const std::shared_ptr<Lane>> lanes);
  double Share(std::size_t directory) const;

  const std::vector<std::uint64_t> slots_max_;
  std::mutex mutex_;                 // guards the rest
  std::vector<std::uint64_t> sent_;  // pages sent to each directory
  std::vector<bool> takes_writes_;
};

}  // namespace kvtier
