#pragma once

#include <cstdint>
#include <span>

namespace kvtier::testing {

// One run of the fuzzer: aborts when a promise of the store is broken.
void FuzzOperations(std::span<const std::uint8_t> data);

}  // namespace kvtier::testing
