#pragma once

#include <cstdint>
#include <vector>

#include "journal.h"
#include "timeline.h"

namespace kvtier {

// What a journal comes to.
struct Replay {
  // The put records that count, oldest first: the last of each slot, if nothing evicted it.
  std::vector<JournalRecord> puts;
  Timeline timeline;
};

// Replays `journal` for slots below `slots`.
IoStatus ReplayJournal(Journal& journal, std::uint64_t slots, Replay& replay);

}  // namespace kvtier
