#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "arena_layout.h"
#include "mapping.h"
#include "prefault.h"

namespace kvtier {

// One contiguous run of the caller's memory.
struct Piece {
  std::byte* data;
  std::size_t bytes;
};

struct ArenaEntry {
  std::uint64_t slot;
  Key key;
  Key parent;  // zero for a chain's head
  std::uint64_t sequence;
};

struct ArenaOptions {
  ArenaGeometry geometry;
  Backing backing = Backing::kTransparent;
  std::vector<int> numa_nodes;  // none, or one per part
};

// Slots of one page each in shared memory (L2). Which slot holds what is decided by one process,
// and written into the slot table behind the same descriptor, so that its successor can go on.
// Thread-safe, as long as no two threads work on one slot: the caller owns its slots.
class Arena {
 public:
  // Maps `fd`: adopts what it holds when geometry and namespace are the same, formats it (and
  // resizes the file) otherwise. Throws ArenaError.
  static std::unique_ptr<Arena> Open(int fd, const ArenaOptions& options);

  // Maps what another process has opened. Throws ArenaError.
  static std::unique_ptr<Arena> Attach(int fd);

  ~Arena();

  const ArenaGeometry& geometry() const { return header_.geometry; }
  std::size_t part_stride() const { return header_.part_stride; }
  bool adopted() const { return adopted_; }
  Backing backing() const { return backing_; }
  std::size_t mapped_bytes() const { return header_.total_bytes; }
  // Why parts are not bound to the NUMA nodes asked for, if they are not.
  const std::optional<std::string>& numa_error() const { return numa_error_; }

  // The memory of all slots of one part. Lives as long as the returned pointer, even after Close.
  std::shared_ptr<std::span<std::byte>> PartView(std::uint64_t part) const;
  std::byte* PartAddress(std::uint64_t part) const;
  std::vector<Piece> Pieces(std::uint64_t slot) const;

  // The slot now holds the page of `key`, which follows that of `parent` (zero: it is a chain's
  // head): checksums it and writes its table entry.
  void Publish(std::uint64_t slot, const Key& key, const Key& parent);
  // The slot holds nothing any more. To be called before its bytes change.
  void Retract(std::uint64_t slot);
  // The page of slot `from`, which is published, goes to the empty slot `to` as it is.
  void Move(std::uint64_t from, std::uint64_t to);
  // True if the slot is published and its bytes have the checksum that its entry states.
  bool Verify(std::uint64_t slot) const;
  // Published slots, oldest sequence first.
  std::vector<ArenaEntry> Entries() const;

  // Populates the slot table and the memory behind the first `slots` slots (none: all) in
  // background threads. More than once: goes on with what is missing, never takes back.
  void StartPrefault(int threads, std::optional<std::uint64_t> slots = std::nullopt);
  // Gives the memory behind `first_slot` and all slots after it back to the system, in whole
  // pages of the backing. Throws ArenaError if one of them is published.
  void Release(std::uint64_t first_slot);
  // What prefaulting has populated, and what that comes to when it is over.
  std::size_t populated_bytes() const;
  std::size_t target_bytes() const;
  std::optional<std::string> prefault_error() const;

  // Stops prefaulting and lets go of the memory. Every call but Close throws ArenaError after it.
  void Close();

 private:
  Arena(std::shared_ptr<SharedMapping> mapping, const ArenaHeader& header, bool adopted);

  std::shared_ptr<SharedMapping> Mapping() const;
  std::shared_ptr<Prefault> Prefaulting() const;
  ArenaSlot& SlotAt(const SharedMapping& mapping, std::uint64_t slot) const;
  std::uint32_t PayloadChecksum(const SharedMapping& mapping, std::uint64_t slot) const;
  std::atomic<std::uint64_t>& NextSequence(const SharedMapping& mapping) const;
  void DropHalfWritten();
  void BindParts(const std::vector<int>& numa_nodes);
  std::vector<std::size_t> BytesUpTo(std::uint64_t slots) const;

  const ArenaHeader header_;
  const bool adopted_;
  const Backing backing_;
  std::optional<std::string> numa_error_;
  mutable std::mutex mutex_;
  std::shared_ptr<SharedMapping> mapping_;  // guarded by mutex_; null once closed
  std::shared_ptr<Prefault> prefault_;      // guarded by mutex_; null once closed
};

}  // namespace kvtier
