#include "lane.h"

namespace kvtier {
namespace {

// How long a disk that had no room for more slots is left alone.
constexpr auto kGrowPause = std::chrono::seconds(1);

std::chrono::nanoseconds Seconds(double seconds) {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(
      std::chrono::duration<double>(seconds));
}

}  // namespace

Lane::Lane(StoreShared& shared, std::size_t self, std::unique_ptr<Volume> volume)
    : shared_(shared), self_(self), volume_(std::move(volume)) {
  const StoreOptions& options = shared.options;
  const SchedulerLimits limits{.threads = options.io_threads,
                               .reads = options.read_depth,
                               .writes = options.io_threads - options.read_depth};
  TaskRunner& runner = *this;
  scheduler_ = std::make_unique<Scheduler>(
      runner, limits, [this] { return SlotIo(volume_->segments(), volume_->superblock().uuid); });
  committer_ = std::thread([this] { CommitLoop(); });
}

Lane::~Lane() { Stop(); }

void Lane::Stop() {
  scheduler_->Stop();
  {
    const std::lock_guard lock(wake_mutex_);
    stopping_ = true;
  }
  wake_.notify_all();
  if (committer_.joinable()) committer_.join();
  CommitOnce();
}

void Lane::Run(const ReadTask& task, SlotIo& io) {
  SlotHeader wanted{};
  wanted.name_space = shared_.pages.name_space;
  wanted.key = task.key;
  wanted.sequence = task.placement.sequence;
  wanted.payload_bytes = shared_.pages.page_bytes;
  const ReadOutcome outcome = io.Read(task.placement.slot, wanted, task.pieces);
  shared_.catalog.EndRead(task.placement, !outcome.ok());
  Counters& counters = shared_.counters;
  Status status = Status::kOk;
  if (outcome.ok()) {
    ++counters.hits;
    counters.read_bytes += shared_.pages.page_bytes;
  } else if (outcome.corruption) {
    ++counters.corrupt[static_cast<std::size_t>(*outcome.corruption)];
    status = Status::kCorrupt;
  } else {
    ++counters.io_errors;
    status = Status::kIoError;
  }
  shared_.completions.Push(task.ticket, status);
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
  const auto slot = TakeSlot();
  if (!slot) {
    shared_.catalog.AbandonWrite(task.key);
    return Status::kNoRoom;
  }
  SlotHeader header{};
  header.name_space = shared_.pages.name_space;
  header.key = task.key;
  header.parent = task.parent;
  header.sequence = shared_.next_sequence++;
  header.payload_bytes = shared_.pages.page_bytes;
  const IoStatus written = io.Write(*slot, header, task.pieces);
  if (!written.ok()) {
    shared_.catalog.ReturnFree(self_, *slot);
    shared_.catalog.AbandonWrite(task.key);
    ++shared_.counters.io_errors;
    return written.IsNoSpace() ? Status::kNoRoom : Status::kIoError;
  }
  shared_.catalog.FinishWrite({self_, *slot, header.sequence}, task.key, task.parent);
  shared_.counters.written_bytes += header.payload_bytes;
  {
    const std::lock_guard lock(wake_mutex_);
    written_ = true;
  }
  wake_.notify_one();
  return Status::kOk;
}

std::optional<std::uint64_t> Lane::TakeSlot() {
  if (const auto slot = shared_.catalog.TakeFree(self_)) return slot;
  if (const auto slot = TakeGrown()) return slot;
  return shared_.catalog.TakeVictim(self_);
}

// Failing to grow is no error: the store recycles the slots that it has.
std::optional<std::uint64_t> Lane::TakeGrown() {
  const std::lock_guard lock(grow_mutex_);
  if (const auto slot = shared_.catalog.TakeFree(self_)) return slot;  // another thread grew it
  Segments& segments = volume_->segments();
  if (segments.slots_allocated() == segments.slots_max()) return std::nullopt;
  const Clock::time_point now = Clock::now();
  if (now < grow_again_) return std::nullopt;
  if (!volume_->Grow(shared_.options.reserve_bytes).ok()) {
    grow_again_ = now + kGrowPause;
    return std::nullopt;
  }
  shared_.catalog.SetAllocated(self_, segments.slots_allocated());
  return shared_.catalog.TakeFree(self_);
}

std::optional<std::string> Lane::Flush() {
  CommitOnce();
  const std::lock_guard lock(commit_mutex_);
  return std::exchange(commit_failure_, std::nullopt);
}

void Lane::CommitOnce() {
  const std::lock_guard lock(commit_mutex_);
  const IoStatus status = volume_->Commit(shared_.catalog, self_);
  if (status.ok()) return;
  ++shared_.counters.io_errors;
  if (!commit_failure_) {
    commit_failure_ = "cannot make pages in " + volume_->spec().path + " durable: " + status.Text();
  }
}

void Lane::CommitLoop() {
  const auto interval = Seconds(shared_.options.commit_interval_s);
  std::unique_lock lock(wake_mutex_);
  while (!stopping_) {
    wake_.wait(lock, [this] { return stopping_ || written_; });
    wake_.wait_for(lock, interval, [this] { return stopping_; });
    written_ = false;
    lock.unlock();
    CommitOnce();
    lock.lock();
  }
}

}  // namespace kvtier
