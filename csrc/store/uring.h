#pragma once

#include <sys/uio.h>

#include <cstddef>
#include <cstdint>
#include <span>

namespace kvtier {

// An io_uring of one thread: starts reads and writes and waits for them one by one. Only the
// thread that made it may use it. Source: io_uring_setup(2), io_uring_enter(2).
class Uring {
 public:
  enum class Kind { kRead, kWrite };
  struct Ended {
    std::uint64_t tag;
    int result;  // bytes moved, or a negative errno
  };

  // This thread's ring, made at its first use; nothing where the kernel has none or a sandbox
  // (a container's seccomp profile, the sysctl io_uring_disabled) forbids it.
  static Uring* OfThisThread();

  virtual ~Uring() = default;

  // Begins one transfer. `pieces` and their memory stay valid until Wait has returned its tag.
  // False if the kernel would not take it: nothing was begun then.
  virtual bool Start(Kind kind, int fd, std::span<const iovec> pieces, std::uint64_t offset,
                     std::uint64_t tag) = 0;

  // Waits for one of those begun and not yet returned; there is one at least.
  virtual Ended Wait() = 0;
  // Whether Wait would return at once.
  virtual bool HasEnded() = 0;
};

}  // namespace kvtier
