// Store::Scrub.

#include "scrub.h"

#include <algorithm>
#include <chrono>
#include <thread>
#include <vector>

#include "lanes.h"
#include "store.h"

namespace kvtier {
namespace {

// Reads of requests go first: a scrub waits for them, but not so long that it never ends.
constexpr auto kYieldStep = std::chrono::milliseconds(1);
constexpr int kYieldStepsMax = 50;

void YieldToReads(const Lane& lane) {
  for (int i = 0; i < kYieldStepsMax && lane.reads_queued() > 0; ++i) {
    std::this_thread::sleep_for(kYieldStep);
  }
}

// Keeps a rate, by sleeping in steps short enough for a scrub to be stopped.
class Pace {
 public:
  explicit Pace(std::uint64_t bytes_per_s) : bytes_per_s_(bytes_per_s) {}

  // Whether `bytes` may have been read by now; else waits a little.
  bool Allows(std::uint64_t bytes) const {
    if (bytes_per_s_ == 0) return true;
    const std::chrono::duration<double> due(static_cast<double>(bytes) /
                                            static_cast<double>(bytes_per_s_));
    const auto early = due - (Clock::now() - begun_);
    if (early <= std::chrono::duration<double>::zero()) return true;
    std::this_thread::sleep_for(std::min<std::chrono::duration<double>>(early, kStepMax));
    return false;
  }

 private:
  static constexpr auto kStepMax = std::chrono::milliseconds(20);

  const std::uint64_t bytes_per_s_;
  const Clock::time_point begun_ = Clock::now();
};

void Count(const ReadOutcome& outcome, std::uint64_t page_bytes, ScrubReport& report) {
  if (outcome.corruption) {
    ++report.bad[CorruptionName(*outcome.corruption)];
  } else if (!outcome.ok()) {
    ++report.unreadable;
    return;
  }
  ++report.pages;
  report.bytes += page_bytes;
}

}  // namespace

ScrubReport Store::Scrub(const ScrubProgress& progress, const ScrubOptions& options) {
  RequireUsable();
  ScrubReport report;
  report.pages_total = shared_->catalog.Counts().pages;
  const Pace pace(options.bytes_per_s);
  BlockBuffer buffer;
  const std::vector<Piece> memory{{buffer.Get(page_bytes()).data(), page_bytes()}};
  for (std::size_t i = 0; i < directories_.size() && !report.stopped; ++i) {
    const auto lane = lanes_->At(i);
    std::uint64_t next_slot = 0;
    while (lane && !report.stopped) {
      YieldToReads(*lane);
      const auto scrubbed = lane->ScrubNext(next_slot, memory);
      if (!scrubbed) break;
      next_slot = scrubbed->slot + 1;
      Count(scrubbed->outcome, page_bytes(), report);
      do {
        report.stopped = closed_ || !progress(report);
      } while (!report.stopped && !pace.Allows(report.bytes));
    }
    report.stopped = report.stopped || closed_;
  }
  const std::uint64_t seen = report.pages + report.unreadable;
  if (!report.stopped) report.skipped = report.pages_total - std::min(report.pages_total, seen);
  return report;
}

}  // namespace kvtier
