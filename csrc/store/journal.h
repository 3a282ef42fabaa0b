#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "device.h"
#include "format.h"

namespace kvtier {

// What a directory's slots hold, as a log of 64-byte records: compact enough to read whole at
// start. It is a hint: the slot's own header decides at every read, so that a record that is
// stale, lost or doubled costs a miss and never wrong bytes. For one thread at a time.
class Journal {
 public:
  // Holds up to `records_max` records. `device` outlives it.
  Journal(Device& device, const Uuid& uuid, std::uint64_t records_max);

  // Reads the journal that is there and passes each whole record on, in order. A missing or
  // damaged journal, or one of another store, is an empty one: its pages are forgotten.
  IoStatus Recover(const std::function<void(const JournalRecord&)>& visit);

  // Replaces the journal by one with just these records. Survives power loss when it returns; a
  // crash before that leaves the old one.
  IoStatus Rewrite(std::span<JournalRecord> records);

  // Adds records (seals them) and makes them survive power loss. After a failure they may or may
  // not be there; the next Append writes over them.
  IoStatus Append(std::span<JournalRecord> records);

  bool HasRoomFor(std::uint64_t count) const { return file_ && tail_ + count <= records_max_; }
  bool NeedsRewrite() const { return !file_ || needs_rewrite_; }
  // False before Recover, and when that found no journal of this store.
  bool HasHeader() const { return file_ != nullptr; }
  std::uint64_t generation() const { return header_.generation; }
  std::uint64_t records() const { return tail_; }
  // Records that did not pass their checksum at Recover, up to the last that did.
  std::uint64_t damaged_records() const { return damaged_records_; }

 private:
  IoStatus ReadHeader();
  // Visits the records of one stretch; returns how many are whole.
  std::uint64_t VisitStretch(std::span<const JournalRecord> stretch, std::uint64_t first,
                             const std::function<void(const JournalRecord&)>& visit);
  IoStatus WriteFresh(std::span<JournalRecord> records, const JournalHeader& header,
                      std::unique_ptr<File>& file);

  Device& device_;
  const Uuid uuid_;
  const std::uint64_t records_max_;
  std::unique_ptr<File> file_;
  JournalHeader header_{};
  std::uint64_t tail_ = 0;  // records from the beginning to the end of the last whole one
  std::uint64_t damaged_records_ = 0;
  bool needs_rewrite_ = false;
};

}  // namespace kvtier
