#pragma once

#include <array>
#include <atomic>
#include <cstdint>

#include "status.h"

namespace kvtier {

// What a store has done since it was opened. Thread-safe.
struct Counters {
  std::atomic<std::uint64_t> hits{0};
  std::atomic<std::uint64_t> misses{0};
  std::array<std::atomic<std::uint64_t>, kCorruptions> corrupt{};
  std::atomic<std::uint64_t> read_bytes{0};
  std::atomic<std::uint64_t> written_bytes{0};
  std::atomic<std::uint64_t> dropped_writes{0};
  std::atomic<std::uint64_t> not_admitted{0};
  std::atomic<std::uint64_t> timed_out_reads{0};
  std::atomic<std::uint64_t> io_errors{0};
};

}  // namespace kvtier
