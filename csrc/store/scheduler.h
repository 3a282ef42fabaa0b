#pragma once

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <mutex>
#include <optional>
#include <set>
#include <thread>
#include <vector>

#include "busy_time.h"
#include "catalog.h"
#include "clock.h"
#include "slot_io.h"

namespace kvtier {

struct ReadTask {
  std::uint64_t ticket;
  Key key;
  std::vector<Piece> pieces;
  Placement placement;
  Clock::time_point deadline;
};

struct WriteTask {
  std::uint64_t ticket;
  Key key;
  Key parent;
  std::vector<Piece> pieces;
};

// What the scheduler does with a task, and what happens to one that it will not run.
class TaskRunner {
 public:
  virtual ~TaskRunner() = default;
  virtual void Run(const ReadTask& task, SlotIo& io) = 0;
  virtual void Run(const WriteTask& task, SlotIo& io) = 0;
  virtual void Fail(const ReadTask& task, Status status) = 0;
  virtual void Fail(const WriteTask& task, Status status) = 0;
};

// How many at once.
struct SchedulerLimits {
  int reads = 1;
  int writes = 1;
};

// The queue of one directory and the threads that work it off: reads before writes, each kind in
// the order given. Threads do blocking I/O, which every kernel and container allows; a few are
// enough, as more requests at once only wait for one another in the disk. Thread-safe.
class Scheduler {
 public:
  Scheduler(TaskRunner& runner, const SchedulerLimits& limits,
            const std::function<SlotIo()>& make_io);
  ~Scheduler();

  void Submit(std::vector<ReadTask> tasks);
  void Submit(WriteTask task);

  // Ends queued reads whose deadline has passed.
  void ExpireReads(Clock::time_point now);
  // End everything that is queued.
  void FailQueuedReads(Status status);
  void FailQueuedWrites(Status status);
  // Ends what is queued, and what comes later, as cancelled.
  void BeginStop();
  // After BeginStop: waits for what runs, and ends the threads.
  void Join();

  // When the longest running of the tasks at work was begun; nothing when none is.
  std::optional<Clock::time_point> OldestRunning() const;

  // Queued or running.
  std::size_t reads_queued() const;
  std::size_t writes_queued() const;
  // Seconds in which at least one of them ran.
  double reads_busy_s() const;
  double writes_busy_s() const;

 private:
  template <typename Task>
  void FailAll(std::deque<Task>& queue, Status status);
  void Work(SlotIo io);
  bool ReadReady() const { return !reads_.empty() && reads_running_.running() < limits_.reads; }
  bool WriteReady() const { return !writes_.empty() && writes_running_.running() < limits_.writes; }
  void RunRead(std::unique_lock<std::mutex>& lock, SlotIo& io);
  void RunWrite(std::unique_lock<std::mutex>& lock, SlotIo& io);

  TaskRunner& runner_;
  const SchedulerLimits limits_;
  mutable std::mutex mutex_;
  std::condition_variable work_;
  std::deque<ReadTask> reads_;  // these six are guarded by mutex_
  std::deque<WriteTask> writes_;
  BusyTime reads_running_;
  BusyTime writes_running_;
  std::multiset<Clock::time_point> running_since_;
  bool stopping_ = false;
  std::vector<std::thread> threads_;
};

}  // namespace kvtier
