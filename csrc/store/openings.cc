#include "openings.h"

#include <algorithm>
#include <optional>
#include <span>
#include <utility>

namespace kvtier {
namespace {

constexpr const char* kGoneSentence =
    "the directory that was there is gone: mount its disk there again";

// The directory joins the store. In the opener's thread.
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
  try {
    do {
      const auto stretch = left.first(std::min(kStretch, left.size()));
      shared->catalog.Restore(directory, slots, stretch);
      left = left.subspan(stretch.size());
    } while (!left.empty());
    shared->catalog.FinishRestore(directory);
    lanes->Add(directory, Lane::Start(shared, directory, std::move(opened.volume)));
  } catch (...) {  // no memory, or no threads
    shared->catalog.Withdraw(directory);
    throw;
  }
  shared->catalog.SetAvailable(directory, true);
}

}  // namespace

Openings::Openings(std::vector<DirectorySpec> directories, std::shared_ptr<StoreShared> shared,
                   std::shared_ptr<Lanes> lanes)
    : directories_(std::move(directories)), shared_(std::move(shared)), lanes_(std::move(lanes)) {}

void Openings::Begin() {
  const auto deadline = Clock::now() + Seconds(shared_->options.open_timeout_s);
  try {
    for (std::size_t i = 0; i < directories_.size(); ++i) openers_.push_back(FirstOpener(i));
    Require(deadline);
  } catch (...) {
    Stop(deadline);
    for (const auto& lane : lanes_->TakeAll()) {
      if (!lane) continue;
      lane->BeginStop();
      (void)lane->WaitStopped(std::max(deadline, Clock::now()));
    }
    throw;
  }
}

std::unique_ptr<Opener> Openings::FirstOpener(std::size_t directory) const {
  // A directory is made on the disk that is there at the first try, and on no other: what lies
  // below a mount is not ours.
  auto open = [spec = directories_[directory], shared = shared_,
               disk = std::optional<DiskId>()]() mutable {
    if (!disk) disk = DiskAt(spec.path);
    return OpenDirectory(spec, shared->pages, shared->options, OnDisk{*disk});
  };
  return OpenerFor(directory, std::move(open), "it is still being opened");
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
  auto opener = OpenerFor(directory, std::move(open), kGoneSentence);
  const std::lock_guard lock(mutex_);
  openers_[directory] = std::move(opener);
}

std::unique_ptr<Opener> Openings::OpenerFor(std::size_t directory, Opener::Open open,
                                            const std::string& why) const {
  return std::make_unique<Opener>(
      std::move(open),
      [shared = shared_, lanes = lanes_, directory](OpenedDirectory opened) {
        Join(shared, lanes, directory, std::move(opened));
      },
      Seconds(shared_->options.probe_interval_s), why);
}

std::string Openings::WhyNotOpen(std::size_t directory) const {
  const std::lock_guard lock(mutex_);
  const std::string why = openers_[directory]->WhyNotOpen();
  return why.empty() ? kGoneSentence : why;
}

void Openings::Stop(Clock::time_point deadline) {
  for (const auto& opener : openers_) opener->Stop(deadline);
}

bool Openings::IsAtWork(std::size_t directory) const {
  const std::lock_guard lock(mutex_);
  return !openers_[directory]->HasEnded();
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

}  // namespace kvtier
