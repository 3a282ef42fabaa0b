#include "timeline.h"

#include <algorithm>
#include <bit>
#include <ctime>

namespace kvtier {
namespace {

constexpr std::uint64_t kRecentS = 48 * 3600;
constexpr std::uint64_t kRecentEveryS = 600;
constexpr std::uint64_t kOldEveryS = 24 * 3600;

}  // namespace

std::uint64_t UnixNow() { return static_cast<std::uint64_t>(std::time(nullptr)); }

JournalRecord RecordOf(const Mark& mark) {
  MarkRecord record{};
  record.kind = RecordKind::kMark;
  record.unix_s = mark.unix_s;
  record.sequence = mark.sequence;
  record.payload_written_bytes = mark.wear.payload_written_bytes;
  record.disk_written_bytes = mark.wear.disk_written_bytes;
  record.hit_bytes = mark.wear.hit_bytes;
  record.disk_read_bytes = mark.wear.disk_read_bytes;
  return std::bit_cast<JournalRecord>(record);
}

Mark MarkOf(const JournalRecord& record) {
  const auto mark = std::bit_cast<MarkRecord>(record);
  return {
      mark.unix_s,
      mark.sequence,
      {mark.payload_written_bytes, mark.disk_written_bytes, mark.hit_bytes, mark.disk_read_bytes}};
}

// A clock that was set back makes one due: its marks would all lie in the future.
bool Timeline::IsDue(std::uint64_t unix_s) const {
  return marks_.empty() || unix_s < marks_.back().unix_s ||
         unix_s - marks_.back().unix_s >= kMarkEveryS;
}

void Timeline::Thin() {
  if (marks_.empty()) return;
  const std::uint64_t end = marks_.back().unix_s;
  std::vector<Mark> kept;
  for (const Mark& mark : marks_) {
    const bool is_recent = mark.unix_s + kRecentS >= end;
    const std::uint64_t every = is_recent ? kRecentEveryS : kOldEveryS;
    if (!kept.empty() && mark.unix_s >= kept.back().unix_s &&
        mark.unix_s - kept.back().unix_s < every) {
      continue;
    }
    kept.push_back(mark);
  }
  if (kept.back().sequence != marks_.back().sequence || kept.back().unix_s != end) {
    kept.push_back(marks_.back());
  }
  if (kept.size() > kMarksMax) {
    kept.erase(kept.begin(), kept.end() - static_cast<std::ptrdiff_t>(kMarksMax));
  }
  marks_ = std::move(kept);
}

std::uint64_t Timeline::WrittenBy(std::uint64_t sequence, std::uint64_t now_unix_s) const {
  const auto after =
      std::ranges::find_if(marks_, [&](const Mark& mark) { return mark.sequence > sequence; });
  return after == marks_.end() ? now_unix_s : after->unix_s;
}

std::uint64_t Timeline::DiskWrittenSince(std::uint64_t begin_unix_s, const Wear& wear) const {
  std::uint64_t before = 0;
  for (const Mark& mark : marks_) {
    if (mark.unix_s <= begin_unix_s) before = mark.wear.disk_written_bytes;
  }
  return wear.disk_written_bytes - std::min(wear.disk_written_bytes, before);
}

}  // namespace kvtier
