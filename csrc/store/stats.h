#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "options.h"

namespace kvtier {

// One directory of a store. Counters are since open, bytes are payload bytes unless named
// otherwise.
struct DirectoryStats {
  std::string path;
  bool is_open = false;       // false: it could not be opened so far
  bool reads_in_use = false;  // its pages can be found
  bool writes_in_use = false;
  std::string out_of_use_reason;  // a sentence; empty when both are in use
  bool direct_io = false;         // past the page cache
  std::uint64_t pages = 0;
  std::uint64_t capacity_pages = 0;
  std::uint64_t capacity_bytes = 0;  // on disk, as given
  std::uint64_t used_bytes = 0;      // on disk
  std::uint64_t read_bytes = 0;
  std::uint64_t written_bytes = 0;
  // Everything that crossed to and from the disk: headers, padding and journal as well.
  std::uint64_t disk_read_bytes = 0;
  std::uint64_t disk_written_bytes = 0;
  std::uint64_t disk_written_bytes_last_day = 0;  // in 24 hours, whichever process wrote them
  // In the directory's whole life.
  std::uint64_t lifetime_written_bytes = 0;
  std::uint64_t lifetime_disk_written_bytes = 0;
  std::uint64_t lifetime_hit_bytes = 0;
  std::uint64_t io_errors = 0;
  std::uint64_t reads_queued = 0;
  std::uint64_t writes_queued = 0;
  // Seconds since open in which a read (a write) of a page ran: what it moved over this is its
  // rate.
  double reads_busy_s = 0;
  double writes_busy_s = 0;
};

// A whole store: counters since open, and gauges. Sums over the directories where those have the
// same field.
struct StoreStats {
  IoEngine io_engine = IoEngine::kAuto;  // in use: never kAuto
  std::uint64_t pages = 0;
  std::uint64_t capacity_pages = 0;
  std::uint64_t capacity_bytes = 0;
  std::uint64_t used_bytes = 0;
  std::uint64_t recovered_pages = 0;  // when it was opened
  double recovery_s = 0;
  std::uint64_t hits = 0;
  std::uint64_t misses = 0;
  std::map<std::string, std::uint64_t> corrupt;  // by cause; only causes that occurred
  std::uint64_t read_bytes = 0;
  std::uint64_t written_bytes = 0;
  std::uint64_t disk_read_bytes = 0;
  std::uint64_t disk_written_bytes = 0;
  std::uint64_t disk_written_bytes_last_day = 0;
  std::uint64_t lifetime_written_bytes = 0;
  std::uint64_t lifetime_disk_written_bytes = 0;
  std::uint64_t lifetime_hit_bytes = 0;
  std::uint64_t evicted = 0;
  std::uint64_t dropped_writes = 0;
  std::uint64_t not_admitted = 0;
  std::uint64_t timed_out_reads = 0;
  std::uint64_t io_errors = 0;
  bool degraded = false;        // a directory is out of use
  std::string degraded_reason;  // of the first such; empty when none is
  std::uint64_t reads_queued = 0;
  std::uint64_t writes_queued = 0;
  std::vector<DirectoryStats> directories;  // in the order given at open

  // Appends the directory and adds it to the sums.
  void Add(DirectoryStats directory);
};

}  // namespace kvtier
