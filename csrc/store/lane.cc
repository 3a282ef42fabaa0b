#include "lane.h"

#include <algorithm>
#include <cerrno>
#include <system_error>

namespace kvtier {
namespace {

// Memory that the caller gave and the kernel refuses says nothing about the disk.
bool IsCallersFault(const IoStatus& status) { return status.error() == EFAULT; }

}  // namespace

std::shared_ptr<Lane> Lane::Start(std::shared_ptr<StoreShared> shared, std::size_t self,
                                  std::unique_ptr<Volume> volume) {
  return {new Lane(std::move(shared), self, std::move(volume)), [](Lane* lane) {
            lane->BeginStop();
            if (lane->WaitStopped(Clock::now())) {
              delete lane;
              return;
            }
            try {
              std::thread([lane] { delete lane; }).detach();
            } catch (const std::system_error&) {  // no thread to be had: it stays
            }
          }};
}

Lane::Lane(std::shared_ptr<StoreShared> shared, std::size_t self, std::unique_ptr<Volume> volume)
    : owned_(std::move(shared)),
      shared_(*owned_),
      self_(self),
      volume_(std::move(volume)),
      slots_(shared_.catalog, self, *volume_, shared_.options.reserve_bytes),
      health_(shared_.catalog, self, volume_->spec().path),
      committer_(*this, shared_.options, volume_->spec().path) {
  const StoreOptions& options = shared_.options;
  const SchedulerLimits limits{.reads = options.ReadDepthFor(shared_.pages.page_bytes),
                               .writes = options.write_depth};
  TaskRunner& runner = *this;
  scheduler_ = std::make_unique<Scheduler>(runner, limits, [this] { return MakeIo(); });
  committer_.Start();
}

Lane::~Lane() {
  BeginStop();
  (void)WaitStopped(Clock::time_point::max());
}

void Lane::BeginStop() {
  scheduler_->BeginStop();
  visitors_.Close();
  committer_.BeginStop();
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
  const Visitors::Visit visit(visitors_);
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
  health_.ReadSucceeded();
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
  return outcome.corruption.has_value() || health_.reads_in_use();
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
  health_.WriteSucceeded();
  shared_.catalog.FinishWrite({self_, *slot, header.sequence}, task.key, task.parent);
  shared_.counters.written_bytes += header.payload_bytes;
  volume_->CountWritten(header.payload_bytes);
  committer_.Written();
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

IoStatus Lane::Commit() {
  const IoStatus status = volume_->Commit(shared_.catalog, self_, shared_.next_sequence);
  if (status.ok()) {
    health_.CommitSucceeded();
    return status;
  }
  CountIoError();
  // Even for want of space: pages that cannot be made durable are not taken in.
  if (health_.CommitFailed(status.Text())) FailQueued();
  return status;
}

void Lane::Look(bool is_idle) {
  CheckPresent();
  if (is_idle) MarkTime();
}

void Lane::WaitForRest() {
  scheduler_->Join();
  visitors_.WaitUntilNone();
}

IoStatus Lane::CommitLast() {
  const IoStatus status = Commit();
  if (!status.ok() || !writes_in_use()) return status;
  // What fails now costs the order of use or a mark, and no page.
  if (shared_.catalog.OrderChanged(self_)) {
    (void)volume_->Compact(shared_.catalog, self_, shared_.next_sequence);
  } else {
    (void)volume_->CommitMark(shared_.next_sequence);
  }
  return status;
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
  if (health_.TakeOut(status.Text())) FailQueued();
}

void Lane::ReadFailed(const std::string& why) {
  if (health_.ReadFailed(why)) FailQueued();
}

void Lane::WriteFailed(const std::string& why) {
  if (health_.WriteFailed(why)) FailQueued();
}

void Lane::FailQueued() {
  if (!reads_in_use()) scheduler_->FailQueuedReads(Status::kIoError);
  scheduler_->FailQueuedWrites(Status::kDropped);
  committer_.Wake();
}

void Lane::Watch(Clock::time_point now) {
  scheduler_->ExpireReads(now);
  const bool stalls = TransferHangs(now) || committer_.Hangs(now);
  if (stalls && health_.TakeOut("the disk does not answer")) FailQueued();
}

bool Lane::TransferHangs(Clock::time_point now) const {
  const auto oldest = scheduler_->OldestRunning();
  return oldest && now - *oldest > Seconds(shared_.options.stall_timeout_s);
}

IoStatus Lane::Probe() {
  if (is_lost_ || !volume_->ProbeRead().ok()) return {};
  // One that stalled is not back before all that it was given has ended.
  if (TransferHangs(Clock::now())) return {};
  health_.ReadsWork();
  if (!health_.writes_are_out() || !volume_->ProbeWrite().ok()) return {};
  const IoStatus status = Commit();
  if (status.ok()) health_.WritesWork();
  return status;
}

DirectoryStats Lane::Stats() const {
  DirectoryStats stats;
  const Volume& volume = *volume_;
  stats.path = volume.spec().path;
  stats.is_open = true;
  stats.reads_in_use = reads_in_use();
  stats.writes_in_use = writes_in_use();
  stats.out_of_use_reason = health_.OutOfUseReason();
  stats.direct_io = volume.is_direct();
  stats.pages = shared_.catalog.PagesIn(self_);
  stats.capacity_pages = volume.segments().slots_max();
  stats.capacity_bytes = volume.spec().capacity_bytes;
  stats.used_bytes = volume.UsedBytes();
  volume.AddTraffic(stats);
  stats.io_errors = io_errors_;
  stats.reads_queued = reads_queued();
  stats.writes_queued = writes_queued();
  stats.reads_busy_s = scheduler_->reads_busy_s();
  stats.writes_busy_s = scheduler_->writes_busy_s();
  return stats;
}

}  // namespace kvtier
