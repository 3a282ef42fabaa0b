#pragma once

#include <sys/uio.h>

#include <cstdint>
#include <span>

#include "device.h"
#include "uring.h"

namespace kvtier {

// One transfer in parts, two of which are at the device at a time, so that the caller can work on
// one part (checksum it, copy it) while the next ones move. Parts of half a MiB and more: smaller
// ones cost more in turns than they hide. Contracts as File::ReadInParts and WriteInParts.
IoStatus ReadInParts(Uring& ring, int fd, std::span<const iovec> pieces, std::uint64_t offset,
                     const Progress& arrived);
IoStatus WriteInParts(Uring& ring, int fd, std::span<const iovec> pieces, std::uint64_t offset,
                      const Progress& prepare);

}  // namespace kvtier
