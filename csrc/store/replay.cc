#include "replay.h"

namespace kvtier {

IoStatus ReplayJournal(Journal& journal, std::uint64_t slots, Replay& replay) {
  std::vector<JournalRecord>& puts = replay.puts;
  std::vector<std::uint32_t> last_put(slots);  // place in puts + 1
  const IoStatus status = journal.Recover([&](const JournalRecord& record) {
    if (record.kind == RecordKind::kMark) {
      replay.timeline.Add(MarkOf(record));
      return;
    }
    if (record.slot >= slots) return;
    std::uint32_t& last = last_put[record.slot];
    if (record.kind == RecordKind::kPut) {
      puts.push_back(record);
      last = static_cast<std::uint32_t>(puts.size());
    } else if (record.kind == RecordKind::kEvict && last != 0 &&
               puts[last - 1].sequence == record.sequence) {
      last = 0;
    }
  });
  std::uint32_t place = 0;
  std::erase_if(puts, [&](const JournalRecord& put) { return last_put[put.slot] != ++place; });
  return status;
}

}  // namespace kvtier
