#include "timeline.h"

#include <catch2/catch.hpp>

namespace kvtier {
namespace {

constexpr std::uint64_t kDayS = 24 * 3600;

Mark MakeMark(std::uint64_t unix_s) { return {unix_s, unix_s * 10, {unix_s, 2 * unix_s, 3, 4}}; }

TEST_CASE("a mark survives its record") {
  const Mark mark{1, 2, {3, 4, 5, 6}};
  const JournalRecord record = RecordOf(mark);
  CHECK(record.kind == RecordKind::kMark);
  const Mark back = MarkOf(record);
  CHECK(back.unix_s == 1);
  CHECK(back.sequence == 2);
  CHECK(back.wear == mark.wear);
}

TEST_CASE("marks are due once a minute, and after the clock was set back") {
  Timeline timeline;
  CHECK(timeline.IsDue(1000));
  timeline.Add(MakeMark(1000));
  CHECK_FALSE(timeline.IsDue(1059));
  CHECK(timeline.IsDue(1060));
  CHECK(timeline.IsDue(999));
}

TEST_CASE("marks are thinned by age, and their number is bounded") {
  Timeline timeline;
  const std::uint64_t end = 1000 * kDayS;
  for (std::uint64_t at = 0; at <= end; at += 300) timeline.Add(MakeMark(at));
  timeline.Thin();
  const auto marks = timeline.marks();
  CHECK(marks.size() == Timeline::kMarksMax);
  CHECK(marks.back().unix_s == end);
  for (std::size_t i = 1; i + 1 < marks.size(); ++i) {
    const std::uint64_t gap = marks[i].unix_s - marks[i - 1].unix_s;
    CHECK(gap == (marks[i].unix_s + 2 * kDayS >= end + 600 ? 600 : gap));
    CHECK((gap == 600 || gap == kDayS || marks[i].unix_s + 2 * kDayS < end + kDayS));
  }
  CHECK(timeline.wear() == MakeMark(end).wear);
}

TEST_CASE("a page was written by the first mark after it") {
  Timeline timeline;
  timeline.Add(MakeMark(100));
  timeline.Add(MakeMark(200));
  CHECK(timeline.WrittenBy(999, 300) == 100);
  CHECK(timeline.WrittenBy(1000, 300) == 200);
  CHECK(timeline.WrittenBy(2000, 300) == 300);
}

TEST_CASE("bytes written since a moment are counted from the mark before it") {
  Timeline timeline;
  CHECK(timeline.DiskWrittenSince(50, {0, 7, 0, 0}) == 7);
  timeline.Add(MakeMark(100));
  timeline.Add(MakeMark(200));
  const Wear now{0, 1000, 0, 0};
  CHECK(timeline.DiskWrittenSince(50, now) == 1000);
  CHECK(timeline.DiskWrittenSince(150, now) == 800);
  CHECK(timeline.DiskWrittenSince(250, now) == 600);
}

}  // namespace
}  // namespace kvtier
