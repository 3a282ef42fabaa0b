#pragma once

namespace kvtier {

// A descriptor that is readable while something is ready: an eventfd, or a pipe where there is
// none. Not thread-safe.
class Readiness {
 public:
  // Throws StoreError when the process has no descriptors left.
  Readiness();
  ~Readiness();
  Readiness(const Readiness&) = delete;
  Readiness& operator=(const Readiness&) = delete;

  void Set();
  void Clear();
  int fd() const { return read_fd_; }

 private:
  int read_fd_ = -1;
  int write_fd_ = -1;  // the same, for an eventfd
  bool is_set_ = false;
};

}  // namespace kvtier
