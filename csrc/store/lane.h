#pragma once

#include <atomic>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>

#include "breaker.h"
#include "scheduler.h"
#include "slot_source.h"
#include "stats.h"
#include "store_shared.h"
#include "volume.h"

namespace kvtier {

// One directory at work: does the reads and writes that the store hands it, and makes what was
// written durable from a thread of its own. Thread-safe.
class Lane : private TaskRunner {
 public:
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

  bool reads_in_use() const { return !reads_.is_open(); }
  // Also false while reads are out of use.
  bool writes_in_use() const { return reads_in_use() && !writes_.is_open(); }
  // Why reads or writes are out of use; empty when both are in use.
  std::string OutOfUseReason() const;

  // True once the path is found to lead elsewhere. Then the lane is out of use for good.
  bool is_lost() const { return is_lost_; }

  // Makes everything written so far durable. The sentence of the first failure since the last
  // Flush, if there was one. Does not wait for a disk that does not answer.
  std::optional<std::string> Flush();

  // Cancels what is queued; then ends what runs, flushes, and stops the threads.
  void BeginStop();
  // After BeginStop. False if that has not ended by `deadline`: the disk hangs. Then the lane must
  // be kept until it does.
  bool WaitStopped(Clock::time_point deadline);

  DirectoryStats Stats() const;

 private:
  class Visit;

  void Run(const ReadTask& task, SlotIo& io) override;
  void Run(const WriteTask& task, SlotIo& io) override;
  void Fail(const ReadTask& task, Status status) override;
  void Fail(const WriteTask& task, Status status) override;

  SlotIo MakeIo() { return {volume_->segments(), volume_->superblock().uuid}; }
  SlotHeader Expect(const Key& key, const Placement& placement) const;
  Status CountRead(const ReadOutcome& outcome);
  Status CountFailedRead(const ReadOutcome& outcome);
  bool ShouldDrop(const ReadOutcome& outcome) const;
  SlotHeader MakeHeader(const WriteTask& task);
  Status CountFailedWrite(const IoStatus& written);
  void CountIoError();
  void WakeCommitter();
  void EndWrite(const WriteTask& task, Status status);
  Status WritePage(const WriteTask& task, SlotIo& io);
  bool CommitOnce();
  void CommitLoop();
  void CommitLast();
  std::string NotDurable(const std::string& why) const;
  bool IsFlushWanted() const { return flush_done_ < flush_wanted_; }

  void ReadFailed(const std::string& why);
  void WriteFailed(const std::string& why);
  void FailQueued();
  // Looks whether the directory is still at its path.
  void CheckPresent();
  void MarkTime();
  // Tries a directory that is out of use, and takes it back when it works.
  void Probe();
  std::string Describe(const char* what, const std::string& why) const;

  const std::shared_ptr<StoreShared> owned_;
  StoreShared& shared_;
  const std::size_t self_;
  const std::unique_ptr<Volume> volume_;
  SlotSource slots_;

  Breaker reads_;
  Breaker writes_;
  std::atomic<std::uint64_t> io_errors_{0};

  std::atomic<bool> is_lost_{false};

  // When the committer began with the disk; 0: it is not at it.
  std::atomic<Clock::rep> committing_since_{0};

  mutable std::mutex wake_mutex_;  // guards the next seven
  std::condition_variable wake_;
  bool written_ = false;
  bool stopping_ = false;
  bool stopped_ = false;
  bool commit_hangs_ = false;
  int visitors_ = 0;  // scrubs at work
  std::uint64_t flush_wanted_ = 0, flush_done_ = 0;
  std::optional<std::string> commit_failure_;

  std::unique_ptr<Scheduler> scheduler_;
  std::thread committer_;
};

}  // namespace kvtier
