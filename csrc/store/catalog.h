#pragma once

#include <cstdint>
#include <mutex>
#include <optional>
#include <span>
#include <unordered_set>
#include <utility>
#include <vector>

#include "format.h"
#include "index.h"
#include "key.h"
#include "slot_states.h"

namespace kvtier {

// Where a page lies, and which write of it.
struct Placement {
  std::size_t directory = 0;
  std::uint64_t slot = 0;  // within the directory
  std::uint64_t sequence = 0;
  std::uint32_t life = 0;  // of the directory: it has another one after Withdraw
};

// A page that is being read, and its key.
struct PageAtWork {
  Key key;
  Placement placement;
};

struct CatalogCounts {
  std::uint64_t pages = 0;
  std::uint64_t evicted = 0;
};

// Which pages there are, which slots are free, and what the journals have yet to be told. No
// I/O. Thread-safe: one lock, never held for long. slot_states.h has what becomes of a slot.
class Catalog {
 public:
  // One entry per directory: its most slots.
  explicit Catalog(const std::vector<std::uint64_t>& slots_max, Eviction eviction = Eviction::kLru);

  // A directory is out of sight at first. Restore: some of what its journal said, oldest use
  // first; of two slots with the same key the later write counts, but a page in sight stays.
  // FinishRestore, after all of it: what the directory does not hold is free.
  void Restore(std::size_t directory, std::uint64_t slots_allocated,
               std::span<const JournalRecord> records);
  void FinishRestore(std::size_t directory);

  // Undoes them: all that is known of a directory out of sight, which nobody works on, is
  // forgotten.
  void Withdraw(std::size_t directory);

  // Takes a directory's pages out of sight and back.
  void SetAvailable(std::size_t directory, bool available);

  std::vector<bool> Contains(std::span<const Key> keys) const;
  std::size_t LongestPrefix(std::span<const Key> keys) const;

  // A page that is found is not evicted, nor its slot reused, before the matching EndRead.
  std::optional<Placement> BeginRead(const Key& key);
  // `drop`: the slot does not hold the page after all.
  void EndRead(const Placement& placement, bool drop);

  // The directory's first page in `from` or a later slot, begun to be read as by BeginRead, but
  // not marked as used. Nothing when there is none, or the directory is out of sight.
  std::optional<PageAtWork> BeginScrub(std::size_t directory, std::uint64_t from);

  // False if the key can be read or is being written. Otherwise ends with FinishWrite or
  // AbandonWrite. One whose only copy is out of sight is written again, and then forgotten there.
  bool BeginWrite(const Key& key);
  void FinishWrite(const Placement& placement, const Key& key, const Key& parent);
  void AbandonWrite(const Key& key);

  // A slot to write to: a free one, else nothing.
  std::optional<std::uint64_t> TakeFree(std::size_t directory);
  // The slot of the page evicted for it, if any may be evicted.
  std::optional<std::uint64_t> TakeVictim(std::size_t directory);
  // Of directories that have nothing free and cannot grow, the one whose page should go next.
  // Nothing if one of `candidates` has room, or none a page that may go.
  std::optional<std::size_t> BestVictim(std::span<const std::size_t> candidates) const;
  void ReturnFree(std::size_t directory, std::uint64_t slot);
  void SetAllocated(std::size_t directory, std::uint64_t slots_allocated);

  // In the order given: the last is the most recent. Unknown keys are passed over.
  void Touch(std::span<const Key> keys);
  void Pin(std::span<const Key> keys);
  void Unpin(std::span<const Key> keys);
  std::size_t Evict(std::span<const Key> keys);
  std::size_t Clear();

  // What the directory's journal has not been told yet; from now on it counts as told.
  std::vector<JournalRecord> TakePending(std::size_t directory);
  // A directory's pages for a fresh journal. Taken in stretches, as others use the catalog
  // meanwhile: what they change is pending once more, and true when it is told after `pages`.
  struct Snapshot {
    explicit Snapshot(std::size_t of) : directory(of) {}

    const std::size_t directory;
    std::vector<JournalRecord> pending;  // what TakePending would have returned
    std::vector<JournalRecord> pages;    // least recently used first, once it is done

    // How far it is.
    std::uint64_t slots_seen = 0;
    std::vector<std::pair<std::uint64_t, SlotId>> held;  // by rank
    std::size_t copied = 0;
  };
  Snapshot BeginSnapshot(std::size_t directory);
  // Looks at up to `slots`, or copies so many; false once it is done.
  bool ContinueSnapshot(Snapshot& snapshot, std::uint64_t slots) const;
  // Whether pages were used since the last snapshot: the journal has another order.
  bool OrderChanged(std::size_t directory) const;
  // The journal could not be told after all.
  void PutBackPending(std::size_t directory, std::vector<JournalRecord> records);
  // The journal could not be told, and what was written is not to be relied on: drops the pages of
  // these put records, unless they were written again since. The journal is still to be told of
  // the evictions.
  void DropPages(std::size_t directory, std::span<const JournalRecord> records);
  std::size_t PendingCount(std::size_t directory) const;

  CatalogCounts Counts() const;
  std::uint64_t PagesIn(std::size_t directory) const;
  // Throws std::logic_error when a slot is lost or counted twice. For tests and idle moments.
  void CheckIntegrity() const;

 private:
  struct Directory {
    Directory(SlotId at, std::uint64_t slots_max) : begin(at), slots(slots_max) {}

    SlotId begin;
    SlotStates slots;
    std::uint64_t pages = 0;
    std::uint32_t life = 0;
    bool available = false;
    std::vector<JournalRecord> pending;
    bool order_changed = false;
  };

  Catalog(const std::vector<SlotId>& begins, const std::vector<std::uint64_t>& slots_max,
          Eviction eviction);
  std::size_t DirectoryOf(SlotId slot) const;
  const Directory& Of(SlotId slot) const { return directories_[DirectoryOf(slot)]; }
  void MarkUsed(SlotId slot, bool was_read);
  std::optional<SlotId> FindAvailable(const Key& key) const;
  JournalRecord RecordOf(RecordKind kind, SlotId slot) const;
  void Insert(SlotId slot, const Key& key, const Key& parent, std::uint64_t sequence);
  void Remove(SlotId slot);
  // Takes the page out of the index; its slot is doomed while readers are at it, else free.
  void Drop(SlotId slot);
  void Forget(SlotId slot);
  static std::vector<SlotId> Begins(const std::vector<std::uint64_t>& slots_max);

  mutable std::mutex mutex_;  // guards everything below
  Index index_;
  std::vector<Directory> directories_;
  std::unordered_set<Key, KeyHash> writing_;
  std::uint64_t evicted_ = 0;
};

}  // namespace kvtier
