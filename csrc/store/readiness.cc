#include "readiness.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>

#include "error.h"

#if defined(__linux__)
#include <sys/eventfd.h>
#endif

namespace kvtier {
namespace {

[[noreturn]] void Fail(const char* what) {
  throw StoreError(std::string("cannot create ") + what + ": " + ErrnoText(errno));
}

}  // namespace

Readiness::Readiness() {
#if defined(__linux__)
  read_fd_ = write_fd_ = ::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  if (read_fd_ < 0) Fail("an eventfd");
#else
  int ends[2];
  if (::pipe(ends) != 0) Fail("a pipe");
  for (const int end : ends) {
    ::fcntl(end, F_SETFD, FD_CLOEXEC);
    ::fcntl(end, F_SETFL, O_NONBLOCK);
  }
  read_fd_ = ends[0];
  write_fd_ = ends[1];
#endif
}

Readiness::~Readiness() {
  ::close(read_fd_);
  if (write_fd_ != read_fd_) ::close(write_fd_);
}

void Readiness::Set() {
  if (is_set_) return;
  const std::uint64_t one = 1;
  is_set_ = ::write(write_fd_, &one, sizeof one) == sizeof one;
}

void Readiness::Clear() {
  if (!is_set_) return;
  std::uint64_t value;
  is_set_ = ::read(read_fd_, &value, sizeof value) != sizeof value;
}

}  // namespace kvtier
