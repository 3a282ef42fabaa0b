#pragma once

#include <cstddef>

namespace kvtier {

// What an operating system can tell of memory and do to it. Functions that act return an errno
// value, or 0; where the system cannot, ENOTSUP.

// Bytes of one explicit huge page behind `fd`; 0 if it is other memory, or not known.
std::size_t HugePageBytes(int fd);

// Whether shared memory may be backed by transparent huge pages, and the wish for it.
bool SharedMemoryMayBeHuge();
int AdviseHuge(std::byte* begin, std::size_t bytes);

// Gathers the pages of a populated range, begun at a multiple of 2 MiB, into huge ones, also where
// SharedMemoryMayBeHuge says no (Linux 6.1). What is being read or written by a device stays as it
// is.
int CollapseToHuge(std::byte* begin, std::size_t bytes);

// Binds a range to a NUMA node. Only pages not yet populated move.
int BindToNode(std::byte* begin, std::size_t bytes, int node);

// Allocates the pages of a range of the mapping of `fd` that begins there at `offset`.
int Populate(std::byte* begin, std::size_t bytes, int fd, std::size_t offset);

// Gives the memory of a range of `fd` back to the system; what is read there next is zero.
int Release(int fd, std::size_t offset, std::size_t bytes);

}  // namespace kvtier
