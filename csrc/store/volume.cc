#include "volume.h"

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "error.h"
#include "replay.h"
#include "slot_io.h"

namespace kvtier {
namespace {

constexpr std::uint64_t kJournalSlackRecords = 1024 + Timeline::kMarksMax;
constexpr std::uint64_t kJournalRecordsPerSlot = 2;
constexpr std::uint64_t kJournalBytesPerSlot = 2 * kJournalRecordsPerSlot * sizeof(JournalRecord);
constexpr std::uint64_t kJournalSpareRecords = 256;  // for what ends while a commit begins
constexpr std::uint64_t kGrowBytes = std::uint64_t{64} << 20;
constexpr std::uint64_t kFixedBytes = 2 * kBlockBytes + kSuperblockFileBytes;  // lock, rounding

std::uint64_t JournalBytes(std::uint64_t slots_max) {
  return sizeof(JournalHeader) + JournalRecordsFor(slots_max) * sizeof(JournalRecord);
}

std::unique_ptr<File> OpenProbeFile(Device& device, const std::string& path) {
  std::unique_ptr<File> file;
  const IoStatus status = device.Open(kSuperblockName, Access::kDirect, false, file);
  if (!status.ok()) status.Throw("open the superblock in " + path);
  return file;
}

}  // namespace

std::uint64_t JournalRecordsFor(std::uint64_t slots_max) {
  return kJournalRecordsPerSlot * slots_max + kJournalSlackRecords;
}

std::uint64_t SlotsOfJournal(std::uint64_t records) {
  return records <= kJournalSlackRecords
             ? 0
             : (records - kJournalSlackRecords) / kJournalRecordsPerSlot;
}

std::uint64_t CapacityFor(std::uint64_t slots, std::uint64_t slot_bytes) {
  return kFixedBytes + 2 * JournalBytes(0) + slots * (slot_bytes + kJournalBytesPerSlot);
}

std::uint64_t SlotsFor(std::uint64_t capacity_bytes, std::uint64_t slot_bytes) {
  const std::uint64_t fixed = CapacityFor(0, slot_bytes);
  if (capacity_bytes <= fixed) return 0;
  return (capacity_bytes - fixed) / (slot_bytes + kJournalBytesPerSlot);
}

Volume::Volume(const DirectorySpec& spec, const PageGeometry& pages, std::unique_ptr<Device> device,
               std::unique_ptr<OwnerLock> lock, std::function<std::uint64_t()> unix_now)
    : spec_(spec),
      device_(MakeMetered(std::move(device), traffic_)),
      lock_(std::move(lock)),
      superblock_(OpenSuperblock(*device_, spec.path, pages, spec.capacity_bytes)),
      probe_file_(OpenProbeFile(*device_, spec.path)),
      slots_max_(SlotsFor(spec.capacity_bytes, superblock_.slot_bytes)),
      unix_now_(std::move(unix_now)),
      segments_(*device_, {superblock_.slot_bytes, superblock_.slots_per_segment}, slots_max_),
      journal_(*device_, superblock_.uuid, JournalRecordsFor(slots_max_)) {}

std::uint64_t Volume::UsedBytes() const {
  return kFixedBytes + JournalBytes(slots_max_) +
         segments_.slots_allocated() * segments_.slot_bytes();
}

RecoveredPages Volume::Recover() {
  IoStatus status = segments_.Open();
  if (!status.ok()) status.Throw("open the segments in " + spec_.path);
  Replay replay;
  status = ReplayJournal(journal_, segments_.slots_allocated(), replay);
  if (!status.ok()) status.Throw("read the journal in " + spec_.path);
  RecoveredPages pages{.puts = std::move(replay.puts)};
  for (const JournalRecord& put : pages.puts) {
    pages.sequence_max = std::max(pages.sequence_max, put.sequence);
  }
  timeline_ = std::move(replay.timeline);
  for (const Mark& mark : timeline_.marks()) {
    pages.sequence_max = std::max(pages.sequence_max, mark.sequence);
  }
  wear_before_ = timeline_.wear();
  const bool has_holes = segments_.HasHoles() && segments_.CanKeepAny();
  if (segments_.slots_allocated() > slots_max_ || has_holes) {
    status = KeepWhatCounts(pages, has_holes);
    if (!status.ok()) status.Throw("fit the store in " + spec_.path + " to its capacity");
  } else if (journal_.NeedsRewrite()) {
    status = RewriteJournal(pages.puts, pages.sequence_max + 1);
    if (!status.ok()) status.Throw("write the journal in " + spec_.path);
  }
  return pages;
}

// What the capacity allows: the pages used last stay where they are, and other slots beside them
// as long as those are too few. Which of the others have room on disk is not known once one has
// none: then they are given back.
IoStatus Volume::KeepWhatCounts(RecoveredPages& pages, bool has_holes) {
  const std::uint64_t found = segments_.slots_allocated();
  const std::size_t before = pages.puts.size();
  if (!segments_.CanKeepAny()) {
    std::erase_if(pages.puts, [this](const JournalRecord& put) { return put.slot >= slots_max_; });
  }
  const std::size_t surplus =
      pages.puts.size() - std::min<std::uint64_t>(pages.puts.size(), slots_max_);
  pages.puts.erase(pages.puts.begin(), pages.puts.begin() + static_cast<std::ptrdiff_t>(surplus));
  std::vector<bool> keeps(found);
  for (const JournalRecord& put : pages.puts) keeps[put.slot] = true;
  std::uint64_t spare = has_holes ? 0 : slots_max_ - pages.puts.size();
  std::vector<std::uint32_t> slots;
  std::vector<std::uint32_t> slot_at(found);
  for (std::uint64_t place = 0; place < found; ++place) {
    if (!keeps[place]) {
      if (spare == 0) continue;
      --spare;
    }
    slot_at[place] = static_cast<std::uint32_t>(slots.size());
    slots.push_back(static_cast<std::uint32_t>(place));
  }
  // First the journal: what it names after a crash has its blocks. Where the disk has no room for
  // one, the other way round: then a crash leaves a journal that names slots without a page.
  const bool rewrites = pages.puts.size() < before || journal_.NeedsRewrite();
  IoStatus status = rewrites ? RewriteJournal(pages.puts, pages.sequence_max + 1) : IoStatus();
  const bool journal_last = status.IsNoSpace();
  if (status.ok() || journal_last) status = segments_.KeepOnly(std::move(slots));
  if (status.ok() && journal_last) status = RewriteJournal(pages.puts, pages.sequence_max + 1);
  for (JournalRecord& put : pages.puts) put.slot = slot_at[put.slot];
  return status;
}

std::vector<JournalRecord> Volume::WithPlaces(std::vector<JournalRecord> records) const {
  for (JournalRecord& record : records) record.slot = segments_.PlaceOf(record.slot);
  return records;
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
IoStatus Volume::Commit(Catalog& catalog, std::size_t self, std::uint64_t next_sequence) {
  const std::uint64_t count = catalog.PendingCount(self);
  if (count == 0) return {};
  if (!journal_.HasRoomFor(count + kJournalSpareRecords)) {
    return Compact(catalog, self, next_sequence);
  }
  std::vector<JournalRecord> records = catalog.TakePending(self);
  if (const IoStatus status = segments_.Sync(); !status.ok()) {
    DropUnsynced(catalog, self, std::move(records));
    return status;
  }
  std::vector<JournalRecord> news = WithPlaces(records);
  const Mark mark = MarkNow(next_sequence);
  const bool marks = timeline_.IsDue(mark.unix_s);
  if (marks) news.push_back(RecordOf(mark));
  const IoStatus status = journal_.Append(news);
  if (marks && status.ok()) AddMark(mark);
  if (!status.ok()) catalog.PutBackPending(self, std::move(records));
  return status;
}

IoStatus Volume::Compact(Catalog& catalog, std::size_t self, std::uint64_t next_sequence) {
  constexpr std::uint64_t kStretch = 4096;  // slots: a fraction of a millisecond
  Catalog::Snapshot snapshot = catalog.BeginSnapshot(self);
  while (catalog.ContinueSnapshot(snapshot, kStretch)) {
  }
  IoStatus status = segments_.Sync();
  if (!status.ok()) {
    DropUnsynced(catalog, self, std::move(snapshot.pending));
    return status;
  }
  status = RewriteJournal(WithPlaces(std::move(snapshot.pages)), next_sequence);
  if (!status.ok()) catalog.PutBackPending(self, std::move(snapshot.pending));
  return status;
}

IoStatus Volume::RewriteJournal(std::vector<JournalRecord> pages, std::uint64_t next_sequence) {
  Timeline timeline = timeline_;
  timeline.Add(MarkNow(next_sequence));
  timeline.Thin();
  for (const Mark& mark : timeline.marks()) pages.push_back(RecordOf(mark));
  const IoStatus status = journal_.Rewrite(pages);
  if (!status.ok()) return status;
  const std::lock_guard lock(timeline_mutex_);
  timeline_ = std::move(timeline);
  return status;
}

// The kernel reports a lost write once; a later sync would pass without it. It may be one of those
// that ended since the commit began.
void Volume::DropUnsynced(Catalog& catalog, std::size_t self, std::vector<JournalRecord> records) {
  const std::vector<JournalRecord> since = catalog.TakePending(self);
  records.insert(records.end(), since.begin(), since.end());
  catalog.DropPages(self, records);
}

IoStatus Volume::CommitMarkIfDue(std::uint64_t next_sequence) {
  return timeline_.IsDue(unix_now_()) ? CommitMark(next_sequence) : IoStatus();
}

IoStatus Volume::CommitMark(std::uint64_t next_sequence) {
  const Mark mark = MarkNow(next_sequence);
  const Wear before = timeline_.wear();
  const bool is_news = mark.wear.payload_written_bytes != before.payload_written_bytes ||
                       mark.wear.hit_bytes != before.hit_bytes;
  if (!is_news || !journal_.HasRoomFor(1)) return {};
  JournalRecord record = RecordOf(mark);
  const IoStatus status = journal_.Append({&record, 1});
  if (status.ok()) AddMark(mark);
  return status;
}

void Volume::AddMark(const Mark& mark) {
  const std::lock_guard lock(timeline_mutex_);
  timeline_.Add(mark);
}

Wear Volume::LifetimeWear() const {
  return {wear_before_.payload_written_bytes + payload_written_bytes_,
          wear_before_.disk_written_bytes + traffic_.written_bytes,
          wear_before_.hit_bytes + hit_bytes_, wear_before_.disk_read_bytes + traffic_.read_bytes};
}

Mark Volume::MarkNow(std::uint64_t next_sequence) const {
  return {unix_now_(), next_sequence, LifetimeWear()};
}

void Volume::AddTraffic(DirectoryStats& stats) const {
  constexpr std::uint64_t kDayS = 24 * 3600;
  const Wear wear = LifetimeWear();
  stats.read_bytes = hit_bytes_;
  stats.written_bytes = payload_written_bytes_;
  stats.disk_read_bytes = traffic_.read_bytes;
  stats.disk_written_bytes = traffic_.written_bytes;
  stats.lifetime_written_bytes = wear.payload_written_bytes;
  stats.lifetime_disk_written_bytes = wear.disk_written_bytes;
  stats.lifetime_hit_bytes = wear.hit_bytes;
  const std::lock_guard lock(timeline_mutex_);
  stats.disk_written_bytes_last_day = timeline_.DiskWrittenSince(unix_now_() - kDayS, wear);
}

}  // namespace kvtier
