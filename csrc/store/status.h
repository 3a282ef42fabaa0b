#pragma once

#include <cstddef>

namespace kvtier {

// How a request to the store ended. Every request ends exactly once, with one of these.
enum class [[nodiscard]] Status {
  kOk,              // get: every byte verified; put: written (durable after flush)
  kMiss,            // get: not there
  kCorrupt,         // get: header, key or checksum disagreed; the page is dropped (a miss)
  kIoError,         // get, put: the device failed (a miss)
  kTimedOut,        // get: deadline passed; the memory may be reused only now
  kAlreadyPresent,  // put: there already, or being written by an earlier put
  kNoRoom,          // put: everything is pinned or being read, or the file system is full
  kDropped,         // put: the write queue is full, or the store is degraded
  kCancelled,       // the store was closed first
  kNotAdmitted,     // put: the admission rule does not want it yet
};

// Why the bytes of a slot were not those of the page asked for.
enum class Corruption : std::size_t {
  kShort,      // the file ends before the slot does
  kHeader,     // the header is not one: zeroed, torn, bit-flipped
  kVersion,    // written by another format version
  kForeign,    // written by another store
  kNamespace,  // of another namespace
  kKey,        // another page's (swapped, or the slot was reused)
  kSequence,   // an older or newer write of the same page than the index knows
  kLength,     // the payload has another length
  kChecksum,   // the payload is not what was written
};
inline constexpr std::size_t kCorruptions = 9;

// The name of a cause in counters: "short", "header", ...
const char* CorruptionName(Corruption cause);

}  // namespace kvtier
