#include "uring.h"

#include <atomic>

#if defined(__linux__) && __has_include(<linux/io_uring.h>)
#include <linux/io_uring.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <memory>
#include <utility>
#endif

namespace kvtier {

#if defined(__linux__) && __has_include(<linux/io_uring.h>)
namespace {

constexpr unsigned kEntries = 8;

// Headers may be older than the kernel that runs: these two are Linux 6.0's and 6.1's.
constexpr unsigned kSingleIssuer = 1u << 12;
constexpr unsigned kDeferTaskrun = 1u << 13;

int Setup(unsigned entries, io_uring_params& params) {
  return static_cast<int>(::syscall(__NR_io_uring_setup, entries, &params));
}

// A mapping of the ring's memory.
class RingMemory {
 public:
  RingMemory(int fd, std::size_t bytes, off_t offset) : bytes_(bytes) {
    memory_ = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, fd, offset);
  }
  ~RingMemory() {
    if (ok()) ::munmap(memory_, bytes_);
  }
  RingMemory(const RingMemory&) = delete;
  RingMemory& operator=(const RingMemory&) = delete;

  bool ok() const { return memory_ != MAP_FAILED; }
  template <typename T>
  T* At(std::size_t offset) const {
    return reinterpret_cast<T*>(static_cast<char*>(memory_) + offset);
  }

 private:
  void* memory_;
  const std::size_t bytes_;
};

unsigned LoadAcquire(unsigned& word) {
  return std::atomic_ref<unsigned>(word).load(std::memory_order_acquire);
}

void StoreRelease(unsigned& word, unsigned value) {
  std::atomic_ref<unsigned>(word).store(value, std::memory_order_release);
}

std::size_t RingBytes(const io_uring_params& params) {
  const std::size_t submissions = params.sq_off.array + params.sq_entries * sizeof(unsigned);
  const std::size_t completions = params.cq_off.cqes + params.cq_entries * sizeof(io_uring_cqe);
  return std::max(submissions, completions);
}

class KernelUring : public Uring {
 public:
  static std::unique_ptr<Uring> Open() {
    io_uring_params params{};
    params.flags = kSingleIssuer | kDeferTaskrun;
    int fd = Setup(kEntries, params);
    if (fd < 0 && errno == EINVAL) {
      params = {};
      fd = Setup(kEntries, params);
    }
    if (fd < 0) return nullptr;
    std::unique_ptr<KernelUring> ring(new KernelUring(fd, params));
    if (!(params.features & IORING_FEAT_SINGLE_MMAP) || !ring->rings_.ok() || !ring->slots_.ok()) {
      return nullptr;
    }
    return ring;
  }

  ~KernelUring() override { ::close(fd_); }

  bool Start(Kind kind, int fd, std::span<const iovec> pieces, std::uint64_t offset,
             std::uint64_t tag) override {
    unsigned& tail = *rings_.At<unsigned>(params_.sq_off.tail);
    const unsigned place = tail & *rings_.At<unsigned>(params_.sq_off.ring_mask);
    io_uring_sqe& entry = slots_.At<io_uring_sqe>(0)[place];
    std::memset(&entry, 0, sizeof entry);
    entry.opcode = kind == Kind::kRead ? IORING_OP_READV : IORING_OP_WRITEV;
    entry.fd = fd;
    entry.addr = reinterpret_cast<std::uintptr_t>(pieces.data());
    entry.len = static_cast<unsigned>(pieces.size());
    entry.off = offset;
    entry.user_data = tag;
    rings_.At<unsigned>(params_.sq_off.array)[place] = place;
    StoreRelease(tail, tail + 1);
    if (Enter(1, 0) == 1) return true;
    StoreRelease(tail, tail - 1);  // the kernel reads it only inside of Enter
    return false;
  }

  bool HasEnded() override {
    unsigned& tail = *rings_.At<unsigned>(params_.cq_off.tail);
    return *rings_.At<unsigned>(params_.cq_off.head) != LoadAcquire(tail);
  }

  Ended Wait() override {
    unsigned& head = *rings_.At<unsigned>(params_.cq_off.head);
    while (!HasEnded()) (void)Enter(0, 1);
    const unsigned place = head & *rings_.At<unsigned>(params_.cq_off.ring_mask);
    const io_uring_cqe& entry = rings_.At<io_uring_cqe>(params_.cq_off.cqes)[place];
    const Ended ended{entry.user_data, entry.res};
    StoreRelease(head, head + 1);
    return ended;
  }

 private:
  KernelUring(int fd, const io_uring_params& params)
      : fd_(fd),
        params_(params),
        rings_(fd, RingBytes(params), IORING_OFF_SQ_RING),
        slots_(fd, params.sq_entries * sizeof(io_uring_sqe), IORING_OFF_SQES) {}

  long Enter(unsigned submit, unsigned wait) const {
    long entered;
    do {
      entered = ::syscall(__NR_io_uring_enter, fd_, submit, wait,
                          wait > 0 ? IORING_ENTER_GETEVENTS : 0u, nullptr, 0);
    } while (entered < 0 && errno == EINTR);
    return entered;
  }

  const int fd_;
  const io_uring_params params_;
  const RingMemory rings_;  // both queues: one mapping since Linux 5.4
  const RingMemory slots_;  // of the submission queue
};

}  // namespace

Uring* Uring::OfThisThread() {
  static std::atomic<bool> forbidden{false};
  thread_local std::unique_ptr<Uring> ring;
  if (!ring && !forbidden) {
    ring = KernelUring::Open();
    if (!ring) forbidden = true;
  }
  return ring.get();
}

#else

Uring* Uring::OfThisThread() { return nullptr; }

#endif

}  // namespace kvtier
