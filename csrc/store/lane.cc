#include "lane.h"

#include <algorithm>
#include <cerrno>

namespace kvtier {
namespace {

constexpr int kProbeDoublingsMax = 5;

// Memory that the caller gave and the kernel refuses says nothing about the disk.
bool IsCallersFault(const IoStatus& status) { return status.error() == EFAULT; }

}  // namespace

// A scrub at work; closing waits for it.
class Lane::Visit {
 public:
  explicit Visit(Lane& lane) : lane_(lane) {
    const std::lock_guard lock(lane.wake_mutex_);
    is_admitted_ = !lane.stopping_;
    if (is_admitted_) ++lane.visitors_;
  }
  ~Visit() {
    if (!is_admitted_) return;
    const std::lock_guard lock(lane_.wake_mutex_);
    --lane_.visitors_;
    lane_.wake_.notify_all();
  }
  Visit(const Visit&) = delete;
  Visit& operator=(const Visit&) = delete;

  bool is_admitted() const { return is_admitted_; }

 private:
  Lane& lane_;
  bool is_admitted_ = false;
};

Lane::Lane(std::shared_ptr<StoreShared> shared, std::size_t self, std::unique_ptr<Volume> volume)
    : owned_(std::move(shared)),
      shared_(*owned_),
      self_(self),
      volume_(std::move(volume)),
      slots_(shared_.catalog, self, *volume_, shared_.options.reserve_bytes) {
  const StoreOptions& options = shared_.options;
  const SchedulerLimits limits{.reads = options.ReadDepthFor(shared_.pages.page_bytes),
                               .writes = options.write_depth};
  TaskRunner& runner = *this;
  scheduler_ = std::make_unique<Scheduler>(runner, limits, [this] { return MakeIo(); });
  committer_ = std::thread([this] { CommitLoop(); });
}

Lane::~Lane() {
  BeginStop();
  if (committer_.joinable()) committer_.join();
}

void Lane::BeginStop() {
  scheduler_->BeginStop();
  const std::lock_guard lock(wake_mutex_);
  stopping_ = true;
  wake_.notify_all();
}

bool Lane::WaitStopped(Clock::time_point deadline) {
  {
    std::unique_lock lock(wake_mutex_);
    if (!wake_.wait_until(lock, deadline, [this] { return stopped_; })) return false;
  }
  if (committer_.joinable()) committer_.join();
  return true;
}

SlotHeader Lane::Expect(const Key& key, const Placement& placement) const {
  SlotHeader header{};
  header.name_space = shared_.pages.name_space;
  header.key = key;
  header.sequence = placement.sequence;
  header.payload_bytes = shared_.pages.page_bytes;
  return header;
}

void Lane::Run(const ReadTask& task, SlotIo& io) {
  const SlotHeader wanted = Expect(task.key, task.placement);
  const ReadOutcome outcome = io.Read(task.placement.slot, wanted, task.pieces);
  shared_.catalog.EndRead(task.placement, ShouldDrop(outcome));
  shared_.completions.Push(task.ticket, CountRead(outcome));
}

std::optional<Lane::Scrubbed> Lane::ScrubNext(std::uint64_t slot, std::span<const Piece> memory) {
  const Visit visit(*this);
  if (!visit.is_admitted()) return std::nullopt;
  const auto page = shared_.catalog.BeginScrub(self_, slot);
  if (!page) return std::nullopt;
  SlotIo io = MakeIo();
  const ReadOutcome outcome =
      io.Read(page->placement.slot, Expect(page->key, page->placement), memory);
  shared_.catalog.EndRead(page->placement, ShouldDrop(outcome));
  if (!outcome.ok()) (void)CountFailedRead(outcome);
  return Scrubbed{page->placement.slot, outcome};
}

Status Lane::CountRead(const ReadOutcome& outcome) {
  if (!outcome.ok()) return CountFailedRead(outcome);
  reads_.Succeeded();
  ++shared_.counters.hits;
  shared_.counters.read_bytes += shared_.pages.page_bytes;
  volume_->CountHit(shared_.pages.page_bytes);
  return Status::kOk;
}

Status Lane::CountFailedRead(const ReadOutcome& outcome) {
  Counters& counters = shared_.counters;
  if (outcome.corruption) {
    ++counters.corrupt[static_cast<std::size_t>(*outcome.corruption)];
    return Status::kCorrupt;
  }
  CountIoError();
  if (!IsCallersFault(outcome.io)) ReadFailed(outcome.io.Text());
  return Status::kIoError;
}

// A bad spot on the disk is not tried again; a disk that is gone keeps its pages.
bool Lane::ShouldDrop(const ReadOutcome& outcome) const {
  if (outcome.ok() || IsCallersFault(outcome.io)) return false;
  return outcome.corruption.has_value() || !reads_.is_open();
}

void Lane::Fail(const ReadTask& task, Status status) {
  shared_.catalog.EndRead(task.placement, false);
  if (status == Status::kTimedOut) ++shared_.counters.timed_out_reads;
  shared_.completions.Push(task.ticket, status);
}

void Lane::Run(const WriteTask& task, SlotIo& io) { EndWrite(task, WritePage(task, io)); }

void Lane::Fail(const WriteTask& task, Status status) {
  shared_.catalog.AbandonWrite(task.key);
  EndWrite(task, status);
}

void Lane::EndWrite(const WriteTask& task, Status status) {
  --shared_.writes_waiting;
  if (status == Status::kDropped || status == Status::kNoRoom) ++shared_.counters.dropped_writes;
  shared_.completions.Push(task.ticket, status);
}

Status Lane::WritePage(const WriteTask& task, SlotIo& io) {
  auto slot = slots_.Take();
  IoStatus written(ENOSPC);
  SlotHeader header{};
  // On a file system that allocates at every write a full disk shows only here: once more, then,
  // in the place of a page that has its blocks.
  for (int attempt = 0; attempt < 2 && slot && written.IsNoSpace(); ++attempt) {
    if (attempt > 0 && !(slot = slots_.Replace(*slot))) break;
    header = MakeHeader(task);
    written = io.Write(*slot, header, task.pieces);
  }
  if (!written.ok()) {
    if (slot) shared_.catalog.ReturnFree(self_, *slot);
    shared_.catalog.AbandonWrite(task.key);
    return CountFailedWrite(written);
  }
  writes_.Succeeded();
  shared_.catalog.FinishWrite({self_, *slot, header.sequence}, task.key, task.parent);
  shared_.counters.written_bytes += header.payload_bytes;
  volume_->CountWritten(header.payload_bytes);
  WakeCommitter();
  return Status::kOk;
}

SlotHeader Lane::MakeHeader(const WriteTask& task) {
  SlotHeader header{};
  header.name_space = shared_.pages.name_space;
  header.key = task.key;
  header.parent = task.parent;
  header.sequence = shared_.next_sequence++;
  header.payload_bytes = shared_.pages.page_bytes;
  return header;
}

Status Lane::CountFailedWrite(const IoStatus& written) {
  if (written.IsNoSpace()) return Status::kNoRoom;
  CountIoError();
  if (!IsCallersFault(written)) WriteFailed(written.Text());
  return Status::kIoError;
}

void Lane::CountIoError() {
  ++io_errors_;
  ++shared_.counters.io_errors;
}

void Lane::WakeCommitter() {
  const std::lock_guard lock(wake_mutex_);
  written_ = true;
  wake_.notify_all();
}

std::optional<std::string> Lane::Flush() {
  std::unique_lock lock(wake_mutex_);
  const std::uint64_t wanted = ++flush_wanted_;
  wake_.notify_all();
  wake_.wait(lock, [&] { return flush_done_ >= wanted || commit_hangs_ || stopped_; });
  if (flush_done_ < wanted && commit_hangs_) return NotDurable("the disk does not answer");
  return std::exchange(commit_failure_, std::nullopt);
}

std::string Lane::NotDurable(const std::string& why) const {
  return "cannot make pages in " + volume_->spec().path + " durable: " + why;
}

bool Lane::CommitOnce() {
  const IoStatus status = volume_->Commit(shared_.catalog, self_, shared_.next_sequence);
  if (status.ok()) return true;
  CountIoError();
  // Even for want of space: pages that cannot be made durable are not taken in.
  WriteFailed(status.Text());
  const std::lock_guard lock(wake_mutex_);
  if (!commit_failure_) commit_failure_ = NotDurable(status.Text());
  return false;
}

void Lane::CommitLoop() {
  const auto interval = Seconds(shared_.options.commit_interval_s);
  const auto probe_interval = Seconds(shared_.options.probe_interval_s);
  int failed_probes = 0;
  std::unique_lock lock(wake_mutex_);
  for (;;) {
    const bool is_wanted = wake_.wait_for(lock, probe_interval, [this] {
      return stopping_ || written_ || IsFlushWanted() || !writes_in_use();
    });
    if (!is_wanted) {
      lock.unlock();
      committing_since_ = Clock::now().time_since_epoch().count();
      CheckPresent();
      MarkTime();
      committing_since_ = 0;
      lock.lock();
      commit_hangs_ = false;
      continue;
    }
    const bool probes = !writes_in_use();
    const auto pause =
        probes ? probe_interval * (1 << std::min(failed_probes, kProbeDoublingsMax)) : interval;
    wake_.wait_for(lock, pause, [this] { return stopping_ || IsFlushWanted(); });
    if (stopping_) break;
    written_ = false;
    const std::uint64_t flush = flush_wanted_;
    lock.unlock();
    committing_since_ = Clock::now().time_since_epoch().count();
    if (probes) {
      Probe();
      failed_probes = writes_in_use() ? 0 : failed_probes + 1;
    }
    const bool again = !CommitOnce();
    CheckPresent();
    committing_since_ = 0;
    lock.lock();
    written_ = written_ || again;
    commit_hangs_ = false;
    flush_done_ = flush;
    wake_.notify_all();
  }
  lock.unlock();
  CommitLast();
  lock.lock();
  stopped_ = true;
  wake_.notify_all();
}

void Lane::CommitLast() {
  scheduler_->Join();
  {
    std::unique_lock lock(wake_mutex_);
    wake_.wait(lock, [this] { return visitors_ == 0; });
  }
  if (!CommitOnce() || !writes_in_use()) return;
  // What fails now costs the order of use or a mark, and no page.
  if (shared_.catalog.OrderChanged(self_)) {
    (void)volume_->Compact(shared_.catalog, self_, shared_.next_sequence);
  } else {
    (void)volume_->CommitMark(shared_.next_sequence);
  }
}

// For who looks from outside at a directory that is only read.
void Lane::MarkTime() {
  const IoStatus status = volume_->CommitMarkIfDue(shared_.next_sequence);
  if (status.ok()) return;
  CountIoError();
  WriteFailed(status.Text());
}

void Lane::CheckPresent() {
  const IoStatus status = volume_->CheckPresent();
  if (status.error() != IoStatus::kGone) return;
  is_lost_ = true;
  if (!reads_.Open(Describe("reads and writes", status.Text()))) return;
  shared_.catalog.SetAvailable(self_, false);
  FailQueued();
}

std::string Lane::Describe(const char* what, const std::string& why) const {
  return std::string(what) + " of " + volume_->spec().path + " are out of use: " + why;
}

std::string Lane::OutOfUseReason() const {
  const std::string reason = reads_.reason();
  return reason.empty() ? writes_.reason() : reason;
}

void Lane::ReadFailed(const std::string& why) {
  if (!reads_.Failed(Describe("reads and writes", why))) return;
  shared_.catalog.SetAvailable(self_, false);
  FailQueued();
}

void Lane::WriteFailed(const std::string& why) {
  if (writes_.Failed(Describe("writes", why))) FailQueued();
}

void Lane::FailQueued() {
  if (!reads_in_use()) scheduler_->FailQueuedReads(Status::kIoError);
  scheduler_->FailQueuedWrites(Status::kDropped);
  const std::lock_guard lock(wake_mutex_);  // the committer is asleep, or will look
  wake_.notify_all();
}

void Lane::Watch(Clock::time_point now) {
  scheduler_->ExpireReads(now);
  const auto limit = Seconds(shared_.options.stall_timeout_s);
  const auto oldest = scheduler_->OldestRunning();
  const Clock::time_point commit{Clock::duration(committing_since_.load())};
  const bool stalled = oldest && now - *oldest > limit;
  const bool commit_stalled = commit != Clock::time_point{} && now - commit > limit;
  if (commit_stalled) {
    const std::lock_guard lock(wake_mutex_);
    commit_hangs_ = committing_since_ != 0;
    wake_.notify_all();
  }
  if ((!stalled && !commit_stalled) || !reads_in_use()) return;
  if (!reads_.Open(Describe("reads and writes", "the disk does not answer"))) return;
  shared_.catalog.SetAvailable(self_, false);
  FailQueued();
}

void Lane::Probe() {
  if (is_lost_ || !volume_->ProbeRead().ok()) return;
  // One that stalled is not back before all that it was given has ended.
  const auto oldest = scheduler_->OldestRunning();
  const auto limit = Seconds(shared_.options.stall_timeout_s);
  if (oldest && Clock::now() - *oldest > limit) return;
  reads_.Close();
  shared_.catalog.SetAvailable(self_, true);
  if (writes_.is_open() && volume_->ProbeWrite().ok() && CommitOnce()) writes_.Close();
}

DirectoryStats Lane::Stats() const {
  DirectoryStats stats;
  const Volume& volume = *volume_;
  stats.path = volume.spec().path;
  stats.is_open = true;
  stats.reads_in_use = reads_in_use();
  stats.writes_in_use = writes_in_use();
  stats.out_of_use_reason = OutOfUseReason();
  stats.direct_io = volume.is_direct();
  stats.pages = shared_.catalog.PagesIn(self_);
  stats.capacity_pages = volume.segments().slots_max();
  stats.capacity_bytes = volume.spec().capacity_bytes;
  stats.used_bytes = volume.UsedBytes();
  volume.AddTraffic(stats);
  stats.io_errors = io_errors_;
  stats.reads_queued = reads_queued();
  stats.writes_queued = writes_queued();
  return stats;
}

}  // namespace kvtier
