#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <string>

namespace kvtier {

// What a scrub has found.
struct ScrubReport {
  std::uint64_t pages_total = 0;  // there when it began
  std::uint64_t pages = 0;        // read and compared
  std::uint64_t bytes = 0;        // payload of those
  std::uint64_t skipped = 0;      // gone meanwhile, or in a directory out of use
  std::uint64_t unreadable = 0;   // the disk failed
  std::map<std::string, std::uint64_t>
      bad;               // by cause, as in StoreStats::corrupt; only those found
  bool stopped = false;  // by the caller, or as the store was closed
};

// Called after every page; false stops.
using ScrubProgress = std::function<bool(const ScrubReport& so_far)>;

struct ScrubOptions {
  std::uint64_t bytes_per_s = 0;  // 0: as fast as the disk
};

}  // namespace kvtier
