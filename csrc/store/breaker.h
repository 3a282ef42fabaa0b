#pragma once

#include <atomic>
#include <mutex>
#include <string>

namespace kvtier {

// Takes one kind of work (reads, or writes) of one directory out of use after failures in a row,
// until a probe has shown that it works again. Thread-safe.
class Breaker {
 public:
  static constexpr int kFailuresMax = 5;

  void Succeeded() { failures_ = 0; }
  // True if this failure opened it: the caller then deals with what is queued.
  bool Failed(const std::string& why);

  // Opens it at once. True if it was closed.
  bool Open(const std::string& why);
  void Close();

  bool is_open() const { return open_; }
  // Why it is open; empty when it is not.
  std::string reason() const;

 private:
  std::atomic<int> failures_{0};
  std::atomic<bool> open_{false};
  mutable std::mutex mutex_;
  std::string reason_;  // guarded by mutex_
};

}  // namespace kvtier
