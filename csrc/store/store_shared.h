#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <numeric>
#include <vector>

#include "admission.h"
#include "catalog.h"
#include "completions.h"
#include "counters.h"
#include "options.h"
#include "superblock.h"

namespace kvtier {

// What the directories of one store share. Outlives the store where a disk hangs.
struct StoreShared {
  StoreShared(const StoreOptions& with, const PageGeometry& of,
              const std::vector<std::uint64_t>& slots_max)
      : options(with),
        pages(of),
        catalog(slots_max, with.eviction),
        admission(with.admission,
                  std::accumulate(slots_max.begin(), slots_max.end(), std::uint64_t{0})) {}

  const StoreOptions options;
  const PageGeometry pages;
  Catalog catalog;
  Admission admission;
  Completions completions;
  Counters counters;
  std::atomic<std::uint64_t> next_sequence{1};
  std::atomic<std::size_t> writes_waiting{0};  // accepted and not yet ended
};

}  // namespace kvtier
