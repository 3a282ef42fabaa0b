#include "arena.h"

#include <algorithm>
#include <cstring>

#include "align.h"
#include "crc32c.h"
#include "error.h"

namespace kvtier {
namespace {

std::uint32_t Seal(const ArenaSlot& slot) {
  std::uint32_t crc = Crc32c(std::as_bytes(std::span(slot.key.bytes)));
  crc = Crc32c(std::as_bytes(std::span(slot.parent.bytes)), crc);
  crc = Crc32c(std::as_bytes(std::span(&slot.sequence, 1)), crc);
  return Crc32c(std::as_bytes(std::span(&slot.payload_checksum, 1)), crc);
}

bool IsWhole(const ArenaSlot& slot) {
  return slot.state.load(std::memory_order_acquire) == ArenaSlot::kPublished &&
         slot.seal == Seal(slot);
}

// The header of a file that may be anything, or nothing when it is too short to hold one.
std::optional<ArenaHeader> ReadHeader(int fd) {
  const std::size_t page_bytes = MemoryPageBytes(fd);
  if (FileBytes(fd) < page_bytes) return std::nullopt;
  const SharedMapping first(fd, page_bytes, Backing::kPlain);
  ArenaHeader header;
  std::memcpy(&header, first.data(), sizeof header);
  if (!IsWholeHeader(header, FileBytes(fd))) return std::nullopt;
  return header;
}

// Forgets what the file held: a shrink to nothing drops its memory, growing gives zeroes.
std::shared_ptr<SharedMapping> Format(int fd, const ArenaHeader& header, Backing backing) {
  ResizeFile(fd, 0);
  ResizeFile(fd, header.total_bytes);
  auto mapping = std::make_shared<SharedMapping>(fd, header.total_bytes, backing);
  const std::size_t table_end = header.table_at + header.geometry.slots * sizeof(ArenaSlot);
  if (const int error = mapping->Populate(0, RoundUp(table_end, MemoryPageBytes(fd)))) {
    throw ArenaError("no memory for the arena's slot table: " + ErrnoText(error));
  }
  std::memcpy(mapping->data(), &header, sizeof header);
  return mapping;
}

}  // namespace

std::unique_ptr<Arena> Arena::Open(int fd, const ArenaOptions& options) {
  if (!options.numa_nodes.empty() && options.numa_nodes.size() != options.geometry.parts) {
    throw ArenaError("an arena of " + std::to_string(options.geometry.parts) +
                     " parts wants as many NUMA nodes, or none, not " +
                     std::to_string(options.numa_nodes.size()));
  }
  const auto found = ReadHeader(fd);
  const bool adopt = found && found->geometry == options.geometry;
  const std::size_t alignment = std::max(BackingAlignment(options.backing), MemoryPageBytes(fd));
  const ArenaHeader header = adopt ? *found : MakeArenaHeader(options.geometry, alignment);
  auto mapping = adopt ? std::make_shared<SharedMapping>(fd, header.total_bytes, options.backing)
                       : Format(fd, header, options.backing);
  std::unique_ptr<Arena> arena(new Arena(std::move(mapping), header, adopt));
  arena->DropHalfWritten();
  arena->BindParts(options.numa_nodes);
  return arena;
}

std::unique_ptr<Arena> Arena::Attach(int fd) {
  const auto header = ReadHeader(fd);
  if (!header) {
    throw ArenaError("file descriptor " + std::to_string(fd) +
                     " holds no arena of this version; the engine's first process opens it");
  }
  auto mapping = std::make_shared<SharedMapping>(fd, header->total_bytes, Backing::kTransparent);
  return std::unique_ptr<Arena>(new Arena(std::move(mapping), *header, true));
}

Arena::Arena(std::shared_ptr<SharedMapping> mapping, const ArenaHeader& header, bool adopted)
    : header_(header),
      adopted_(adopted),
      backing_(mapping->backing()),
      mapping_(std::move(mapping)),
      prefault_(std::make_shared<Prefault>(
          mapping_, ExtentsOf(header_, header_.geometry.slots, header_.alignment))) {}

Arena::~Arena() { Close(); }

void Arena::BindParts(const std::vector<int>& numa_nodes) {
  for (std::size_t part = 0; part < numa_nodes.size(); ++part) {
    const std::size_t offset = header_.parts_at + part * header_.part_span;
    const int error = mapping_->Bind(offset, header_.part_span, numa_nodes[part]);
    if (error == 0) continue;
    numa_error_ = "cannot bind part " + std::to_string(part) + " to NUMA node " +
                  std::to_string(numa_nodes[part]) + ": " + ErrnoText(error);
  }
}

// Clears entries that claim to be published and are not whole, and goes on counting behind the
// rest. The bytes behind whole entries are not read: Verify does that before their first use.
void Arena::DropHalfWritten() {
  std::uint64_t highest = 0;
  for (std::uint64_t i = 0; i < header_.geometry.slots; ++i) {
    ArenaSlot& slot = SlotAt(*mapping_, i);
    if (slot.state.load(std::memory_order_acquire) == ArenaSlot::kEmpty) continue;
    if (IsWhole(slot)) {
      highest = std::max(highest, slot.sequence);
    } else {
      slot.state.store(ArenaSlot::kEmpty, std::memory_order_release);
    }
  }
  NextSequence(*mapping_) = highest + 1;
}

std::atomic<std::uint64_t>& Arena::NextSequence(const SharedMapping& mapping) const {
  return *reinterpret_cast<std::atomic<std::uint64_t>*>(mapping.data() + kArenaSequenceAt);
}

std::shared_ptr<SharedMapping> Arena::Mapping() const {
  const std::lock_guard lock(mutex_);
  if (!mapping_) throw ArenaError("the arena is closed");
  return mapping_;
}

ArenaSlot& Arena::SlotAt(const SharedMapping& mapping, std::uint64_t slot) const {
  if (slot >= header_.geometry.slots) {
    throw ArenaError("slot " + std::to_string(slot) + " is not one of the arena's " +
                     std::to_string(header_.geometry.slots));
  }
  return reinterpret_cast<ArenaSlot*>(mapping.data() + header_.table_at)[slot];
}

std::shared_ptr<std::span<std::byte>> Arena::PartView(std::uint64_t part) const {
  struct Held {
    std::shared_ptr<SharedMapping> mapping;
    std::span<std::byte> view;
  };
  std::byte* address = PartAddress(part);
  const std::size_t bytes = header_.geometry.slots * header_.part_stride;
  auto held = std::make_shared<Held>(Held{Mapping(), {address, bytes}});
  return {held, &held->view};
}

std::byte* Arena::PartAddress(std::uint64_t part) const {
  if (part >= header_.geometry.parts) {
    throw ArenaError("part " + std::to_string(part) + " is not one of the arena's " +
                     std::to_string(header_.geometry.parts));
  }
  return Mapping()->data() + header_.parts_at + part * header_.part_span;
}

std::vector<Piece> Arena::Pieces(std::uint64_t slot) const {
  const auto mapping = Mapping();
  SlotAt(*mapping, slot);  // checks the number
  std::vector<Piece> pieces;
  std::byte* at = mapping->data() + header_.parts_at + slot * header_.part_stride;
  for (std::uint64_t part = 0; part < header_.geometry.parts; ++part, at += header_.part_span) {
    pieces.push_back({at, header_.geometry.part_bytes});
  }
  return pieces;
}

std::uint32_t Arena::PayloadChecksum(const SharedMapping& mapping, std::uint64_t slot) const {
  std::uint32_t crc = 0;
  const std::byte* at = mapping.data() + header_.parts_at + slot * header_.part_stride;
  for (std::uint64_t part = 0; part < header_.geometry.parts; ++part, at += header_.part_span) {
    crc = Crc32c({at, header_.geometry.part_bytes}, crc);
  }
  return crc;
}

void Arena::Publish(std::uint64_t slot, const Key& key, const Key& parent) {
  const auto mapping = Mapping();
  ArenaSlot& entry = SlotAt(*mapping, slot);
  // A process killed between any two of these leaves an empty entry, or a published one whose
  // seal or payload checksum disagrees; never one that claims bytes it cannot prove.
  entry.state.store(ArenaSlot::kEmpty, std::memory_order_seq_cst);
  entry.key = key;
  entry.parent = parent;
  entry.sequence = NextSequence(*mapping).fetch_add(1);
  entry.payload_checksum = PayloadChecksum(*mapping, slot);
  entry.seal = Seal(entry);
  entry.state.store(ArenaSlot::kPublished, std::memory_order_release);
}

void Arena::Retract(std::uint64_t slot) {
  const auto mapping = Mapping();
  SlotAt(*mapping, slot).state.store(ArenaSlot::kEmpty, std::memory_order_seq_cst);
}

void Arena::Move(std::uint64_t from, std::uint64_t to) {
  const auto mapping = Mapping();
  ArenaSlot& source = SlotAt(*mapping, from);
  ArenaSlot& target = SlotAt(*mapping, to);
  if (!IsWhole(source)) throw ArenaError("slot " + std::to_string(from) + " holds no page");
  if (target.state.load(std::memory_order_acquire) != ArenaSlot::kEmpty) {
    throw ArenaError("slot " + std::to_string(to) + " holds a page");
  }
  std::byte* at = mapping->data() + header_.parts_at;
  for (std::uint64_t part = 0; part < header_.geometry.parts; ++part, at += header_.part_span) {
    std::memcpy(at + to * header_.part_stride, at + from * header_.part_stride,
                header_.geometry.part_bytes);
  }
  // For a moment both slots hold the page: who adopts the arena then drops one of them.
  target.key = source.key;
  target.parent = source.parent;
  target.sequence = source.sequence;
  target.payload_checksum = source.payload_checksum;
  target.seal = source.seal;
  target.state.store(ArenaSlot::kPublished, std::memory_order_release);
  source.state.store(ArenaSlot::kEmpty, std::memory_order_seq_cst);
}

bool Arena::Verify(std::uint64_t slot) const {
  const auto mapping = Mapping();
  const ArenaSlot& entry = SlotAt(*mapping, slot);
  return IsWhole(entry) && entry.payload_checksum == PayloadChecksum(*mapping, slot);
}

std::vector<ArenaEntry> Arena::Entries() const {
  const auto mapping = Mapping();
  std::vector<ArenaEntry> entries;
  for (std::uint64_t i = 0; i < header_.geometry.slots; ++i) {
    const ArenaSlot& slot = SlotAt(*mapping, i);
    if (IsWhole(slot)) entries.push_back({i, slot.key, slot.parent, slot.sequence});
  }
  std::ranges::sort(entries, {}, &ArenaEntry::sequence);
  return entries;
}

std::vector<std::size_t> Arena::BytesUpTo(std::uint64_t slots) const {
  if (slots > header_.geometry.slots) {
    throw ArenaError("the arena has " + std::to_string(header_.geometry.slots) + " slots, not " +
                     std::to_string(slots));
  }
  // An arena that was formatted for smaller pages than it has now is cut at those.
  const std::size_t page_bytes =
      std::min<std::size_t>(BackingAlignment(backing_), header_.alignment);
  std::vector<std::size_t> bytes;
  for (const Extent& extent : ExtentsOf(header_, slots, page_bytes)) bytes.push_back(extent.bytes);
  return bytes;
}

void Arena::StartPrefault(int threads, std::optional<std::uint64_t> slots) {
  const auto wanted = BytesUpTo(slots.value_or(header_.geometry.slots));
  Prefaulting()->Grow(wanted, threads);
}

void Arena::Release(std::uint64_t first_slot) {
  const auto kept = BytesUpTo(first_slot);
  const auto mapping = Mapping();
  for (std::uint64_t i = first_slot; i < header_.geometry.slots; ++i) {
    if (SlotAt(*mapping, i).state.load(std::memory_order_acquire) == ArenaSlot::kEmpty) continue;
    throw ArenaError("slot " + std::to_string(i) +
                     " is published: retract it before its memory is released");
  }
  if (const int error = Prefaulting()->Shrink(kept)) {
    throw ArenaError("cannot release the arena's memory from slot " + std::to_string(first_slot) +
                     " on: " + ErrnoText(error));
  }
}

std::shared_ptr<Prefault> Arena::Prefaulting() const {
  const std::lock_guard lock(mutex_);
  if (!prefault_) throw ArenaError("the arena is closed");
  return prefault_;
}

std::size_t Arena::populated_bytes() const {
  const std::lock_guard lock(mutex_);
  return prefault_ ? prefault_->populated_bytes() : 0;
}

std::size_t Arena::target_bytes() const {
  const std::lock_guard lock(mutex_);
  return prefault_ ? prefault_->wanted_bytes() : 0;
}

std::optional<std::string> Arena::prefault_error() const {
  const std::lock_guard lock(mutex_);
  return prefault_ ? prefault_->error() : std::nullopt;
}

void Arena::Close() {
  std::shared_ptr<Prefault> prefault;
  std::shared_ptr<SharedMapping> mapping;
  {
    const std::lock_guard lock(mutex_);
    prefault.swap(prefault_);
    mapping.swap(mapping_);
  }
}

}  // namespace kvtier
