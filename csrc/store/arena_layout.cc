#include "arena_layout.h"

#include <algorithm>
#include <cstring>
#include <string>

#include "align.h"
#include "crc32c.h"
#include "error.h"

namespace kvtier {
namespace {

constexpr std::uint64_t kArenaBytesMax = std::uint64_t{1} << 46;

std::uint32_t HeaderChecksum(const ArenaHeader& header) {
  const auto bytes = std::as_bytes(std::span(&header, 1));
  return Crc32c(bytes.subspan(offsetof(ArenaHeader, checksum) + sizeof header.checksum));
}

}  // namespace

ArenaGeometry MakeArenaGeometry(std::uint64_t slots, std::uint64_t parts, std::uint64_t part_bytes,
                                std::span<const std::byte> name_space) {
  if (name_space.empty() || name_space.size() > kNamespaceBytesMax) {
    throw ArenaError("an arena's namespace has 1 to " + std::to_string(kNamespaceBytesMax) +
                     " bytes, not " + std::to_string(name_space.size()));
  }
  ArenaGeometry geometry{.slots = slots, .parts = parts, .part_bytes = part_bytes};
  std::memcpy(geometry.name_space.data(), name_space.data(), name_space.size());
  geometry.name_space_bytes = name_space.size();
  return geometry;
}

ArenaHeader MakeArenaHeader(const ArenaGeometry& geometry, std::size_t alignment) {
  const bool has_space = geometry.slots > 0 && geometry.parts > 0 && geometry.part_bytes > 0;
  const bool fits = has_space && geometry.slots <= kArenaBytesMax / geometry.parts &&
                    geometry.part_bytes <= kArenaBytesMax / (geometry.slots * geometry.parts);
  if (!fits) {
    throw ArenaError("an arena of " + std::to_string(geometry.slots) + " slots in " +
                     std::to_string(geometry.parts) + " parts of " +
                     std::to_string(geometry.part_bytes) + " bytes is empty or larger than 64 TiB");
  }
  ArenaHeader header{};
  header.magic = kArenaMagic;
  header.version = kArenaVersion;
  header.geometry = geometry;
  header.part_stride = RoundUp(geometry.part_bytes, kBlockBytes);
  header.table_at = kBlockBytes;
  header.parts_at = RoundUp(header.table_at + geometry.slots * sizeof(ArenaSlot), alignment);
  header.part_span = RoundUp(geometry.slots * header.part_stride, alignment);
  header.total_bytes = header.parts_at + geometry.parts * header.part_span;
  header.alignment = alignment;
  header.checksum = HeaderChecksum(header);
  return header;
}

std::vector<Extent> ExtentsOf(const ArenaHeader& header, std::uint64_t slots,
                              std::size_t page_bytes) {
  std::vector<Extent> extents{{0, header.parts_at}};
  const std::size_t bytes =
      slots == header.geometry.slots
          ? header.part_span
          : std::min<std::size_t>(header.part_span,
                                  RoundUp(slots * header.part_stride, page_bytes));
  for (std::uint64_t part = 0; part < header.geometry.parts; ++part) {
    extents.push_back({header.parts_at + part * header.part_span, bytes});
  }
  return extents;
}

bool IsWholeHeader(const ArenaHeader& header, std::size_t file_bytes) {
  return header.magic == kArenaMagic && header.version == kArenaVersion &&
         header.checksum == HeaderChecksum(header) && header.total_bytes <= file_bytes;
}

}  // namespace kvtier
