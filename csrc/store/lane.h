#pragma once

#include <atomic>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "committer.h"
#include "health.h"
#include "scheduler.h"
#include "slot_source.h"
#include "stats.h"
#include "store_shared.h"
#include "visitors.h"
#include "volume.h"

namespace kvtier {

// One directory at work: does the reads and writes that the store hands it, and makes what was
// written durable from a thread of its own. Thread-safe.
class Lane : private TaskRunner, private CommitWork {
 public:
  // Whoever lets go of it last, does not wait for a disk that hangs: then a thread of its own does.
  static std::shared_ptr<Lane> Start(std::shared_ptr<StoreShared> shared, std::size_t self,
                                     std::unique_ptr<Volume> volume);
  Lane(std::shared_ptr<StoreShared> shared, std::size_t self, std::unique_ptr<Volume> volume);
  ~Lane() override;

  Volume& volume() { return *volume_; }

  void Submit(std::vector<ReadTask> tasks) { scheduler_->Submit(std::move(tasks)); }
  void Submit(WriteTask task) { scheduler_->Submit(std::move(task)); }
  // Reads the first page in `slot` or after it into `memory`, and compares it. In the caller's
  // thread. Nothing when there is none, or the directory is out of use or being closed.
  struct Scrubbed {
    std::uint64_t slot;
    ReadOutcome outcome;
  };
  std::optional<Scrubbed> ScrubNext(std::uint64_t slot, std::span<const Piece> memory);
  // Ends reads past their deadline and takes a stalled directory out of use.
  void Watch(Clock::time_point now);
  std::size_t reads_queued() const { return scheduler_->reads_queued(); }
  std::size_t writes_queued() const { return scheduler_->writes_queued(); }

  bool reads_in_use() const { return health_.reads_in_use(); }
  // Also false while reads are out of use.
  bool writes_in_use() const { return health_.writes_in_use(); }

  // Expires when the lane is gone, threads and all.
  std::weak_ptr<const void> lifetime() const { return lifetime_; }

  // True once the path is found to lead elsewhere. Then the lane is out of use for good.
  bool is_lost() const { return is_lost_; }

  // Makes everything written so far durable. The sentence of the first failure since the last
  // Flush that had ended before, if there was one. Does not wait for a disk that does not answer.
  std::optional<std::string> Flush() { return committer_.Flush(); }

  // Cancels what is queued; then ends what runs, flushes, and stops the threads.
  void BeginStop();
  // After BeginStop. False if that has not ended by `deadline`: the disk hangs. Then the lane must
  // be kept until it does.
  bool WaitStopped(Clock::time_point deadline) { return committer_.WaitStopped(deadline); }
  // Once it has stopped: why what was written last is not durable.
  const std::optional<std::string>& last_failure() const { return committer_.last_failure(); }

  DirectoryStats Stats() const;

 private:
  void Run(const ReadTask& task, SlotIo& io) override;
  void Run(const WriteTask& task, SlotIo& io) override;
  void Fail(const ReadTask& task, Status status) override;
  void Fail(const WriteTask& task, Status status) override;

  bool TakesWrites() const override { return writes_in_use(); }
  IoStatus Commit() override;
  IoStatus Probe() override;
  void Look(bool is_idle) override;
  void WaitForRest() override;
  IoStatus CommitLast() override;

  SlotIo MakeIo() { return {volume_->segments(), volume_->superblock().uuid}; }
  SlotHeader Expect(const Key& key, const Placement& placement) const;
  Status CountRead(const ReadOutcome& outcome);
  Status CountFailedRead(const ReadOutcome& outcome);
  bool ShouldDrop(const ReadOutcome& outcome) const;
  SlotHeader MakeHeader(const WriteTask& task);
  Status CountFailedWrite(const IoStatus& written);
  void CountIoError();
  void EndWrite(const WriteTask& task, Status status);
  Status WritePage(const WriteTask& task, SlotIo& io);
  bool TransferHangs(Clock::time_point now) const;

  void ReadFailed(const std::string& why);
  void WriteFailed(const std::string& why);
  void FailQueued();
  // Looks whether the directory is still at its path.
  void CheckPresent();
  void MarkTime();

  const std::shared_ptr<const void> lifetime_ = std::make_shared<char>();  // the last to go
  const std::shared_ptr<StoreShared> owned_;
  StoreShared& shared_;
  const std::size_t self_;
  const std::unique_ptr<Volume> volume_;
  SlotSource slots_;

  Health health_;
  std::atomic<std::uint64_t> io_errors_{0};

  std::atomic<bool> is_lost_{false};

  Visitors visitors_;  // scrubs at work
  std::unique_ptr<Scheduler> scheduler_;
  Committer committer_;
};

}  // namespace kvtier
