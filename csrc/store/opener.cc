#include "opener.h"

#include <algorithm>
#include <new>
#include <optional>
#include <utility>

#include "error.h"

namespace kvtier {
namespace {

using Time = std::chrono::steady_clock::time_point;

constexpr int kDoublingsMax = 5;

}  // namespace

// Outlives the Opener when its thread hangs.
struct Opener::Shared {
  Shared(Open with, std::chrono::nanoseconds after, std::string reason)
      : open(std::move(with)), retry_after(after), why(std::move(reason)) {}

  const Open open;
  const std::chrono::nanoseconds retry_after;

  mutable std::mutex mutex;  // guards all that follows
  std::condition_variable changed;
  State state = State::kFirstTry;
  std::exception_ptr error;
  std::string why;
  std::optional<OpenedDirectory> opened;
  Take take;
  bool stopping = false;
  bool ended = false;

  // What was opened and not delivered.
  std::optional<OpenedDirectory> BeginStop() {
    const std::lock_guard lock(mutex);
    stopping = true;
    changed.notify_all();
    return std::exchange(opened, std::nullopt);
  }

  void Fail(State failure, const std::string& sentence) {
    const std::lock_guard lock(mutex);
    state = failure;
    error = std::current_exception();
    why = sentence;
    changed.notify_all();
  }

  // In the opener's thread, where nobody catches what is thrown for want of memory or threads.
  void Deliver(OpenedDirectory directory) {
    try {
      take(std::move(directory));
    } catch (const std::exception& failure) {
      Fail(State::kRefused, failure.what());
    }
  }

  void TryOnce() {
    try {
      OpenedDirectory directory = open();
      const std::lock_guard lock(mutex);
      if (stopping) return;
      opened = std::move(directory);
      state = State::kOpened;
      changed.notify_all();
    } catch (const DiskFailed& failure) {
      Fail(State::kFailed, failure.what());
    } catch (const StoreError& refusal) {
      Fail(State::kRefused, refusal.what());
    } catch (const std::bad_alloc&) {
      Fail(State::kRefused, "there is no memory to open it");
    }
  }
};

Opener::Opener(Open open, std::chrono::nanoseconds retry_after, const std::string& why)
    : shared_(std::make_shared<Shared>(std::move(open), retry_after, why)),
      thread_([shared = shared_] { Run(shared); }) {}

Opener::~Opener() {
  (void)shared_->BeginStop();
  if (thread_.joinable()) thread_.join();
}

void Opener::Run(const std::shared_ptr<Shared>& shared) {
  std::unique_lock lock(shared->mutex);
  for (int tries = 0; !shared->stopping; ++tries) {
    lock.unlock();
    shared->TryOnce();
    lock.lock();
    if (shared->state == State::kOpened) break;
    const auto pause = shared->retry_after * (1 << std::min(tries, kDoublingsMax));
    shared->changed.wait_for(lock, pause, [&] { return shared->stopping; });
  }
  shared->changed.wait(lock, [&] { return !shared->opened || shared->take; });
  if (auto directory = std::exchange(shared->opened, std::nullopt)) {
    lock.unlock();
    shared->Deliver(std::move(*directory));
    lock.lock();
  }
  shared->ended = true;
  shared->changed.notify_all();
}

Opener::State Opener::WaitForFirstTry(Time deadline) {
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

void Opener::DeliverTo(Take take) {
  std::optional<OpenedDirectory> directory;
  {
    const std::lock_guard lock(shared_->mutex);
    directory = std::exchange(shared_->opened, std::nullopt);
    if (!directory) shared_->take = std::move(take);
    shared_->changed.notify_all();
  }
  if (directory) take(std::move(*directory));
}

void Opener::Stop(Time deadline) {
  const auto unwanted = shared_->BeginStop();
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

}  // namespace kvtier
