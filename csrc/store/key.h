#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>

namespace kvtier {

inline constexpr std::size_t kKeyBytes = 16;

// The name of a page: a digest that chains over everything before it. All zero: no page.
struct Key {
  std::array<std::uint8_t, kKeyBytes> bytes{};

  bool operator==(const Key&) const = default;

  bool IsZero() const { return *this == Key{}; }

  // Keys are digests, so any eight of their bytes are a hash.
  std::uint64_t Hash() const {
    std::uint64_t word;
    std::memcpy(&word, bytes.data(), sizeof word);
    return word;
  }
};
static_assert(sizeof(Key) == kKeyBytes);

struct KeyHash {
  std::size_t operator()(const Key& key) const { return key.Hash(); }
};

}  // namespace kvtier
