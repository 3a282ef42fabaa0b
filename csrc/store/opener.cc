#include "opener.h"

#include <algorithm>
#include <condition_variable>
#include <mutex>
#include <new>
#include <utility>

#include "error.h"

namespace kvtier {
namespace {

constexpr int kDoublingsMax = 5;

}  // namespace

// Outlives the Opener when its thread hangs.
struct Opener::Shared {
  Shared(Open with, Take to, std::chrono::nanoseconds after, std::string reason)
      : open(std::move(with)), take(std::move(to)), retry_after(after), why(std::move(reason)) {}

  Open open;  // these two are the thread's own
  Take take;
  const std::chrono::nanoseconds retry_after;

  mutable std::mutex mutex;  // guards all that follows
  std::condition_variable changed;
  State state = State::kFirstTry;
  std::exception_ptr error;
  std::string why;
  bool stopping = false;
  bool ended = false;

  void BeginStop() {
    const std::lock_guard lock(mutex);
    stopping = true;
    changed.notify_all();
  }

  bool IsStopping() const {
    const std::lock_guard lock(mutex);
    return stopping;
  }

  void Become(State next) {
    const std::lock_guard lock(mutex);
    state = next;
    changed.notify_all();
  }

  void Fail(State failure, const std::string& sentence) {
    const std::lock_guard lock(mutex);
    state = failure;
    error = std::current_exception();
    why = sentence;
    changed.notify_all();
  }

  void TryOnce() {
    try {
      OpenedDirectory directory = open();
      if (IsStopping()) return;
      take(std::move(directory));
      Become(State::kOpened);
    } catch (const DiskFailed& failure) {
      Fail(State::kFailed, failure.what());
    } catch (const std::bad_alloc&) {
      Fail(State::kRefused, "there is no memory to open it");
    } catch (const std::exception& refusal) {
      Fail(State::kRefused, refusal.what());
    }
  }

  void Run() {
    std::unique_lock lock(mutex);
    for (int tries = 0; !stopping && state != State::kOpened; ++tries) {
      lock.unlock();
      TryOnce();
      lock.lock();
      if (state == State::kOpened) break;
      const auto pause = retry_after * (1 << std::min(tries, kDoublingsMax));
      changed.wait_for(lock, pause, [&] { return stopping; });
    }
    // What they hold may be a lane that is being waited for.
    lock.unlock();
    open = nullptr;
    take = nullptr;
    lock.lock();
    ended = true;
    changed.notify_all();
  }
};

Opener::Opener(Open open, Take take, std::chrono::nanoseconds retry_after, const std::string& why)
    : shared_(std::make_shared<Shared>(std::move(open), std::move(take), retry_after, why)),
      thread_([shared = shared_] { shared->Run(); }) {}

Opener::~Opener() {
  shared_->BeginStop();
  if (thread_.joinable()) thread_.join();
}

Opener::State Opener::WaitForFirstTry(Clock::time_point deadline) {
  std::unique_lock lock(shared_->mutex);
  shared_->changed.wait_until(lock, deadline,
                              [this] { return shared_->state != State::kFirstTry; });
  return shared_->state;
}

void Opener::Rethrow() const {
  const std::lock_guard lock(shared_->mutex);
  std::rethrow_exception(shared_->error);
}

std::string Opener::WhyNotOpen() const {
  const std::lock_guard lock(shared_->mutex);
  return shared_->state == State::kOpened ? "" : shared_->why;
}

void Opener::Stop(Clock::time_point deadline) {
  shared_->BeginStop();
  std::unique_lock lock(shared_->mutex);
  const bool ended = shared_->changed.wait_until(lock, deadline, [this] { return shared_->ended; });
  lock.unlock();
  if (!thread_.joinable()) return;
  if (ended) {
    thread_.join();
  } else {
    thread_.detach();
  }
}

bool Opener::HasEnded() const {
  const std::lock_guard lock(shared_->mutex);
  return shared_->ended;
}

}  // namespace kvtier
