#pragma once

#include <condition_variable>
#include <mutex>

namespace kvtier {

// Who is at something that is to be taken down once they have left. Thread-safe.
class Visitors {
 public:
  class Visit {
   public:
    explicit Visit(Visitors& at) : at_(at), is_admitted_(at.Enter()) {}
    ~Visit() {
      if (is_admitted_) at_.Leave();
    }
    Visit(const Visit&) = delete;
    Visit& operator=(const Visit&) = delete;

    bool is_admitted() const { return is_admitted_; }

   private:
    Visitors& at_;
    const bool is_admitted_;
  };

  // Admits nobody from now on.
  void Close() {
    const std::lock_guard lock(mutex_);
    is_closed_ = true;
  }

  void WaitUntilNone() {
    std::unique_lock lock(mutex_);
    left_.wait(lock, [this] { return count_ == 0; });
  }

 private:
  bool Enter() {
    const std::lock_guard lock(mutex_);
    if (!is_closed_) ++count_;
    return !is_closed_;
  }

  void Leave() {
    const std::lock_guard lock(mutex_);
    --count_;
    left_.notify_all();
  }

  std::mutex mutex_;  // guards the next two
  std::condition_variable left_;
  int count_ = 0;
  bool is_closed_ = false;
};

}  // namespace kvtier
