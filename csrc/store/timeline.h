#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "format.h"

namespace kvtier {

// What a directory's disk has done for its pages, in the directory's whole life.
struct Wear {
  std::uint64_t payload_written_bytes = 0;  // of pages
  std::uint64_t disk_written_bytes = 0;     // everything: headers, padding, journal
  std::uint64_t hit_bytes = 0;              // of pages that were read and found right
  std::uint64_t disk_read_bytes = 0;

  bool operator==(const Wear&) const = default;
};

// A moment in a directory's life.
struct Mark {
  std::uint64_t unix_s = 0;
  std::uint64_t sequence = 0;  // of the next page to be written
  Wear wear;
};

JournalRecord RecordOf(const Mark& mark);
// Of a record of kind kMark.
Mark MarkOf(const JournalRecord& record);

// A directory's life in marks, oldest first, as its journal keeps it: how old a page is, by its
// sequence number, and what was written when. Clocks may jump; then ages are wrong and no more.
class Timeline {
 public:
  // Room in the journal: two days by the ten minutes, and most of a year by the day.
  static constexpr std::size_t kMarksMax = 600;
  static constexpr std::uint64_t kMarkEveryS = 60;

  void Add(const Mark& mark) { marks_.push_back(mark); }
  bool IsDue(std::uint64_t unix_s) const;

  // Drops marks that tell little: of the last two days all but one in ten minutes go, of the time
  // before all but one a day; the newest stays, and no more than kMarksMax.
  void Thin();

  std::span<const Mark> marks() const { return marks_; }
  // Of the last mark.
  Wear wear() const { return marks_.empty() ? Wear{} : marks_.back().wear; }

  // When a page was written at the latest: the first mark after its number. `now_unix_s` if there
  // is none.
  std::uint64_t WrittenBy(std::uint64_t sequence, std::uint64_t now_unix_s) const;

  // Bytes written to the disk since the last mark before `begin_unix_s`, `wear` being what it has
  // by now. All of them if there is no such mark: the directory is younger.
  std::uint64_t DiskWrittenSince(std::uint64_t begin_unix_s, const Wear& wear) const;

 private:
  std::vector<Mark> marks_;
};

std::uint64_t UnixNow();

}  // namespace kvtier
