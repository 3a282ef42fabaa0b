#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "admission.h"
#include "device.h"
#include "eviction.h"
#include "timeline.h"

namespace kvtier {

// How slots are read and written. Threads wait for their calls in both.
enum class IoEngine {
  kAuto,     // kIoUring where the kernel and the sandbox allow it, else kThreads
  kThreads,  // preadv and pwritev
  kIoUring,  // slots in parts, so that checksums overlap with transfers
};

// Every field has a default that suits one NVMe disk. Times in seconds, sizes in bytes.
struct StoreOptions {
  // Reads and writes at once per directory, each with a thread. More than the disk does in
  // parallel only adds latency; a read_depth of 0 is what ReadDepthFor says.
  int read_depth = 0;
  int write_depth = 2;
  IoEngine io_engine = IoEngine::kAuto;
  // Pages that may wait to be written, over all directories; a put beyond is dropped.
  std::size_t write_queue = 256;
  // A read that has not begun by then ends as kTimedOut.
  double read_timeout_s = 10.0;
  // A read, write or sync that runs longer takes its directory out of use until it is seen to work.
  double stall_timeout_s = 5.0;
  // How long after that, or after it could not be opened, the directory is tried again; doubled up
  // to 32 times while it fails.
  double probe_interval_s = 1.0;
  // A directory that takes longer to open joins the store whenever it is ready.
  double open_timeout_s = 60.0;
  // Close waits no longer than this for a disk that does not answer.
  double close_timeout_s = 30.0;
  // What a put that was reported may take to become durable by itself.
  double commit_interval_s = 0.5;
  Eviction eviction = Eviction::kLru;
  AdmissionRule admission;
  // What the store leaves free on each file system.
  std::uint64_t reserve_bytes = std::uint64_t{1} << 30;
  // For tests: what stands between the store and the directory at a path.
  std::function<std::unique_ptr<Device>(const std::string& path)> open_device;
  // For tests: the time of day, in seconds since 1970.
  std::function<std::uint64_t()> unix_now = UnixNow;

  // Throws StoreError that names the field, the value and the bounds.
  void Validate() const;
  // What kAuto comes to here.
  IoEngine EngineInUse() const;
  // What 0 comes to for pages of this size: reads of 4 MiB together, as measured in
  // docs/benchmarks.md, but 4 at least and 16 at most.
  int ReadDepthFor(std::uint64_t page_bytes) const;
};

}  // namespace kvtier
