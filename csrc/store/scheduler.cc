#include "scheduler.h"

#include <algorithm>
#include <iterator>
#include <utility>

namespace kvtier {

Scheduler::Scheduler(TaskRunner& runner, const SchedulerLimits& limits,
                     const std::function<SlotIo()>& make_io)
    : runner_(runner), limits_(limits) {
  try {
    for (int i = 0; i < limits.reads + limits.writes; ++i) {
      threads_.emplace_back([this, io = make_io()]() mutable { Work(std::move(io)); });
    }
  } catch (...) {  // those that there are have to end before they are destroyed
    BeginStop();
    Join();
    throw;
  }
}

Scheduler::~Scheduler() {
  BeginStop();
  Join();
}

void Scheduler::Submit(std::vector<ReadTask> tasks) {
  std::size_t wanted = 0;
  {
    const std::lock_guard lock(mutex_);
    if (!stopping_) {
      wanted = std::min(tasks.size(), static_cast<std::size_t>(limits_.reads));
      std::ranges::move(tasks, std::back_inserter(reads_));
      tasks.clear();
    }
  }
  // One thread a task: waking them all for one read costs more than the read of a small page.
  for (; wanted > 0; --wanted) work_.notify_one();
  for (const ReadTask& task : tasks) runner_.Fail(task, Status::kCancelled);
}

void Scheduler::Submit(WriteTask task) {
  {
    const std::lock_guard lock(mutex_);
    if (!stopping_) {
      writes_.push_back(std::move(task));
      work_.notify_one();
      return;
    }
  }
  runner_.Fail(task, Status::kCancelled);
}

void Scheduler::ExpireReads(Clock::time_point now) {
  std::vector<ReadTask> expired;
  {
    const std::lock_guard lock(mutex_);
    while (!reads_.empty() && reads_.front().deadline <= now) {
      expired.push_back(std::move(reads_.front()));
      reads_.pop_front();
    }
  }
  for (const ReadTask& task : expired) runner_.Fail(task, Status::kTimedOut);
}

template <typename Task>
void Scheduler::FailAll(std::deque<Task>& queue, Status status) {
  std::deque<Task> tasks;
  {
    const std::lock_guard lock(mutex_);
    tasks.swap(queue);
  }
  for (const Task& task : tasks) runner_.Fail(task, status);
}

void Scheduler::FailQueuedReads(Status status) { FailAll(reads_, status); }

void Scheduler::FailQueuedWrites(Status status) { FailAll(writes_, status); }

void Scheduler::BeginStop() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  work_.notify_all();
  FailQueuedReads(Status::kCancelled);
  FailQueuedWrites(Status::kCancelled);
}

void Scheduler::Join() {
  for (std::thread& thread : threads_) thread.join();
  threads_.clear();
}

std::size_t Scheduler::reads_queued() const {
  const std::lock_guard lock(mutex_);
  return reads_.size() + static_cast<std::size_t>(reads_running_.running());
}

std::size_t Scheduler::writes_queued() const {
  const std::lock_guard lock(mutex_);
  return writes_.size() + static_cast<std::size_t>(writes_running_.running());
}

double Scheduler::reads_busy_s() const {
  const std::lock_guard lock(mutex_);
  return reads_running_.seconds();
}

double Scheduler::writes_busy_s() const {
  const std::lock_guard lock(mutex_);
  return writes_running_.seconds();
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
  const auto now = Clock::now();
  const auto since = running_since_.insert(now);
  reads_running_.Begin();
  lock.unlock();
  if (task.deadline <= now) {
    runner_.Fail(task, Status::kTimedOut);
  } else {
    runner_.Run(task, io);
  }
  lock.lock();
  reads_running_.End();
  running_since_.erase(since);
}

void Scheduler::RunWrite(std::unique_lock<std::mutex>& lock, SlotIo& io) {
  const WriteTask task = std::move(writes_.front());
  writes_.pop_front();
  const auto since = running_since_.insert(Clock::now());
  writes_running_.Begin();
  lock.unlock();
  runner_.Run(task, io);
  lock.lock();
  writes_running_.End();
  running_since_.erase(since);
}

std::optional<Clock::time_point> Scheduler::OldestRunning() const {
  const std::lock_guard lock(mutex_);
  if (running_since_.empty()) return std::nullopt;
  return *running_since_.begin();
}

}  // namespace kvtier
