#pragma once

#include <sys/uio.h>

#include <cstdint>
#include <span>

#include "device.h"

namespace kvtier {

// Drops `bytes` from the front of `pieces`.
std::span<iovec> Advance(std::span<iovec> pieces, std::size_t bytes);

using Transfer = ssize_t (*)(int, const iovec*, int, off_t);

// Repeats `transfer` (preadv, pwritev) until every byte has moved. A transfer may end anywhere (a
// signal, the kernel's 2 GiB limit); what is left then may no longer be aligned, which direct I/O
// answers with EINVAL: an error, never silence. Changes `pieces`.
IoStatus MoveAll(Transfer transfer, int fd, std::span<iovec> pieces, std::uint64_t offset);

}  // namespace kvtier
