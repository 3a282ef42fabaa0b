#include "scheduler.h"

#include <algorithm>
#include <iterator>
#include <utility>

namespace kvtier {

Scheduler::Scheduler(TaskRunner& runner, const SchedulerLimits& limits,
                     const std::function<SlotIo()>& make_io)
    : runner_(runner), limits_(limits) {
  for (int i = 0; i < limits.threads; ++i) {
    threads_.emplace_back([this, io = make_io()]() mutable { Work(std::move(io)); });
  }
}

Scheduler::~Scheduler() { Stop(); }

template <typename Task>
void Scheduler::Enqueue(std::vector<Task> tasks, std::deque<Task>& queue) {
  {
    const std::lock_guard lock(mutex_);
    if (!stopping_) {
      std::ranges::move(tasks, std::back_inserter(queue));
      tasks.clear();
    }
  }
  work_.notify_all();
  for (const Task& task : tasks) runner_.Fail(task, Status::kCancelled);
}

void Scheduler::Submit(std::vector<ReadTask> tasks) { Enqueue(std::move(tasks), reads_); }

void Scheduler::Submit(std::vector<WriteTask> tasks) { Enqueue(std::move(tasks), writes_); }

Clock::time_point Scheduler::ExpireReads(Clock::time_point now) {
  std::vector<ReadTask> expired;
  Clock::time_point next = Clock::time_point::max();
  {
    const std::lock_guard lock(mutex_);
    while (!reads_.empty() && reads_.front().deadline <= now) {
      expired.push_back(std::move(reads_.front()));
      reads_.pop_front();
    }
    if (!reads_.empty()) next = reads_.front().deadline;
  }
  for (const ReadTask& task : expired) runner_.Fail(task, Status::kTimedOut);
  return next;
}

void Scheduler::FailQueued(Status status_of_reads, Status status_of_writes) {
  std::deque<ReadTask> reads;
  std::deque<WriteTask> writes;
  {
    const std::lock_guard lock(mutex_);
    reads.swap(reads_);
    writes.swap(writes_);
  }
  for (const ReadTask& task : reads) runner_.Fail(task, status_of_reads);
  for (const WriteTask& task : writes) runner_.Fail(task, status_of_writes);
}

void Scheduler::Stop() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  work_.notify_all();
  for (std::thread& thread : threads_) thread.join();
  threads_.clear();
  FailQueued(Status::kCancelled, Status::kCancelled);
}

std::size_t Scheduler::reads_queued() const {
  const std::lock_guard lock(mutex_);
  return reads_.size() + static_cast<std::size_t>(reads_running_);
}

std::size_t Scheduler::writes_queued() const {
  const std::lock_guard lock(mutex_);
  return writes_.size() + static_cast<std::size_t>(writes_running_);
}

void Scheduler::Work(SlotIo io) {
  std::unique_lock lock(mutex_);
  for (;;) {
    work_.wait(lock, [this] { return stopping_ || ReadReady() || WriteReady(); });
    if (stopping_) return;
    if (ReadReady()) {
      RunRead(lock, io);
    } else {
      RunWrite(lock, io);
    }
    // A thread that found its kind at its limit sleeps; now there is room for it.
    if (ReadReady() || WriteReady()) work_.notify_one();
  }
}

void Scheduler::RunRead(std::unique_lock<std::mutex>& lock, SlotIo& io) {
  const ReadTask task = std::move(reads_.front());
  reads_.pop_front();
  ++reads_running_;
  lock.unlock();
  if (task.deadline <= Clock::now()) {
    runner_.Fail(task, Status::kTimedOut);
  } else {
    runner_.Run(task, io);
  }
  lock.lock();
  --reads_running_;
}

void Scheduler::RunWrite(std::unique_lock<std::mutex>& lock, SlotIo& io) {
  const WriteTask task = std::move(writes_.front());
  writes_.pop_front();
  ++writes_running_;
  lock.unlock();
  runner_.Run(task, io);
  lock.lock();
  --writes_running_;
}

}  // namespace kvtier
