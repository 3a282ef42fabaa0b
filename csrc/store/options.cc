#include "options.h"

#include "error.h"
#include "uring.h"

namespace kvtier {
namespace {

void Require(bool holds, const std::string& field, const std::string& value,
             const std::string& bounds) {
  if (!holds) throw StoreError("store option " + field + " is " + value + ": it must be " + bounds);
}

constexpr int kThreadsMax = 256;
constexpr std::size_t kWriteQueueMax = 1 << 20;
constexpr double kSecondsMax = 3600;

}  // namespace

IoEngine StoreOptions::EngineInUse() const {
  if (io_engine != IoEngine::kAuto) return io_engine;
  return Uring::OfThisThread() == nullptr ? IoEngine::kThreads : IoEngine::kIoUring;
}

void StoreOptions::Validate() const {
  Require(read_depth >= 1 && read_depth < kThreadsMax, "read_depth", std::to_string(read_depth),
          "1 to 255");
  Require(io_threads > read_depth && io_threads <= kThreadsMax, "io_threads",
          std::to_string(io_threads), "more than read_depth (the rest write), 256 at most");
  if (io_engine == IoEngine::kIoUring && Uring::OfThisThread() == nullptr) {
    throw StoreError(
        "store option io_engine is io_uring, which this kernel or a sandbox (a container's seccomp "
        "profile, the sysctl kernel.io_uring_disabled) forbids: allow it, or take auto");
  }
  Require(write_queue >= 1 && write_queue <= kWriteQueueMax, "write_queue",
          std::to_string(write_queue), "1 to 1048576 pages");
  Require(read_timeout_s > 0 && read_timeout_s <= kSecondsMax, "read_timeout_s",
          std::to_string(read_timeout_s), "above 0 and up to 3600 seconds");
  Require(stall_timeout_s > 0 && stall_timeout_s <= kSecondsMax, "stall_timeout_s",
          std::to_string(stall_timeout_s), "above 0 and up to 3600 seconds");
  Require(probe_interval_s > 0 && probe_interval_s <= kSecondsMax, "probe_interval_s",
          std::to_string(probe_interval_s), "above 0 and up to 3600 seconds");
  Require(commit_interval_s >= 0 && commit_interval_s <= kSecondsMax, "commit_interval_s",
          std::to_string(commit_interval_s), "0 to 3600 seconds");
}

}  // namespace kvtier
