#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "eviction.h"
#include "key.h"
#include "lazy_array.h"

namespace kvtier {

// A slot of the whole store: the directories' slots one after the other. Dense, from 0.
using SlotId = std::uint32_t;

// What the index knows of a slot that holds a page. Everything zero: the slot holds none.
struct IndexEntry {
  Key key;
  Key parent;
  std::uint64_t sequence;  // as in the slot's header; never 0 for a page
  std::uint64_t rank;      // by the eviction policy: the lowest goes first
  // Links hold SlotId + 1; 0 ends a list.
  std::uint32_t next_same_hash;
  std::uint32_t next_sibling;  // among pages whose parent has the same hash
  std::uint32_t previous_sibling;
  std::uint32_t children;       // pages here whose parent is this key
  std::uint32_t heap_position;  // 1 + its place among the evictable; 0 when it is not
  std::uint32_t readers : 16;   // reads queued or running
  std::uint32_t pins : 15;
  std::uint32_t was_read : 1;  // since it was written
};
static_assert(sizeof(IndexEntry) == 72, "with its table shares an entry stays under 100 bytes");

// Which slot holds which key, who descends from whom, and which page to evict next.
//
// A page whose parent is gone can never hit, so leaves are evicted first: of those that nobody
// reads or pins, the one that the policy ranks lowest. A directory without a leaf (the leaves of
// its chains lie in another one) gives up its lowest page. Not thread-safe. Time O(1), or O(log n)
// where the set of evictable pages changes.
class Index {
 public:
  // Slots [begins[i], begins[i + 1]) are directory i's, which evicts among its own only.
  explicit Index(std::vector<SlotId> begins,
                 std::unique_ptr<EvictionPolicy> policy = MakeEvictionPolicy(Eviction::kLru, 0));

  std::optional<SlotId> Find(const Key& key) const;
  const IndexEntry& at(SlotId slot) const { return entries_[slot]; }
  bool Holds(SlotId slot) const { return entries_[slot].sequence != 0; }
  std::size_t size() const { return size_; }

  // The slot, so far empty, holds `key` (so far absent), used just now.
  void Insert(SlotId slot, const Key& key, const Key& parent, std::uint64_t sequence);
  // The slot holds nothing any more. Readers and pins are forgotten.
  void Remove(SlotId slot);

  // The page is in use with its chain; MarkRead: it was itself asked for.
  void Touch(SlotId slot);
  void MarkRead(SlotId slot);
  void AddReader(SlotId slot);
  void RemoveReader(SlotId slot);
  // False when the count of pins is at its limit.
  bool Pin(SlotId slot);
  void Unpin(SlotId slot);

  // The page that directory `i` should evict next, if it may evict any.
  std::optional<SlotId> Victim(std::size_t i) const;

  // Of these directories, the one whose victim should go before the others'.
  std::optional<std::size_t> BestVictim(std::span<const std::size_t> directories) const;

  // Throws std::logic_error if the structure disagrees with itself. For tests. O(n).
  void CheckIntegrity() const;

 private:
  std::size_t HashBucket(const Key& key) const { return key.Hash() & bucket_mask_; }
  std::size_t DirectoryOf(SlotId slot) const;
  std::uint32_t CountChildren(const Key& key) const;
  void LinkSibling(SlotId slot);
  void UnlinkSibling(SlotId slot);
  void AddToParent(const Key& parent, int change);

  // Puts the entry in or out of its heap, as its counts demand, or to its right place there.
  void UpdateHeap(SlotId slot);
  void Place(std::vector<SlotId>& heap, std::size_t position, SlotId slot);
  void SiftUp(std::vector<SlotId>& heap, std::size_t position);
  void SiftDown(std::vector<SlotId>& heap, std::size_t position);

  const std::vector<SlotId> begins_;
  const std::size_t bucket_mask_;
  const std::unique_ptr<EvictionPolicy> policy_;
  LazyArray<IndexEntry> entries_;
  LazyArray<std::uint32_t> by_key_;
  LazyArray<std::uint32_t> by_parent_;
  std::vector<std::vector<SlotId>> heaps_;  // one per directory: the next to go on top
  std::size_t size_ = 0;
};

}  // namespace kvtier
