#pragma once

#include <atomic>
#include <memory>
#include <string>

#include "device.h"

namespace kvtier {

// Opens files in the directory behind `directory_fd`, which is the caller's. With Access::kDirect
// it tries O_DIRECT, at the opening and by a transfer, and where the file system does not have it
// reads and writes buffered, dropping the cache behind itself. Thread-safe.
class PosixOpener {
 public:
  // `uses_uring`: for transfers in parts, where a thread can have one.
  PosixOpener(int directory_fd, bool uses_uring, bool is_read_only)
      : directory_fd_(directory_fd), uses_uring_(uses_uring), is_read_only_(is_read_only) {}

  IoStatus Open(const std::string& name, Access access, bool create, std::unique_ptr<File>& file);

  // False once O_DIRECT has been refused.
  bool is_direct() const { return direct_ != Direct::kRefused; }

 private:
  enum class Direct { kUntried, kWorks, kRefused };

  int OpenAt(const std::string& name, int flags) const;
  int OpenDirect(const std::string& name, int flags);

  const int directory_fd_;
  const bool uses_uring_;
  const bool is_read_only_;
  std::atomic<Direct> direct_{Direct::kUntried};
};

}  // namespace kvtier
