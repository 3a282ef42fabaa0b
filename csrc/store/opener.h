#pragma once

#include <chrono>
#include <exception>
#include <functional>
#include <memory>
#include <string>
#include <thread>

#include "clock.h"
#include "open_directory.h"

namespace kvtier {

// Opens one directory and hands it over, in a thread of its own: a disk that hangs holds nobody up,
// and one that fails is tried again until it works.
class Opener {
 public:
  enum class State {
    kFirstTry,  // still at it
    kOpened,    // and handed over
    kFailed,    // the disk is at fault; it is being tried again
    kRefused,   // somebody has to mend something; it is being tried again
  };
  using Open = std::function<OpenedDirectory()>;
  using Take = std::function<void(OpenedDirectory)>;

  // Both are called in the opener's thread, `take` once. `why` it is not open before the first try
  // has ended.
  Opener(Open open, Take take, std::chrono::nanoseconds retry_after, const std::string& why);
  ~Opener();
  Opener(const Opener&) = delete;
  Opener& operator=(const Opener&) = delete;

  // Waits for the end of the first try, but no longer than until `deadline`.
  State WaitForFirstTry(Clock::time_point deadline);
  // Throws what the last try threw; for one that has failed.
  [[noreturn]] void Rethrow() const;
  // A sentence; empty when the directory is open.
  std::string WhyNotOpen() const;

  // No more tries. One that hangs by `deadline` is left to end by itself: then it lets go of the
  // directory.
  void Stop(Clock::time_point deadline);
  // Whether anything still runs.
  bool HasEnded() const;

 private:
  struct Shared;

  const std::shared_ptr<Shared> shared_;
  std::thread thread_;
};

}  // namespace kvtier
