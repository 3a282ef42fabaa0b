#include "stats.h"

#include <utility>

namespace kvtier {

void StoreStats::Add(DirectoryStats directory) {
  capacity_pages += directory.capacity_pages;
  capacity_bytes += directory.capacity_bytes;
  used_bytes += directory.used_bytes;
  disk_read_bytes += directory.disk_read_bytes;
  disk_written_bytes += directory.disk_written_bytes;
  disk_written_bytes_last_day += directory.disk_written_bytes_last_day;
  lifetime_written_bytes += directory.lifetime_written_bytes;
  lifetime_disk_written_bytes += directory.lifetime_disk_written_bytes;
  lifetime_hit_bytes += directory.lifetime_hit_bytes;
  reads_queued += directory.reads_queued;
  writes_queued += directory.writes_queued;
  if (degraded_reason.empty()) degraded_reason = directory.out_of_use_reason;
  degraded = !degraded_reason.empty();
  directories.push_back(std::move(directory));
}

}  // namespace kvtier
