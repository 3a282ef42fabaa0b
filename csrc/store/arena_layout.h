#pragma once

// The memory of an arena, as it lies behind its file descriptor. It outlives processes but not
// the machine, so it is versioned and checked, yet never migrated: another version is formatted
// anew.
//
//   0            header, one block, with the next sequence number at kArenaSequenceAt
//   table_at     one ArenaSlot per slot
//   parts_at     part 0: slots x part_stride, then part 1, ... each at a multiple of `alignment`

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <span>
#include <type_traits>
#include <vector>

#include "key.h"

namespace kvtier {

inline constexpr std::uint64_t kArenaMagic = 0x414E45524154564Bull;  // "KVTARENA" in memory
inline constexpr std::uint32_t kArenaVersion = 2;
inline constexpr std::size_t kArenaSequenceAt = 2048;
inline constexpr std::size_t kNamespaceBytesMax = 32;

struct ArenaGeometry {
  std::uint64_t slots = 0;
  std::uint64_t parts = 0;
  std::uint64_t part_bytes = 0;
  std::array<std::uint8_t, kNamespaceBytesMax> name_space{};
  std::uint64_t name_space_bytes = 0;

  bool operator==(const ArenaGeometry&) const = default;
};

struct ArenaHeader {
  std::uint64_t magic;
  std::uint32_t version;
  std::uint32_t checksum;  // of all that follows
  ArenaGeometry geometry;
  std::uint64_t part_stride;
  std::uint64_t table_at;
  std::uint64_t parts_at;
  std::uint64_t part_span;  // distance from one part's beginning to the next one's
  std::uint64_t total_bytes;
  std::uint64_t alignment;
};
static_assert(std::has_unique_object_representations_v<ArenaHeader>, "no hidden padding");
static_assert(sizeof(ArenaHeader) == 128, "layout changed: raise kArenaVersion");

// A published slot states what it holds; `seal` covers the other fields, so that an entry whose
// writer was killed half-way is told from a whole one. `state` is written last, cleared first.
struct ArenaSlot {
  static constexpr std::uint32_t kEmpty = 0;
  static constexpr std::uint32_t kPublished = 0x50554231;

  Key key;
  Key parent;  // zero for a chain's head; a page store wants to know it
  std::uint64_t sequence;
  std::uint32_t payload_checksum;
  std::uint32_t seal;
  std::atomic<std::uint32_t> state;
  std::array<std::uint32_t, 3> reserved;
};
static_assert(sizeof(ArenaSlot) == 64, "layout changed: raise kArenaVersion");
static_assert(std::atomic<std::uint64_t>::is_always_lock_free, "shared between processes");

// Works out where everything lies. Throws ArenaError when the geometry is senseless.
ArenaHeader MakeArenaHeader(const ArenaGeometry& geometry, std::size_t alignment);

// True if `header` was written whole by this version and describes `file_bytes` or less.
bool IsWholeHeader(const ArenaHeader& header, std::size_t file_bytes);

// A run of an arena's bytes.
struct Extent {
  std::size_t begin;
  std::size_t bytes;
};

// Where the first `slots` slots lie, in whole pages of `page_bytes`: header and table, then the
// beginning of each part.
std::vector<Extent> ExtentsOf(const ArenaHeader& header, std::uint64_t slots,
                              std::size_t page_bytes);

// Throws ArenaError unless `name_space` has 1 to kNamespaceBytesMax bytes.
ArenaGeometry MakeArenaGeometry(std::uint64_t slots, std::uint64_t parts, std::uint64_t part_bytes,
                                std::span<const std::byte> name_space);

}  // namespace kvtier
