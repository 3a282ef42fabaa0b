#pragma once

#include <atomic>
#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "clock.h"
#include "device.h"
#include "options.h"

namespace kvtier {

// What a committer does with its directory's disk; each may hang. From its thread alone.
class CommitWork {
 public:
  virtual ~CommitWork() = default;
  // Whether writes are in use; else the disk is probed until they are.
  virtual bool TakesWrites() const = 0;
  // Makes what was written durable.
  virtual IoStatus Commit() = 0;
  // Tries a disk that is out of use; with what came of a commit, if one was tried.
  virtual IoStatus Probe() = 0;
  // Whether the directory is still what it was; also while there is nothing to commit.
  virtual void Look(bool is_idle) = 0;
  // Once no more work can come: waits for what runs.
  virtual void WaitForRest() = 0;
  virtual IoStatus CommitLast() = 0;
};

// Makes a directory's writes durable from time to time, from a thread of its own. Thread-safe.
class Committer {
 public:
  // `place`: the directory, for sentences. `work` and `options` outlive it.
  Committer(CommitWork& work, const StoreOptions& options, std::string place)
      : work_(work), options_(options), place_(std::move(place)) {}
  ~Committer();
  Committer(const Committer&) = delete;
  Committer& operator=(const Committer&) = delete;

  // Begins with the work.
  void Start();
  // Something was written.
  void Written();
  // Writes went out of use: they are to be probed.
  void Wake();
  // Makes everything written so far durable. The sentence of the first failure since the last
  // Flush that had ended before, if there was one. Does not wait for a disk that does not answer.
  std::optional<std::string> Flush();
  // Whether the disk has kept it for longer than stall_timeout_s.
  bool Hangs(Clock::time_point now) const;

  // Waits for what runs, commits, and ends the thread.
  void BeginStop();
  // After BeginStop, of one that was started. False if that has not ended by `deadline`.
  bool WaitStopped(Clock::time_point deadline);
  // Once it has stopped: why what was written last is not durable.
  const std::optional<std::string>& last_failure() const { return last_failure_; }

 private:
  struct FlushRequest {  // guarded by mutex_
    bool done = false;
    std::optional<std::string> failure;
  };
  using FlushRequests = std::vector<std::shared_ptr<FlushRequest>>;

  void Run();
  // Waits until there is something to do for the disk; false if there is not, and time has passed.
  bool WaitForWork(std::unique_lock<std::mutex>& lock);
  void CommitOnce();
  void CommitLast();
  // With mutex_ held.
  void End(const FlushRequests& flushes);
  // What hangs in `work` is noticed.
  void AtDisk(const std::function<void()>& work);
  IoStatus Note(const IoStatus& status);
  std::string NotDurable(const std::string& why) const;

  CommitWork& work_;
  const StoreOptions& options_;
  const std::string place_;
  // When it began with the disk; 0: it is not at it.
  std::atomic<Clock::rep> at_disk_since_{0};
  int failed_probes_ = 0;                    // the thread's own
  std::optional<std::string> last_failure_;  // the thread's own until it has stopped

  mutable std::mutex mutex_;  // guards the next five
  std::condition_variable wake_;
  bool written_ = false;
  bool stopping_ = false;
  bool stopped_ = false;
  FlushRequests flushes_;  // not begun with
  std::optional<std::string> failure_;

  std::thread thread_;
};

}  // namespace kvtier
