#pragma once

#include <atomic>
#include <cstdint>
#include <memory>

#include "device.h"

namespace kvtier {

// Bytes that crossed the border to a disk. Thread-safe.
struct DiskTraffic {
  std::atomic<std::uint64_t> read_bytes{0};
  std::atomic<std::uint64_t> written_bytes{0};
};

// `inner`, with every byte that its files move counted in `traffic`, which outlives it: of
// transfers that failed as well, as what they moved is not known.
std::unique_ptr<Device> MakeMetered(std::unique_ptr<Device> inner, DiskTraffic& traffic);

}  // namespace kvtier
