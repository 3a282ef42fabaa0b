#include "volume.h"

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "error.h"
#include "slot_io.h"

namespace kvtier {
namespace {

constexpr std::uint64_t kJournalSlackRecords = 1024;
constexpr std::uint64_t kJournalRecordsPerSlot = 2;
constexpr std::uint64_t kJournalSpareRecords = 256;  // for what ends while a commit begins
constexpr std::uint64_t kGrowBytes = std::uint64_t{64} << 20;
constexpr std::uint64_t kFixedBytes = 2 * kBlockBytes + kSuperblockFileBytes;  // lock, rounding

std::uint64_t JournalBytes(std::uint64_t slots_max) {
  return sizeof(JournalHeader) + JournalRecordsFor(slots_max) * sizeof(JournalRecord);
}

std::uint64_t SlotsForOrThrow(const DirectorySpec& spec, const Superblock& superblock) {
  const std::uint64_t slots = SlotsFor(spec.capacity_bytes, superblock.slot_bytes);
  if (slots > 0) return slots;
  const std::uint64_t least = kFixedBytes + 2 * JournalBytes(1) + superblock.slot_bytes;
  throw StoreError("a capacity of " + std::to_string(spec.capacity_bytes) + " bytes for " +
                   spec.path + " holds no page: it takes " + std::to_string(least) +
                   " bytes at least");
}

std::unique_ptr<File> OpenProbeFile(Device& device, const std::string& path) {
  std::unique_ptr<File> file;
  const IoStatus status = device.Open(kSuperblockName, Access::kDirect, false, file);
  if (!status.ok())
    throw StoreError("cannot open the superblock in " + path + ": " + status.Text());
  return file;
}

}  // namespace

std::uint64_t JournalRecordsFor(std::uint64_t slots_max) {
  return kJournalRecordsPerSlot * slots_max + kJournalSlackRecords;
}

std::uint64_t SlotsFor(std::uint64_t capacity_bytes, std::uint64_t slot_bytes) {
  const std::uint64_t fixed = kFixedBytes + 2 * JournalBytes(0);
  if (capacity_bytes <= fixed) return 0;
  const std::uint64_t journals_per_slot = 2 * kJournalRecordsPerSlot * sizeof(JournalRecord);
  return (capacity_bytes - fixed) / (slot_bytes + journals_per_slot);
}

Volume::Volume(const DirectorySpec& spec, const PageGeometry& pages, std::unique_ptr<Device> device,
               std::unique_ptr<OwnerLock> lock)
    : spec_(spec),
      device_(std::move(device)),
      lock_(std::move(lock)),
      superblock_(OpenSuperblock(*device_, spec.path, pages, spec.capacity_bytes)),
      probe_file_(OpenProbeFile(*device_, spec.path)),
      slots_max_(SlotsForOrThrow(spec, superblock_)),
      segments_(*device_, {superblock_.slot_bytes, superblock_.slots_per_segment}, slots_max_),
      journal_(*device_, superblock_.uuid, JournalRecordsFor(slots_max_)) {}

std::uint64_t Volume::UsedBytes() const {
  return kFixedBytes + JournalBytes(slots_max_) +
         segments_.slots_allocated() * segments_.slot_bytes();
}

std::vector<JournalRecord> Volume::Recover() {
  if (const IoStatus status = segments_.Open(); !status.ok()) {
    throw StoreError("cannot open the segments in " + spec_.path + ": " + status.Text());
  }
  std::vector<JournalRecord> puts;
  std::vector<std::uint32_t> last_put(segments_.slots_allocated());  // place in puts + 1
  const IoStatus status = journal_.Recover([&](const JournalRecord& record) {
    if (record.slot >= last_put.size()) return;
    std::uint32_t& last = last_put[record.slot];
    if (record.kind == RecordKind::kPut) {
      puts.push_back(record);
      last = static_cast<std::uint32_t>(puts.size());
    } else if (last != 0 && puts[last - 1].sequence == record.sequence) {
      last = 0;
    }
  });
  if (!status.ok()) {
    throw StoreError("cannot read the journal in " + spec_.path + ": " + status.Text());
  }
  std::uint32_t place = 0;
  std::erase_if(puts, [&](const JournalRecord& put) { return last_put[put.slot] != ++place; });
  return puts;
}

IoStatus Volume::Grow(std::uint64_t reserve_bytes) {
  std::uint64_t free_bytes = 0;
  if (const IoStatus status = device_->FreeBytes(free_bytes); !status.ok()) return status;
  const std::uint64_t slot_bytes = segments_.slot_bytes();
  if (free_bytes < reserve_bytes + slot_bytes) return IoStatus(ENOSPC);
  const std::uint64_t affordable = (free_bytes - reserve_bytes) / slot_bytes;
  return segments_.Grow(std::min(affordable, std::max<std::uint64_t>(1, kGrowBytes / slot_bytes)));
}

IoStatus Volume::ProbeRead() {
  if (const IoStatus status = device_->CheckPresent(); !status.ok()) return status;
  BlockBuffer buffer;
  const auto block = buffer.Get(kBlockBytes);
  if (const IoStatus status = ReadAll(*probe_file_, block, 0); !status.ok()) return status;
  const bool same = std::memcmp(block.data(), &superblock_, sizeof superblock_) == 0;
  return IoStatus(same ? 0 : ESTALE);
}

IoStatus Volume::ProbeWrite() {
  BlockBuffer buffer;
  const auto block = buffer.Get(kBlockBytes);
  std::ranges::fill(block, std::byte{0});
  const IoStatus status = WriteAll(*probe_file_, block, kProbeBlockAt);
  return status.ok() ? probe_file_->Sync() : status;
}

// 1 write slots  2 sync them  3 append their records  4 sync those. A crash before 4: the slots
// are unknown, or known and whole; before 2 as well: known by no record, or (a page evicted from
// the slot before) by one whose header disagrees. Each is a miss, none is wrong bytes.
IoStatus Volume::Commit(Catalog& catalog, std::size_t self) {
  const std::uint64_t count = catalog.PendingCount(self);
  if (count == 0) return {};
  if (!journal_.HasRoomFor(count + kJournalSpareRecords)) return Compact(catalog, self);
  std::vector<JournalRecord> records = catalog.TakePending(self);
  if (const IoStatus status = segments_.Sync(); !status.ok()) {
    // The kernel reports a lost write once; a later sync would pass without it.
    catalog.DropPages(self, records);
    return status;
  }
  const IoStatus status = journal_.Append(records);
  if (!status.ok()) catalog.PutBackPending(self, std::move(records));
  return status;
}

IoStatus Volume::Compact(Catalog& catalog, std::size_t self) {
  Catalog::Snapshot snapshot = catalog.TakeSnapshot(self);
  IoStatus status = segments_.Sync();
  if (!status.ok()) {
    catalog.DropPages(self, snapshot.pending);
    return status;
  }
  status = journal_.Rewrite(snapshot.pages);
  if (!status.ok()) catalog.PutBackPending(self, std::move(snapshot.pending));
  return status;
}

}  // namespace kvtier
