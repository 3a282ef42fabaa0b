#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "catalog.h"
#include "device.h"
#include "journal.h"
#include "owner_lock.h"
#include "segments.h"
#include "superblock.h"

namespace kvtier {

struct DirectorySpec {
  std::string path;
  std::uint64_t capacity_bytes = 0;  // of everything that the store puts there
};

// One directory of a store: its lock, superblock, journal and slots. It knows how to do I/O and
// what to do first; which page lies where is the Catalog's to know.
class Volume {
 public:
  // Opens or creates the directory. Throws StoreError. `device` and the lock are separate, so that
  // a test can wrap the one and do without the other.
  Volume(const DirectorySpec& spec, const PageGeometry& pages, std::unique_ptr<Device> device,
         std::unique_ptr<OwnerLock> lock);

  const DirectorySpec& spec() const { return spec_; }
  const Superblock& superblock() const { return superblock_; }
  Segments& segments() { return segments_; }
  OwnerLock* lock() { return lock_.get(); }
  // Bytes that lie on disk now.
  std::uint64_t UsedBytes() const;

  // The put records that count, oldest first: the last of each slot, if nothing evicted it.
  // Throws StoreError when the disk cannot be read.
  std::vector<JournalRecord> Recover();

  // Preallocates some more slots, unless the disk would then have less than `reserve_bytes` free.
  IoStatus Grow(std::uint64_t reserve_bytes);

  // Whether the directory is still there and its superblock reads as it should.
  IoStatus ProbeRead();
  // Whether a block can be written and synced.
  IoStatus ProbeWrite();

  // Makes all that `catalog` says of this directory survive power loss. For one thread at a time.
  // On failure it may be called again; pages of which it cannot be known any more are dropped.
  IoStatus Commit(Catalog& catalog, std::size_t self);

  // The same by a fresh journal of just what is there.
  IoStatus Compact(Catalog& catalog, std::size_t self);
  // True when the journal is missing, damaged or larger than this capacity allows.
  bool NeedsCompaction() const { return journal_.NeedsRewrite(); }

 private:
  const DirectorySpec spec_;
  const std::unique_ptr<Device> device_;
  const std::unique_ptr<OwnerLock> lock_;
  const Superblock superblock_;
  const std::unique_ptr<File> probe_file_;  // the superblock's
  const std::uint64_t slots_max_;
  Segments segments_;
  Journal journal_;
};

// Slots that fit into `capacity_bytes` beside superblock, lock and two journals (a journal is
// replaced by writing a fresh one next to it).
std::uint64_t SlotsFor(std::uint64_t capacity_bytes, std::uint64_t slot_bytes);

// Records that the journal of a directory of so many slots has room for.
std::uint64_t JournalRecordsFor(std::uint64_t slots_max);

}  // namespace kvtier
