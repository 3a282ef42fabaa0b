#include "openings.h"

#include <algorithm>
#include <optional>
#include <span>
#include <utility>

namespace kvtier {
namespace {

// The directory joins the store. From any thread.
void Join(const std::shared_ptr<StoreShared>& shared, const std::shared_ptr<Lanes>& lanes,
          std::size_t directory, OpenedDirectory opened) {
  // Writes that a crash kept from the journal had numbers as well; none of them comes again.
  constexpr std::uint64_t kSequenceGap = 1 << 24;
  const std::uint64_t first = opened.pages.sequence_max + kSequenceGap;
  std::uint64_t next = shared->next_sequence;
  while (next < first && !shared->next_sequence.compare_exchange_weak(next, first)) {
  }
  // In stretches: others use the catalog meanwhile.
  constexpr std::size_t kStretch = 4096;
  const std::uint64_t slots = opened.volume->segments().slots_allocated();
  std::span<const JournalRecord> left(opened.pages.puts);
  do {
    const auto stretch = left.first(std::min(kStretch, left.size()));
    shared->catalog.Restore(directory, slots, stretch);
    left = left.subspan(stretch.size());
  } while (!left.empty());
  shared->catalog.FinishRestore(directory);
  lanes->Add(directory, std::make_shared<Lane>(shared, directory, std::move(opened.volume)));
  shared->catalog.SetAvailable(directory, true);
}

}  // namespace

Openings::Openings(std::vector<DirectorySpec> directories, std::shared_ptr<StoreShared> shared,
                   std::shared_ptr<Lanes> lanes)
    : directories_(std::move(directories)), shared_(std::move(shared)), lanes_(std::move(lanes)) {}

void Openings::Begin() {
  const auto deadline = Clock::now() + Seconds(shared_->options.open_timeout_s);
  for (const DirectorySpec& spec : directories_) {
    openers_.push_back(std::make_unique<Opener>(
        [spec, shared = shared_] { return OpenDirectory(spec, shared->pages, shared->options); },
        RetryAfter(), "it is still being opened"));
  }
  try {
    Require(deadline);
    for (std::size_t i = 0; i < openers_.size(); ++i) openers_[i]->DeliverTo(JoinAs(i));
  } catch (...) {
    for (const auto& opener : openers_) opener->Stop(Clock::now());
    throw;
  }
}

void Openings::Again(std::size_t directory, std::shared_ptr<Lane> lane) {
  lane->BeginStop();
  const DirectorySpec& spec = directories_[directory];
  const Uuid uuid = lane->volume().superblock().uuid;
  // In the other thread, as all of it may hang. The old descriptors go first: where the same file
  // system is mounted again, its lock is still ours.
  auto open = [spec, uuid, directory, shared = shared_, lane = std::move(lane)]() mutable {
    if (lane) {
      (void)lane->WaitStopped(Clock::time_point::max());
      lane.reset();
      shared->catalog.Withdraw(directory);
    }
    return OpenDirectory(spec, shared->pages, shared->options, uuid);
  };
  auto opener =
      std::make_unique<Opener>(std::move(open), RetryAfter(),
                               "the directory that was there is gone: mount its disk there again");
  opener->DeliverTo(JoinAs(directory));
  const std::lock_guard lock(mutex_);
  openers_[directory] = std::move(opener);
}

std::string Openings::WhyNotOpen(std::size_t directory) const {
  const std::lock_guard lock(mutex_);
  return openers_[directory]->WhyNotOpen();
}

void Openings::Stop(Clock::time_point deadline) {
  for (const auto& opener : openers_) opener->Stop(deadline);
}

void Openings::Require(Clock::time_point deadline) const {
  const Opener* failed = nullptr;
  bool any_hope = false;
  for (const auto& opener : openers_) {
    const Opener::State state = opener->WaitForFirstTry(deadline);
    if (state == Opener::State::kRefused) opener->Rethrow();
    if (state == Opener::State::kFailed) {
      failed = opener.get();
    } else {
      any_hope = true;
    }
  }
  if (!any_hope) failed->Rethrow();
}

std::chrono::nanoseconds Openings::RetryAfter() const {
  return Seconds(shared_->options.probe_interval_s);
}

Opener::Take Openings::JoinAs(std::size_t directory) const {
  return [shared = shared_, lanes = lanes_, directory](OpenedDirectory opened) {
    Join(shared, lanes, directory, std::move(opened));
  };
}

}  // namespace kvtier
