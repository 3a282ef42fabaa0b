#pragma once

#include <chrono>
#include <condition_variable>
#include <exception>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <thread>

#include "open_directory.h"

namespace kvtier {

// Opens one directory, in a thread of its own: a disk that hangs holds nobody up, and one that
// fails is tried again until it works.
class Opener {
 public:
  enum class State {
    kFirstTry,  // still at it
    kOpened,
    kFailed,   // the disk is at fault; it is being tried again
    kRefused,  // somebody has to mend something; it is being tried again
  };
  using Open = std::function<OpenedDirectory()>;
  using Take = std::function<void(OpenedDirectory)>;

  // `why` it is not open before the first try has ended.
  Opener(Open open, std::chrono::nanoseconds retry_after, const std::string& why);
  ~Opener();
  Opener(const Opener&) = delete;
  Opener& operator=(const Opener&) = delete;

  // Waits for the end of the first try, but no longer than until `deadline`.
  State WaitForFirstTry(std::chrono::steady_clock::time_point deadline);
  // Throws what the last try threw; for one that has failed.
  [[noreturn]] void Rethrow() const;
  // A sentence; empty when the directory is open.
  std::string WhyNotOpen() const;

  // Hands over the directory: now if it is open, else from the other thread once it is.
  void DeliverTo(Take take);

  // No more tries, and no delivery after it. A try that hangs by `deadline` is left to end by
  // itself: then it lets go of the directory.
  void Stop(std::chrono::steady_clock::time_point deadline);

 private:
  struct Shared;
  static void Run(const std::shared_ptr<Shared>& shared);

  const std::shared_ptr<Shared> shared_;
  std::thread thread_;
};

}  // namespace kvtier
