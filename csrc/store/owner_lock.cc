#include "owner_lock.h"

#include <fcntl.h>
#include <pthread.h>
#include <sys/file.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <chrono>
#include <ctime>
#include <fstream>
#include <mutex>
#include <set>
#include <thread>

#include "device.h"
#include "error.h"
#include "format.h"

namespace kvtier {
namespace {

// "process 4242 (python) on host gpu7, since 2026-11-23 18:00:00 UTC"
std::string DescribeThisProcess() {
  std::array<char, 256> host{};
  ::gethostname(host.data(), host.size() - 1);
  std::string command;
  std::ifstream("/proc/self/comm") >> command;
  const std::time_t now = std::time(nullptr);
  std::tm utc{};
  std::array<char, 64> since{};
  ::gmtime_r(&now, &utc);
  std::strftime(since.data(), since.size(), "%Y-%m-%d %H:%M:%S UTC", &utc);
  return "process " + std::to_string(::getpid()) + " (" + command + ") on host " + host.data() +
         ", since " + since.data();
}

std::string ReadHolder(int fd) {
  std::array<char, 512> text{};
  const ssize_t bytes = ::pread(fd, text.data(), text.size() - 1, 0);
  const std::string holder = bytes > 0 ? text.data() : "";
  return holder.empty() ? "another process" : holder;
}

// Somebody who only looks (HolderOf) has the lock for a moment.
bool TakeLock(int fd) {
  constexpr int kTries = 5;
  constexpr auto kPause = std::chrono::milliseconds(5);
  for (int i = 0; i < kTries; ++i) {
    if (i > 0) std::this_thread::sleep_for(kPause);
    if (::flock(fd, LOCK_EX | LOCK_NB) == 0) return true;
    if (errno != EWOULDBLOCK) return false;
  }
  return false;
}

}  // namespace

// The locks of this process. A forked child closes its copies of their descriptors, which would
// keep them held for as long as it lives.
class OwnerLock::Registry {
 public:
  static Registry& Get() {
    // Never destroyed: locks may outlive the static objects of this library.
    static Registry& registry = *new Registry;
    return registry;
  }

  void Add(OwnerLock& lock) {
    const std::lock_guard guard(mutex_);
    locks_.insert(&lock);
  }

  void Close(OwnerLock& lock) {
    const std::lock_guard guard(mutex_);
    locks_.erase(&lock);
    if (lock.fd_ >= 0) ::close(lock.fd_);
    lock.fd_ = -1;
  }

 private:
  Registry() {
    ::pthread_atfork([] { Get().mutex_.lock(); }, [] { Get().mutex_.unlock(); },
                     [] { Get().BecomeChild(); });
  }

  void BecomeChild() {
    for (OwnerLock* lock : locks_) {
      ::close(lock->fd_);
      lock->fd_ = -1;
    }
    locks_.clear();
    mutex_.unlock();
  }

  std::mutex mutex_;
  std::set<OwnerLock*> locks_;  // guarded by mutex_
};

std::string OwnerLock::HolderOf(const std::string& directory) {
  const std::string path = directory + "/" + kLockName;
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
  if (fd < 0) return "";
  const bool is_held = ::flock(fd, LOCK_SH | LOCK_NB) != 0 && errno == EWOULDBLOCK;
  const std::string holder = is_held ? ReadHolder(fd) : "";
  ::close(fd);
  return holder;
}

OwnerLock::OwnerLock(const std::string& directory) {
  const std::string path = directory + "/" + kLockName;
  fd_ = ::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0600);
  if (fd_ < 0) IoStatus(errno).Throw("open " + path);
  Registry::Get().Add(*this);
  if (!TakeLock(fd_)) {
    const int error = errno;
    const std::string holder = ReadHolder(fd_);
    Close();
    if (error == EWOULDBLOCK) {
      throw StoreError("the store " + directory + " is in use by " + holder);
    }
    IoStatus(error).Throw("lock " + path);
  }
  const std::string text = DescribeThisProcess();
  const bool written = ::ftruncate(fd_, 0) == 0 && ::pwrite(fd_, text.data(), text.size(), 0) ==
                                                       static_cast<ssize_t>(text.size());
  (void)written;  // a full disk: the lock holds all the same, only nameless
}

OwnerLock::~OwnerLock() { Close(); }

void OwnerLock::Close() { Registry::Get().Close(*this); }

}  // namespace kvtier
