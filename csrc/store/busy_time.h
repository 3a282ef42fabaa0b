#pragma once

#include "clock.h"

namespace kvtier {

// For how long at least one of several things was at work. Not thread-safe.
class BusyTime {
 public:
  void Begin() {
    if (running_++ == 0) since_ = Clock::now();
  }
  void End() {
    if (--running_ == 0) total_ += Clock::now() - since_;
  }
  int running() const { return running_; }
  // Up to now.
  double seconds() const {
    const auto current = running_ > 0 ? Clock::now() - since_ : Clock::duration::zero();
    return std::chrono::duration<double>(total_ + current).count();
  }

 private:
  int running_ = 0;
  Clock::time_point since_;
  Clock::duration total_{};
};

}  // namespace kvtier
