#include "catalog.h"

#include <algorithm>
#include <limits>
#include <stdexcept>
#include <string>

#include "error.h"

namespace kvtier {

std::vector<SlotId> Catalog::Begins(const std::vector<std::uint64_t>& slots_max) {
  std::vector<SlotId> begins{0};
  std::uint64_t end = 0;
  for (const std::uint64_t slots : slots_max) {
    end += slots;
    if (end >= std::numeric_limits<SlotId>::max()) {
      throw StoreError("a store holds fewer than 4,294,967,295 pages; make the pages larger");
    }
    begins.push_back(static_cast<SlotId>(end));
  }
  return begins;
}

Catalog::Catalog(const std::vector<std::uint64_t>& slots_max, Eviction eviction)
    : Catalog(Begins(slots_max), slots_max, eviction) {}

Catalog::Catalog(const std::vector<SlotId>& begins, const std::vector<std::uint64_t>& slots_max,
                 Eviction eviction)
    : index_(begins, MakeEvictionPolicy(eviction, begins.back())) {
  for (std::size_t i = 0; i < slots_max.size(); ++i) {
    directories_.emplace_back(begins[i], slots_max[i]);
  }
}

void Catalog::Restore(std::size_t directory, std::uint64_t slots_allocated,
                      std::span<const JournalRecord> records) {
  const std::lock_guard lock(mutex_);
  Directory& home = directories_[directory];
  home.slots.SetAllocated(slots_allocated);
  for (const JournalRecord& record : records) {
    if (record.slot >= home.slots.allocated() || record.key.IsZero() || record.sequence == 0) {
      continue;
    }
    if (const auto other = index_.Find(record.key)) {
      if (Of(*other).available || index_.at(*other).sequence > record.sequence) continue;
      Drop(*other);
    }
    const SlotId slot = home.begin + static_cast<SlotId>(record.slot);
    if (index_.Holds(slot)) Forget(slot);
    Insert(slot, record.key, record.parent, record.sequence);
  }
}

void Catalog::FinishRestore(std::size_t directory) {
  const std::lock_guard lock(mutex_);
  Directory& home = directories_[directory];
  home.slots.Recount(
      [&](std::uint64_t slot) { return index_.Holds(home.begin + static_cast<SlotId>(slot)); });
}

void Catalog::Withdraw(std::size_t directory) {
  // In stretches: others use the catalog meanwhile.
  constexpr std::uint64_t kStretch = 4096;
  for (std::uint64_t slot = 0;;) {
    const std::lock_guard lock(mutex_);
    Directory& home = directories_[directory];
    const std::uint64_t end = std::min(home.slots.allocated(), slot + kStretch);
    for (; slot < end; ++slot) {
      const SlotId id = home.begin + static_cast<SlotId>(slot);
      if (index_.Holds(id)) Forget(id);
    }
    if (slot < home.slots.allocated()) continue;
    ++home.life;
    home.slots.Forget();
    home.pending.clear();
    return;
  }
}

void Catalog::SetAvailable(std::size_t directory, bool available) {
  const std::lock_guard lock(mutex_);
  directories_[directory].available = available;
}

std::size_t Catalog::DirectoryOf(SlotId slot) const {
  const auto after = std::ranges::upper_bound(directories_, slot, {}, &Directory::begin);
  return static_cast<std::size_t>(after - directories_.begin()) - 1;
}

std::optional<SlotId> Catalog::FindAvailable(const Key& key) const {
  const auto slot = index_.Find(key);
  return slot && Of(*slot).available ? slot : std::nullopt;
}

std::vector<bool> Catalog::Contains(std::span<const Key> keys) const {
  const std::lock_guard lock(mutex_);
  std::vector<bool> found(keys.size());
  for (std::size_t i = 0; i < keys.size(); ++i) found[i] = FindAvailable(keys[i]).has_value();
  return found;
}

std::size_t Catalog::LongestPrefix(std::span<const Key> keys) const {
  const std::lock_guard lock(mutex_);
  const auto missing = std::ranges::find_if(keys, [&](const Key& k) { return !FindAvailable(k); });
  return static_cast<std::size_t>(missing - keys.begin());
}

std::optional<Placement> Catalog::BeginRead(const Key& key) {
  const std::lock_guard lock(mutex_);
  const auto slot = FindAvailable(key);
  if (!slot) return std::nullopt;
  MarkUsed(*slot, true);
  index_.AddReader(*slot);
  const std::size_t directory = DirectoryOf(*slot);
  const Directory& home = directories_[directory];
  return Placement{directory, *slot - home.begin, index_.at(*slot).sequence, home.life};
}

void Catalog::EndRead(const Placement& placement, bool drop) {
  const std::lock_guard lock(mutex_);
  Directory& home = directories_[placement.directory];
  if (placement.life != home.life) return;
  const SlotId slot = home.begin + static_cast<SlotId>(placement.slot);
  if (home.slots.IsDoomed(placement.slot)) {
    home.slots.EndDoomedRead(placement.slot);
    return;
  }
  index_.RemoveReader(slot);
  if (drop) Drop(slot);
}

std::optional<PageAtWork> Catalog::BeginScrub(std::size_t directory, std::uint64_t from) {
  const std::lock_guard lock(mutex_);
  const Directory& home = directories_[directory];
  if (!home.available) return std::nullopt;
  for (std::uint64_t slot = from; slot < home.slots.allocated(); ++slot) {
    const SlotId id = home.begin + static_cast<SlotId>(slot);
    if (!index_.Holds(id)) continue;
    index_.AddReader(id);
    const IndexEntry& entry = index_.at(id);
    return PageAtWork{entry.key, {directory, slot, entry.sequence, home.life}};
  }
  return std::nullopt;
}

bool Catalog::BeginWrite(const Key& key) {
  const std::lock_guard lock(mutex_);
  return !FindAvailable(key) && writing_.insert(key).second;
}

void Catalog::FinishWrite(const Placement& placement, const Key& key, const Key& parent) {
  const std::lock_guard lock(mutex_);
  Directory& home = directories_[placement.directory];
  const SlotId slot = home.begin + static_cast<SlotId>(placement.slot);
  if (const auto unseen = index_.Find(key)) Drop(*unseen);
  Insert(slot, key, parent, placement.sequence);
  home.slots.EndWrite();
  writing_.erase(key);
  home.pending.push_back(RecordOf(RecordKind::kPut, slot));
}

void Catalog::AbandonWrite(const Key& key) {
  const std::lock_guard lock(mutex_);
  writing_.erase(key);
}

std::optional<std::uint64_t> Catalog::TakeFree(std::size_t directory) {
  const std::lock_guard lock(mutex_);
  return directories_[directory].slots.TakeFree();
}

std::optional<std::uint64_t> Catalog::TakeVictim(std::size_t directory) {
  const std::lock_guard lock(mutex_);
  Directory& home = directories_[directory];
  const auto victim = index_.Victim(directory);
  if (!victim) return std::nullopt;
  home.pending.push_back(RecordOf(RecordKind::kEvict, *victim));
  Remove(*victim);
  ++evicted_;
  home.slots.BeginWrite();
  return *victim - home.begin;
}

void Catalog::ReturnFree(std::size_t directory, std::uint64_t slot) {
  const std::lock_guard lock(mutex_);
  directories_[directory].slots.AbandonWrite(slot);
}

void Catalog::SetAllocated(std::size_t directory, std::uint64_t slots_allocated) {
  const std::lock_guard lock(mutex_);
  directories_[directory].slots.SetAllocated(slots_allocated);
}

JournalRecord Catalog::RecordOf(RecordKind kind, SlotId slot) const {
  const IndexEntry& entry = index_.at(slot);
  JournalRecord record{};
  record.kind = kind;
  record.slot = slot - Of(slot).begin;
  record.sequence = entry.sequence;
  record.key = entry.key;
  record.parent = entry.parent;
  return record;
}

void Catalog::MarkUsed(SlotId slot, bool was_read) {
  directories_[DirectoryOf(slot)].order_changed = true;
  if (was_read) {
    index_.MarkRead(slot);
  } else {
    index_.Touch(slot);
  }
}

bool Catalog::OrderChanged(std::size_t directory) const {
  const std::lock_guard lock(mutex_);
  return directories_[directory].order_changed;
}

std::optional<std::size_t> Catalog::BestVictim(std::span<const std::size_t> candidates) const {
  const std::lock_guard lock(mutex_);
  for (const std::size_t directory : candidates) {
    if (directories_[directory].slots.HasRoom()) return std::nullopt;
  }
  return index_.BestVictim(candidates);
}

void Catalog::Insert(SlotId slot, const Key& key, const Key& parent, std::uint64_t sequence) {
  index_.Insert(slot, key, parent, sequence);
  ++directories_[DirectoryOf(slot)].pages;
}

void Catalog::Remove(SlotId slot) {
  index_.Remove(slot);
  --directories_[DirectoryOf(slot)].pages;
}

void Catalog::Forget(SlotId slot) {
  Directory& home = directories_[DirectoryOf(slot)];
  const std::uint32_t readers = index_.at(slot).readers;
  Remove(slot);
  if (readers > 0) home.slots.Doom(slot - home.begin, readers);
}

void Catalog::Drop(SlotId slot) {
  Directory& home = directories_[DirectoryOf(slot)];
  home.pending.push_back(RecordOf(RecordKind::kEvict, slot));
  Forget(slot);
  if (!home.slots.IsDoomed(slot - home.begin)) home.slots.Free(slot - home.begin);
}

void Catalog::Touch(std::span<const Key> keys) {
  const std::lock_guard lock(mutex_);
  for (const Key& key : keys) {
    if (const auto slot = index_.Find(key)) MarkUsed(*slot, false);
  }
}

void Catalog::Pin(std::span<const Key> keys) {
  const std::lock_guard lock(mutex_);
  for (const Key& key : keys) {
    if (const auto slot = index_.Find(key); slot && !index_.Pin(*slot)) {
      throw StoreError("a page is pinned 32,767 times: pins without unpin");
    }
  }
}

void Catalog::Unpin(std::span<const Key> keys) {
  const std::lock_guard lock(mutex_);
  for (const Key& key : keys) {
    if (const auto slot = index_.Find(key)) index_.Unpin(*slot);
  }
}

std::size_t Catalog::Evict(std::span<const Key> keys) {
  const std::lock_guard lock(mutex_);
  std::size_t count = 0;
  for (const Key& key : keys) {
    const auto slot = index_.Find(key);
    if (!slot || index_.at(*slot).pins > 0) continue;
    Drop(*slot);
    ++count;
  }
  evicted_ += count;
  return count;
}

std::size_t Catalog::Clear() {
  const std::lock_guard lock(mutex_);
  const std::size_t count = index_.size();
  for (const Directory& home : directories_) {
    for (std::uint64_t slot = 0; slot < home.slots.allocated(); ++slot) {
      const SlotId id = home.begin + static_cast<SlotId>(slot);
      if (index_.Holds(id)) Drop(id);
    }
  }
  evicted_ += count;
  return count;
}

std::vector<JournalRecord> Catalog::TakePending(std::size_t directory) {
  const std::lock_guard lock(mutex_);
  return std::exchange(directories_[directory].pending, {});
}

Catalog::Snapshot Catalog::BeginSnapshot(std::size_t directory) {
  const std::lock_guard lock(mutex_);
  Directory& home = directories_[directory];
  Snapshot snapshot(directory);
  snapshot.pending.swap(home.pending);
  home.order_changed = false;
  return snapshot;
}

bool Catalog::ContinueSnapshot(Snapshot& snapshot, std::uint64_t slots) const {
  const Directory& home = directories_[snapshot.directory];
  std::unique_lock lock(mutex_);
  if (snapshot.slots_seen < home.slots.allocated()) {
    const std::uint64_t end = std::min(home.slots.allocated(), snapshot.slots_seen + slots);
    for (; snapshot.slots_seen < end; ++snapshot.slots_seen) {
      const SlotId id = home.begin + static_cast<SlotId>(snapshot.slots_seen);
      if (index_.Holds(id)) snapshot.held.emplace_back(index_.at(id).rank, id);
    }
    return true;
  }
  if (snapshot.copied == 0) {
    lock.unlock();
    std::ranges::sort(snapshot.held);
    snapshot.pages.reserve(snapshot.held.size());
    lock.lock();
  }
  const std::size_t end = std::min<std::size_t>(snapshot.held.size(), snapshot.copied + slots);
  for (; snapshot.copied < end; ++snapshot.copied) {
    const SlotId id = snapshot.held[snapshot.copied].second;
    if (index_.Holds(id)) snapshot.pages.push_back(RecordOf(RecordKind::kPut, id));
  }
  return snapshot.copied < snapshot.held.size();
}

void Catalog::PutBackPending(std::size_t directory, std::vector<JournalRecord> records) {
  const std::lock_guard lock(mutex_);
  std::vector<JournalRecord>& pending = directories_[directory].pending;
  records.insert(records.end(), pending.begin(), pending.end());
  pending = std::move(records);
}

void Catalog::DropPages(std::size_t directory, std::span<const JournalRecord> records) {
  const std::lock_guard lock(mutex_);
  Directory& home = directories_[directory];
  std::vector<JournalRecord> untold;
  for (const JournalRecord& record : records) {
    const SlotId slot = home.begin + static_cast<SlotId>(record.slot);
    if (record.kind == RecordKind::kEvict) {
      untold.push_back(record);
    } else if (index_.at(slot).sequence == record.sequence) {
      Drop(slot);
    }
  }
  home.pending.insert(home.pending.begin(), untold.begin(), untold.end());
}

std::size_t Catalog::PendingCount(std::size_t directory) const {
  const std::lock_guard lock(mutex_);
  return directories_[directory].pending.size();
}

std::uint64_t Catalog::PagesIn(std::size_t directory) const {
  const std::lock_guard lock(mutex_);
  return directories_[directory].pages;
}

CatalogCounts Catalog::Counts() const {
  const std::lock_guard lock(mutex_);
  return {index_.size(), evicted_};
}

void Catalog::CheckIntegrity() const {
  const std::lock_guard lock(mutex_);
  index_.CheckIntegrity();
  for (const Directory& home : directories_) {
    std::uint64_t held = 0;
    for (std::uint64_t slot = 0; slot < home.slots.allocated(); ++slot) {
      if (index_.Holds(home.begin + static_cast<SlotId>(slot))) ++held;
    }
    if (held != home.pages) throw std::logic_error("pages of a directory are miscounted");
    const std::uint64_t known = held + home.slots.CountWithoutPage();
    if (known != home.slots.allocated()) {
      throw std::logic_error(std::to_string(home.slots.allocated()) + " slots allocated, " +
                             std::to_string(known) + " accounted for");
    }
  }
}

}  // namespace kvtier
