#include "index.h"

#include <algorithm>
#include <bit>
#include <cassert>
#include <limits>
#include <stdexcept>
#include <string>

namespace kvtier {
namespace {

constexpr std::uint32_t kPinsMax = std::numeric_limits<std::int16_t>::max();

bool IsEvictable(const IndexEntry& entry) {
  return entry.sequence != 0 && entry.readers == 0 && entry.pins == 0;
}

// Leaves before inner pages, then by rank.
bool GoesBefore(const IndexEntry& a, const IndexEntry& b) {
  const bool a_is_inner = a.children > 0, b_is_inner = b.children > 0;
  return a_is_inner != b_is_inner ? b_is_inner : a.rank < b.rank;
}

}  // namespace

Index::Index(std::vector<SlotId> begins, std::unique_ptr<EvictionPolicy> policy)
    : begins_(std::move(begins)),
      bucket_mask_(std::bit_ceil(std::max<std::size_t>(begins_.back(), 1)) - 1),
      policy_(std::move(policy)),
      entries_(begins_.back()),
      by_key_(bucket_mask_ + 1),
      by_parent_(bucket_mask_ + 1),
      heaps_(begins_.size() - 1) {}

std::optional<SlotId> Index::Find(const Key& key) const {
  for (std::uint32_t link = by_key_[HashBucket(key)]; link != 0;) {
    const IndexEntry& entry = entries_[link - 1];
    if (entry.key == key) return link - 1;
    link = entry.next_same_hash;
  }
  return std::nullopt;
}

void Index::Insert(SlotId slot, const Key& key, const Key& parent, std::uint64_t sequence) {
  assert(!Holds(slot) && sequence != 0);
  std::uint32_t& bucket = by_key_[HashBucket(key)];
  IndexEntry& entry = entries_[slot];
  entry = IndexEntry{};
  entry.key = key;
  entry.parent = parent;
  entry.sequence = sequence;
  entry.rank = policy_->OnInsert();
  entry.next_same_hash = bucket;
  bucket = slot + 1;
  entry.children = CountChildren(key);
  LinkSibling(slot);
  AddToParent(parent, +1);
  ++size_;
  UpdateHeap(slot);
}

void Index::Remove(SlotId slot) {
  assert(Holds(slot));
  IndexEntry& entry = entries_[slot];
  std::uint32_t* link = &by_key_[HashBucket(entry.key)];
  while (*link != slot + 1) link = &entries_[*link - 1].next_same_hash;
  *link = entry.next_same_hash;
  UnlinkSibling(slot);
  const Key parent = entry.parent;
  entry.sequence = 0;
  UpdateHeap(slot);
  AddToParent(parent, -1);
  entry = IndexEntry{};
  --size_;
}

void Index::Touch(SlotId slot) {
  entries_[slot].rank = policy_->OnUse(entries_[slot].was_read);
  UpdateHeap(slot);
}

void Index::MarkRead(SlotId slot) {
  entries_[slot].was_read = 1;
  Touch(slot);
}

void Index::AddReader(SlotId slot) {
  ++entries_[slot].readers;
  UpdateHeap(slot);
}

void Index::RemoveReader(SlotId slot) {
  assert(entries_[slot].readers > 0);
  --entries_[slot].readers;
  UpdateHeap(slot);
}

bool Index::Pin(SlotId slot) {
  if (entries_[slot].pins == kPinsMax) return false;
  ++entries_[slot].pins;
  UpdateHeap(slot);
  return true;
}

void Index::Unpin(SlotId slot) {
  if (entries_[slot].pins > 0) --entries_[slot].pins;
  UpdateHeap(slot);
}

std::optional<SlotId> Index::Victim(std::size_t i) const {
  if (heaps_[i].empty()) return std::nullopt;
  return heaps_[i].front();
}

std::optional<std::size_t> Index::BestVictim(std::span<const std::size_t> directories) const {
  std::optional<std::size_t> best;
  for (const std::size_t directory : directories) {
    const auto victim = Victim(directory);
    if (!victim) continue;
    if (!best || GoesBefore(entries_[*victim], entries_[*Victim(*best)])) best = directory;
  }
  return best;
}

std::size_t Index::DirectoryOf(SlotId slot) const {
  const auto after = std::ranges::upper_bound(begins_, slot);
  return static_cast<std::size_t>(after - begins_.begin()) - 1;
}

// Heads of chains have no parent and are in no list: a list of them all would be of no use.
void Index::LinkSibling(SlotId slot) {
  IndexEntry& entry = entries_[slot];
  if (entry.parent.IsZero()) return;
  std::uint32_t& bucket = by_parent_[HashBucket(entry.parent)];
  entry.next_sibling = bucket;
  if (bucket != 0) entries_[bucket - 1].previous_sibling = slot + 1;
  bucket = slot + 1;
}

void Index::UnlinkSibling(SlotId slot) {
  IndexEntry& entry = entries_[slot];
  if (entry.parent.IsZero()) return;
  if (entry.next_sibling != 0) {
    entries_[entry.next_sibling - 1].previous_sibling = entry.previous_sibling;
  }
  if (entry.previous_sibling != 0) {
    entries_[entry.previous_sibling - 1].next_sibling = entry.next_sibling;
  } else {
    by_parent_[HashBucket(entry.parent)] = entry.next_sibling;
  }
}

// Children may arrive before their parent: their writes run side by side.
std::uint32_t Index::CountChildren(const Key& key) const {
  std::uint32_t count = 0;
  for (std::uint32_t link = by_parent_[HashBucket(key)]; link != 0;) {
    const IndexEntry& entry = entries_[link - 1];
    if (entry.parent == key) ++count;
    link = entry.next_sibling;
  }
  return count;
}

void Index::AddToParent(const Key& parent, int change) {
  if (parent.IsZero()) return;
  const auto slot = Find(parent);
  if (!slot) return;
  entries_[*slot].children += change;
  UpdateHeap(*slot);
}

void Index::UpdateHeap(SlotId slot) {
  std::vector<SlotId>& heap = heaps_[DirectoryOf(slot)];
  IndexEntry& entry = entries_[slot];
  if (IsEvictable(entry)) {
    if (entry.heap_position == 0) {
      heap.push_back(slot);
      Place(heap, heap.size() - 1, slot);
    }
    SiftUp(heap, entry.heap_position - 1);
    SiftDown(heap, entry.heap_position - 1);
  } else if (entry.heap_position != 0) {
    const std::size_t hole = entry.heap_position - 1;
    const SlotId last = heap.back();
    entry.heap_position = 0;
    heap.pop_back();
    if (last == slot) return;
    Place(heap, hole, last);
    SiftUp(heap, hole);
    SiftDown(heap, entries_[last].heap_position - 1);
  }
}

void Index::Place(std::vector<SlotId>& heap, std::size_t position, SlotId slot) {
  heap[position] = slot;
  entries_[slot].heap_position = static_cast<std::uint32_t>(position + 1);
}

void Index::SiftUp(std::vector<SlotId>& heap, std::size_t position) {
  const SlotId moving = heap[position];
  while (position > 0) {
    const std::size_t above = (position - 1) / 2;
    if (!GoesBefore(entries_[moving], entries_[heap[above]])) break;
    Place(heap, position, heap[above]);
    position = above;
  }
  Place(heap, position, moving);
}

void Index::SiftDown(std::vector<SlotId>& heap, std::size_t position) {
  const SlotId moving = heap[position];
  for (;;) {
    std::size_t below = 2 * position + 1;
    if (below >= heap.size()) break;
    if (below + 1 < heap.size() && GoesBefore(entries_[heap[below + 1]], entries_[heap[below]])) {
      ++below;
    }
    if (!GoesBefore(entries_[heap[below]], entries_[moving])) break;
    Place(heap, position, heap[below]);
    position = below;
  }
  Place(heap, position, moving);
}

void Index::CheckIntegrity() const {
  const auto demand = [](bool holds, const char* what, SlotId slot) {
    if (!holds) throw std::logic_error(std::string(what) + ", slot " + std::to_string(slot));
  };
  std::size_t held = 0, evictable = 0;
  for (SlotId slot = 0; slot < entries_.size(); ++slot) {
    const IndexEntry& entry = entries_[slot];
    demand((entry.heap_position != 0) == IsEvictable(entry), "evictable and heap differ", slot);
    if (!Holds(slot)) continue;
    ++held;
    demand(Find(entry.key) == slot, "the key leads elsewhere", slot);
    demand(CountChildren(entry.key) == entry.children, "children are miscounted", slot);
    if (entry.heap_position == 0) continue;
    ++evictable;
    const auto& heap = heaps_[DirectoryOf(slot)];
    const std::size_t position = entry.heap_position - 1;
    demand(heap[position] == slot, "the heap holds another", slot);
    const SlotId above = heap[position == 0 ? 0 : (position - 1) / 2];
    demand(!GoesBefore(entry, entries_[above]), "the heap is out of order", slot);
  }
  std::size_t in_heaps = 0;
  for (const auto& heap : heaps_) in_heaps += heap.size();
  demand(held == size_ && evictable == in_heaps, "counts differ", 0);
}

}  // namespace kvtier
