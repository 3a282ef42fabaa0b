#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "catalog.h"
#include "device.h"
#include "journal.h"
#include "metered_device.h"
#include "owner_lock.h"
#include "segments.h"
#include "stats.h"
#include "superblock.h"
#include "timeline.h"

namespace kvtier {

// What a directory's journal says: the put records that count, oldest first (the last of each
// slot, if nothing evicted it), and the highest number that a write has had.
struct RecoveredPages {
  std::vector<JournalRecord> puts;
  std::uint64_t sequence_max = 0;
};

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
         std::unique_ptr<OwnerLock> lock, std::function<std::uint64_t()> unix_now = UnixNow);

  const DirectorySpec& spec() const { return spec_; }
  const Superblock& superblock() const { return superblock_; }
  Segments& segments() { return segments_; }
  const Segments& segments() const { return segments_; }
  // Whether slots go past the page cache.
  bool is_direct() const { return device_->IsDirect(); }
  // Bytes that lie on disk now.
  std::uint64_t UsedBytes() const;

  // Reads what is there, and writes the journal anew if it has to be. Throws as IoStatus does.
  RecoveredPages Recover();

  // Preallocates some more slots, unless the disk would then have less than `reserve_bytes` free.
  IoStatus Grow(std::uint64_t reserve_bytes);

  // kGone when the path leads elsewhere by now.
  IoStatus CheckPresent() { return device_->CheckPresent(); }
  // Whether the directory is still there and its superblock reads as it should.
  IoStatus ProbeRead();
  // Whether a block can be written and synced.
  IoStatus ProbeWrite();

  // Makes all that `catalog` says of this directory survive power loss, and from time to time sets
  // a mark: pages from now on have `next_sequence` and more. For one thread at a time. On failure
  // it may be called again; pages of which it cannot be known any more are dropped.
  IoStatus Commit(Catalog& catalog, std::size_t self, std::uint64_t next_sequence);

  // The same by a fresh journal of just what is there.
  IoStatus Compact(Catalog& catalog, std::size_t self, std::uint64_t next_sequence);

  // Sets a mark for what has happened since the one before; nothing if that is nothing.
  IoStatus CommitMark(std::uint64_t next_sequence);
  // The same, if the one before is old enough.
  IoStatus CommitMarkIfDue(std::uint64_t next_sequence);

  void CountWritten(std::uint64_t payload_bytes) { payload_written_bytes_ += payload_bytes; }
  void CountHit(std::uint64_t payload_bytes) { hit_bytes_ += payload_bytes; }
  // Of the directory's whole life.
  Wear LifetimeWear() const;
  // Fills in what was read and written.
  void AddTraffic(DirectoryStats& stats) const;

 private:
  // For pages that name places (Segments), not slots.
  IoStatus RewriteJournal(std::vector<JournalRecord> pages, std::uint64_t next_sequence);
  IoStatus KeepWhatCounts(RecoveredPages& pages, bool has_holes);
  // The same records with the places of their slots, for the journal.
  std::vector<JournalRecord> WithPlaces(std::vector<JournalRecord> records) const;
  void DropUnsynced(Catalog& catalog, std::size_t self, std::vector<JournalRecord> records);
  Mark MarkNow(std::uint64_t next_sequence) const;
  void AddMark(const Mark& mark);

  const DirectorySpec spec_;
  DiskTraffic traffic_;
  const std::unique_ptr<Device> device_;
  const std::unique_ptr<OwnerLock> lock_;
  const Superblock superblock_;
  const std::unique_ptr<File> probe_file_;  // the superblock's
  const std::uint64_t slots_max_;
  const std::function<std::uint64_t()> unix_now_;
  Segments segments_;
  Journal journal_;

  std::atomic<std::uint64_t> payload_written_bytes_{0};
  std::atomic<std::uint64_t> hit_bytes_{0};
  Wear wear_before_;  // by the last mark found at Recover
  // Changed by the committing thread alone, which reads it without the lock; others lock to read,
  // and never wait for the disk.
  mutable std::mutex timeline_mutex_;
  Timeline timeline_;
};

// Slots that fit into `capacity_bytes` beside superblock, lock and two journals (a journal is
// replaced by writing a fresh one next to it).
std::uint64_t SlotsFor(std::uint64_t capacity_bytes, std::uint64_t slot_bytes);

// The reverse: the least capacity with room for so many slots.
std::uint64_t CapacityFor(std::uint64_t slots, std::uint64_t slot_bytes);

// Slots of a directory whose journal has room for so many records.
std::uint64_t SlotsOfJournal(std::uint64_t records);

// Records that the journal of a directory of so many slots has room for.
std::uint64_t JournalRecordsFor(std::uint64_t slots_max);

}  // namespace kvtier
