#include "format.h"

#include <span>

#include "crc32c.h"

namespace kvtier {
namespace {

// The bytes spell the name in a hex dump.
constexpr std::uint64_t Magic(const char (&name)[9]) {
  std::uint64_t magic = 0;
  for (int i = 7; i >= 0; --i) magic = magic << 8 | static_cast<std::uint8_t>(name[i]);
  return magic;
}

constexpr std::uint64_t MagicOf(const Superblock*) { return Magic("KVTSTORE"); }
constexpr std::uint64_t MagicOf(const SlotHeader*) { return Magic("KVTSLOT\n"); }
constexpr std::uint64_t MagicOf(const JournalHeader*) { return Magic("KVTJOURN"); }

template <typename T>
std::uint32_t ChecksumAfterField(const T& block, std::uint32_t seed) {
  const auto bytes = std::as_bytes(std::span(&block, 1));
  return Crc32c(bytes.subspan(offsetof(T, checksum) + sizeof block.checksum), seed);
}

template <typename T>
void SealBlock(T& block) {
  block.magic = MagicOf(&block);
  block.version = kFormatVersion;
  block.checksum = ChecksumAfterField(block, 0);
}

template <typename T>
Wholeness CheckBlock(const T& block) {
  if (block.magic != MagicOf(&block)) return Wholeness::kForeign;
  if (block.version != kFormatVersion) return Wholeness::kOtherVersion;
  return block.checksum == ChecksumAfterField(block, 0) ? Wholeness::kWhole : Wholeness::kDamaged;
}

}  // namespace

void Seal(Superblock& superblock) { SealBlock(superblock); }
void Seal(SlotHeader& header) { SealBlock(header); }
void Seal(JournalHeader& header) { SealBlock(header); }

void Seal(JournalRecord& record, std::uint32_t seed) {
  record.checksum = ChecksumAfterField(record, seed);
}

Wholeness Check(const Superblock& superblock) {
  const Wholeness wholeness = CheckBlock(superblock);
  if (wholeness != Wholeness::kWhole) return wholeness;
  const bool is_sound = superblock.page_bytes >= 1 && superblock.page_bytes <= kPageBytesMax &&
                        superblock.slot_bytes == SlotBytes(superblock.page_bytes) &&
                        superblock.slots_per_segment >= 1 &&
                        superblock.slots_per_segment <= kSegmentBytesMax / superblock.slot_bytes &&
                        superblock.name_space.size <= Namespace::kBytesMax;
  return is_sound ? Wholeness::kWhole : Wholeness::kDamaged;
}
Wholeness Check(const SlotHeader& header) { return CheckBlock(header); }
Wholeness Check(const JournalHeader& header) { return CheckBlock(header); }

bool IsWhole(const JournalRecord& record, std::uint32_t seed) {
  return record.checksum == ChecksumAfterField(record, seed);
}

}  // namespace kvtier
