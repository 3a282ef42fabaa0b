#include "options.h"

#include <algorithm>

#include "error.h"
#include "uring.h"

namespace kvtier {
namespace {

void Require(bool holds, const std::string& field, const std::string& value,
             const std::string& bounds) {
  if (!holds) throw StoreError("store option " + field + " is " + value + ": it must be " + bounds);
}

constexpr int kDepthMax = 128;
constexpr std::uint64_t kReadBytesAtOnce = std::uint64_t{4} << 20;
constexpr std::size_t kWriteQueueMax = 1 << 20;
constexpr double kSecondsMax = 3600;

}  // namespace

IoEngine StoreOptions::EngineInUse() const {
  if (io_engine != IoEngine::kAuto) return io_engine;
  return Uring::OfThisThread() == nullptr ? IoEngine::kThreads : IoEngine::kIoUring;
}

int StoreOptions::ReadDepthFor(std::uint64_t page_bytes) const {
  if (read_depth != 0) return read_depth;
  return static_cast<int>(std::clamp<std::uint64_t>(kReadBytesAtOnce / page_bytes, 4, 16));
}

void StoreOptions::Validate() const {
  Require(read_depth >= 0 && read_depth <= kDepthMax, "read_depth", std::to_string(read_depth),
          "0 (by the size of a page) to 128");
  Require(write_depth >= 1 && write_depth <= kDepthMax, "write_depth", std::to_string(write_depth),
          "1 to 128");
  if (io_engine == IoEngine::kIoUring && Uring::OfThisThread() == nullptr) {
    throw StoreError(
        "store option io_engine is io_uring, which this kernel or a sandbox (a container's seccomp "
        "profile, the sysctl kernel.io_uring_disabled) forbids: allow it, or take auto");
  }
  Require(admission.sightings_min >= 1 && admission.sightings_min <= Admission::kSightingsMax,
          "admit_sightings_min", std::to_string(admission.sightings_min), "1 to 15");
  Require(write_queue >= 1 && write_queue <= kWriteQueueMax, "write_queue",
          std::to_string(write_queue), "1 to 1048576 pages");
  Require(read_timeout_s > 0 && read_timeout_s <= kSecondsMax, "read_timeout_s",
          std::to_string(read_timeout_s), "above 0 and up to 3600 seconds");
  Require(stall_timeout_s > 0 && stall_timeout_s <= kSecondsMax, "stall_timeout_s",
          std::to_string(stall_timeout_s), "above 0 and up to 3600 seconds");
  Require(open_timeout_s > 0 && open_timeout_s <= kSecondsMax, "open_timeout_s",
          std::to_string(open_timeout_s), "above 0 and up to 3600 seconds");
  Require(close_timeout_s >= 0 && close_timeout_s <= kSecondsMax, "close_timeout_s",
          std::to_string(close_timeout_s), "0 to 3600 seconds");
  Require(probe_interval_s > 0 && probe_interval_s <= kSecondsMax, "probe_interval_s",
          std::to_string(probe_interval_s), "above 0 and up to 3600 seconds");
  Require(commit_interval_s >= 0 && commit_interval_s <= kSecondsMax, "commit_interval_s",
          std::to_string(commit_interval_s), "0 to 3600 seconds");
}

}  // namespace kvtier
