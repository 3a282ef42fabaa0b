#pragma once

#include <atomic>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <numeric>
#include <optional>
#include <string>
#include <thread>

#include "admission.h"
#include "breaker.h"
#include "catalog.h"
#include "completions.h"
#include "counters.h"
#include "options.h"
#include "scheduler.h"
#include "volume.h"

namespace kvtier {

// What the directories of one store share.
struct StoreShared {
  StoreShared(const StoreOptions& with, const PageGeometry& of,
              const std::vector<std::uint64_t>& slots_max)
      : options(with),
        pages(of),
        catalog(slots_max, with.eviction),
        admission(with.admission,
                  std::accumulate(slots_max.begin(), slots_max.end(), std::uint64_t{0})) {}

  const StoreOptions options;
  const PageGeometry pages;
  Catalog catalog;
  Admission admission;
  Completions completions;
  Counters counters;
  std::atomic<std::uint64_t> next_sequence{1};
  std::atomic<std::size_t> writes_waiting{0};  // accepted and not yet ended
};

// One directory at work: does the reads and writes that the store hands it, and makes what was
// written durable from a thread of its own. Thread-safe.
class Lane : private TaskRunner {
 public:
  Lane(StoreShared& shared, std::size_t self, std::unique_ptr<Volume> volume);
  ~Lane() override;

  Volume& volume() { return *volume_; }

  void Submit(std::vector<ReadTask> tasks) { scheduler_->Submit(std::move(tasks)); }
  void Submit(WriteTask task) { scheduler_->Submit(std::move(task)); }
  // Reads a page that Catalog::BeginScrub gave into `memory`, and compares it; ends the reading.
  // In the caller's thread.
  ReadOutcome Scrub(const PageAtWork& page, std::span<const Piece> memory);
  // Ends reads past their deadline and takes a stalled directory out of use.
  void Watch(Clock::time_point now);
  std::size_t reads_queued() const { return scheduler_->reads_queued(); }
  std::size_t writes_queued() const { return scheduler_->writes_queued(); }

  bool reads_in_use() const { return !reads_.is_open(); }
  // Also false while reads are out of use.
  bool writes_in_use() const { return reads_in_use() && !writes_.is_open(); }
  // Why reads or writes are out of use; empty when both are in use.
  std::string OutOfUseReason() const;

  // Makes everything written so far durable. The sentence of the first failure since the last
  // Flush, if there was one.
  std::optional<std::string> Flush();

  // Cancels what is queued, ends what runs, flushes, and stops the threads.
  void Stop();

 private:
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
  void WakeCommitter();
  void EndWrite(const WriteTask& task, Status status);
  Status WritePage(const WriteTask& task, SlotIo& io);
  std::optional<std::uint64_t> TakeSlot();
  std::optional<std::uint64_t> TakeGrown();
  bool CommitOnce();
  void CommitLoop();

  void ReadFailed(const std::string& why);
  void WriteFailed(const std::string& why);
  void FailQueued();
  // Tries a directory that is out of use, and takes it back when it works.
  void Probe();
  std::string Describe(const char* what, const std::string& why) const;

  StoreShared& shared_;
  const std::size_t self_;
  const std::unique_ptr<Volume> volume_;

  std::mutex grow_mutex_;
  Clock::time_point grow_again_{};  // guarded by grow_mutex_

  Breaker reads_;
  Breaker writes_;

  std::atomic<Clock::rep> commit_begun_{0};    // 0: none runs
  std::mutex commit_mutex_;                    // one commit at a time
  std::optional<std::string> commit_failure_;  // guarded by commit_mutex_

  std::mutex wake_mutex_;
  std::condition_variable wake_;
  bool written_ = false;  // guarded by wake_mutex_, like the next
  bool stopping_ = false;

  std::unique_ptr<Scheduler> scheduler_;
  std::thread committer_;
};

}  // namespace kvtier
