#include "committer.h"

#include <algorithm>
#include <utility>

namespace kvtier {
namespace {

constexpr int kProbeDoublingsMax = 5;

}  // namespace

Committer::~Committer() {
  BeginStop();
  if (thread_.joinable()) thread_.join();
}

void Committer::Start() {
  thread_ = std::thread([this] { Run(); });
}

void Committer::Written() {
  const std::lock_guard lock(mutex_);
  written_ = true;
  wake_.notify_all();
}

void Committer::Wake() {
  const std::lock_guard lock(mutex_);  // the thread is asleep, or will look
  wake_.notify_all();
}

std::optional<std::string> Committer::Flush() {
  const auto flush = std::make_shared<FlushRequest>();
  const auto look_again = Seconds(options_.stall_timeout_s) / 8;
  std::unique_lock lock(mutex_);
  flushes_.push_back(flush);
  wake_.notify_all();
  while (!flush->done && !stopped_) {
    wake_.wait_for(lock, look_again);
    if (!flush->done && Hangs(Clock::now())) return NotDurable("the disk does not answer");
  }
  return flush->failure;
}

bool Committer::Hangs(Clock::time_point now) const {
  const Clock::time_point since{Clock::duration(at_disk_since_.load())};
  return since != Clock::time_point{} && now - since > Seconds(options_.stall_timeout_s);
}

void Committer::BeginStop() {
  const std::lock_guard lock(mutex_);
  stopping_ = true;
  wake_.notify_all();
}

bool Committer::WaitStopped(Clock::time_point deadline) {
  {
    std::unique_lock lock(mutex_);
    if (!wake_.wait_until(lock, deadline, [this] { return stopped_; })) return false;
  }
  if (thread_.joinable()) thread_.join();
  return true;
}

void Committer::AtDisk(const std::function<void()>& work) {
  at_disk_since_ = Clock::now().time_since_epoch().count();
  work();
  at_disk_since_ = 0;
}

std::string Committer::NotDurable(const std::string& why) const {
  return "cannot make pages in " + place_ + " durable: " + why;
}

IoStatus Committer::Note(const IoStatus& status) {
  if (status.ok()) return status;
  const std::lock_guard lock(mutex_);
  if (!failure_) failure_ = NotDurable(status.Text());
  return status;
}

bool Committer::WaitForWork(std::unique_lock<std::mutex>& lock) {
  const auto probe_interval = Seconds(options_.probe_interval_s);
  const bool is_wanted = wake_.wait_for(lock, probe_interval, [this] {
    return stopping_ || written_ || !flushes_.empty() || !work_.TakesWrites();
  });
  if (!is_wanted) return false;
  const auto pause = work_.TakesWrites()
                         ? Seconds(options_.commit_interval_s)
                         : probe_interval * (1 << std::min(failed_probes_, kProbeDoublingsMax));
  wake_.wait_for(lock, pause, [this] { return stopping_ || !flushes_.empty(); });
  return true;
}

void Committer::Run() {
  std::unique_lock lock(mutex_);
  while (!stopping_) {
    const bool has_work = WaitForWork(lock);
    if (stopping_) break;
    written_ = written_ && !has_work;
    const FlushRequests flushes = std::exchange(flushes_, {});
    lock.unlock();
    AtDisk([&] {
      if (has_work) CommitOnce();
      work_.Look(!has_work);
    });
    lock.lock();
    End(flushes);
  }
  lock.unlock();
  CommitLast();
  lock.lock();
  End(std::exchange(flushes_, {}));
  stopped_ = true;
  wake_.notify_all();
}

void Committer::CommitOnce() {
  if (!work_.TakesWrites()) {
    (void)Note(work_.Probe());
    failed_probes_ = work_.TakesWrites() ? 0 : failed_probes_ + 1;
  }
  if (!Note(work_.Commit()).ok()) Written();
}

void Committer::End(const FlushRequests& flushes) {
  for (const auto& flush : flushes) {
    flush->done = true;
    flush->failure = failure_;
  }
  if (!flushes.empty()) failure_.reset();
  wake_.notify_all();
}

void Committer::CommitLast() {
  AtDisk([this] { work_.WaitForRest(); });
  AtDisk([this] {
    const IoStatus status = Note(work_.CommitLast());
    if (!status.ok()) last_failure_ = NotDurable(status.Text());
  });
}

}  // namespace kvtier
