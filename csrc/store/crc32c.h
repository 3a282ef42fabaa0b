#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace kvtier {

// CRC-32C (Castagnoli, RFC 3720) of `data`, continuing from the checksum `seed`: the checksum of
// a page in several pieces is Crc32c(b, Crc32c(a)). Uses the CPU's instruction where it has one.
std::uint32_t Crc32c(std::span<const std::byte> data, std::uint32_t seed = 0);

// The same in plain C++; what Crc32c does on a CPU without the instruction.
std::uint32_t Crc32cPortable(std::span<const std::byte> data, std::uint32_t seed = 0);

// True when Crc32c uses the CPU's instruction.
bool Crc32cIsAccelerated();

}  // namespace kvtier
