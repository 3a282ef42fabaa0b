#include "completions.h"

#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "error.h"

namespace kvtier {

Completions::Completions() : event_fd_(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {
  if (event_fd_ < 0) throw StoreError("cannot create an eventfd: " + ErrnoText(errno));
}

Completions::~Completions() { ::close(event_fd_); }

void Completions::Push(std::uint64_t ticket, Status status) {
  {
    const std::lock_guard lock(mutex_);
    ended_.push_back({ticket, status});
    if (ended_.size() == 1) ::eventfd_write(event_fd_, 1);
  }
  arrived_.notify_one();
}

std::vector<Completion> Completions::TakeLocked(std::size_t limit) {
  const std::size_t count = std::min(limit, ended_.size());
  const auto end = ended_.begin() + static_cast<std::ptrdiff_t>(count);
  std::vector<Completion> taken(ended_.begin(), end);
  ended_.erase(ended_.begin(), end);
  if (count > 0 && ended_.empty()) {
    eventfd_t value;
    ::eventfd_read(event_fd_, &value);
  }
  return taken;
}

std::vector<Completion> Completions::Poll(std::size_t limit) {
  const std::lock_guard lock(mutex_);
  return TakeLocked(limit);
}

std::vector<Completion> Completions::Wait(std::chrono::nanoseconds timeout, std::size_t limit) {
  std::unique_lock lock(mutex_);
  arrived_.wait_for(lock, timeout, [this] { return !ended_.empty(); });
  return TakeLocked(limit);
}

}  // namespace kvtier
