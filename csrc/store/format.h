#pragma once

// What lies in a store's directory, byte by byte; docs/disk-format.md is the prose. Integers are
// little-endian. Change anything here: change that page and raise kFormatVersion.

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "align.h"
#include "key.h"

namespace kvtier {

static_assert(std::endian::native == std::endian::little, "the format is little-endian");

inline constexpr std::uint32_t kFormatVersion = 2;

inline constexpr char kLockName[] = "lock";
inline constexpr char kSuperblockName[] = "superblock";
inline constexpr char kJournalName[] = "journal";
inline constexpr char kNewSuffix[] = ".new";  // a file being written, to be renamed when whole
inline constexpr char kSegmentPrefix[] = "segment-";

using Uuid = std::array<std::uint8_t, 16>;

// The model, layout and tenant that all pages of a store are for: an opaque name of 1 to 32 bytes.
struct Namespace {
  static constexpr std::size_t kBytesMax = 32;
  std::array<std::uint8_t, kBytesMax> bytes{};
  std::uint64_t size = 0;

  bool operator==(const Namespace&) const = default;
};

// The first block of the file `superblock`. The second is scratch for probing the disk.
struct Superblock {
  std::uint64_t magic;
  std::uint32_t version;
  std::uint32_t checksum;  // of all that follows
  Uuid uuid;
  Namespace name_space;
  std::uint64_t page_bytes;         // payload of a slot
  std::uint64_t slot_bytes;         // header block and payload, padded to whole blocks
  std::uint64_t slots_per_segment;  // of every segment but the last
  std::uint64_t created_unix_s;
};
static_assert(sizeof(Superblock) == 104, "on-disk layout changed: raise kFormatVersion");
static_assert(std::has_unique_object_representations_v<Superblock>, "no hidden padding");

inline constexpr std::uint64_t kPageBytesMax = std::uint64_t{4} << 30;
inline constexpr std::uint64_t kSegmentBytesMax = std::uint64_t{1} << 60;
inline constexpr std::size_t kSuperblockFileBytes = 2 * kBlockBytes;
inline constexpr std::size_t kProbeBlockAt = kBlockBytes;

// The first block of a slot (the rest of it is zero); the payload follows in the next block.
struct SlotHeader {
  std::uint64_t magic;
  std::uint32_t version;
  std::uint32_t checksum;  // of all that follows
  Uuid uuid;               // of the store: tells a file copied from another one
  Namespace name_space;
  Key key;
  Key parent;
  std::uint64_t sequence;
  std::uint64_t payload_bytes;
  std::uint32_t payload_checksum;
  std::uint32_t reserved;
};
static_assert(sizeof(SlotHeader) == 128, "on-disk layout changed: raise kFormatVersion");
static_assert(std::has_unique_object_representations_v<SlotHeader>, "no hidden padding");

// The file `journal`: one header, then records. Each carries its own checksum, seeded with the
// header's, so that a record of an older journal in the same blocks is none of this one.
struct JournalHeader {
  std::uint64_t magic;
  std::uint32_t version;
  std::uint32_t checksum;  // of all that follows
  Uuid uuid;
  std::uint64_t generation;  // raised with every fresh journal
  std::array<std::uint64_t, 3> reserved;
};
static_assert(sizeof(JournalHeader) == 64, "on-disk layout changed: raise kFormatVersion");
static_assert(std::has_unique_object_representations_v<JournalHeader>, "no hidden padding");

enum class RecordKind : std::uint32_t { kPut = 1, kEvict = 2, kMark = 3 };

struct JournalRecord {
  std::uint32_t checksum;  // of all that follows, seeded with the journal header's checksum
  RecordKind kind;
  std::uint64_t slot;
  std::uint64_t sequence;
  Key key;
  Key parent;
  std::uint64_t reserved;
};
static_assert(sizeof(JournalRecord) == 64, "on-disk layout changed: raise kFormatVersion");
static_assert(std::has_unique_object_representations_v<JournalRecord>, "no hidden padding");

// A journal record of kind kMark: a moment in the directory's life, and its totals by then.
struct MarkRecord {
  std::uint32_t checksum;  // as in JournalRecord
  RecordKind kind;
  std::uint64_t unix_s;
  std::uint64_t sequence;  // of the next page to be written
  std::uint64_t payload_written_bytes;
  std::uint64_t disk_written_bytes;
  std::uint64_t hit_bytes;
  std::uint64_t disk_read_bytes;
  std::uint64_t reserved;
};
static_assert(sizeof(MarkRecord) == sizeof(JournalRecord), "the journal's records have one size");
static_assert(std::has_unique_object_representations_v<MarkRecord>, "no hidden padding");

// Fill in magic, version and checksum.
void Seal(Superblock& superblock);
void Seal(SlotHeader& header);
void Seal(JournalHeader& header);
void Seal(JournalRecord& record, std::uint32_t seed);

enum class Wholeness { kWhole, kForeign, kOtherVersion, kDamaged };

// kForeign: not ours at all. kOtherVersion: ours, not this version (nothing else is looked at).
// A superblock is kDamaged also if its sizes make no sense, whatever its checksum.
Wholeness Check(const Superblock& superblock);
Wholeness Check(const SlotHeader& header);
Wholeness Check(const JournalHeader& header);
bool IsWhole(const JournalRecord& record, std::uint32_t seed);

// Bytes of a slot whose payload has `page_bytes`.
constexpr std::uint64_t SlotBytes(std::uint64_t page_bytes) {
  return kBlockBytes + RoundUp(page_bytes, kBlockBytes);
}

}  // namespace kvtier
