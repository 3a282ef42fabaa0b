#include "parts.h"

#include <sys/uio.h>

#include <algorithm>
#include <vector>

#include "align.h"
#include "transfer.h"

namespace kvtier {
namespace {

// Measured (docs/benchmarks.md): two parts of half a MiB to one MiB in turns hide the checksum
// and keep the device busy; a third only waits for the others.
constexpr std::uint64_t kPartBytesMin = std::uint64_t{512} << 10;
constexpr std::uint64_t kPartBytesMax = std::uint64_t{1} << 20;
constexpr std::uint64_t kPartsWanted = 8;
constexpr int kAtOnce = 2;

struct Part {
  std::vector<iovec> pieces;
  std::uint64_t begin = 0;  // within the transfer
  std::uint64_t bytes = 0;
  bool ended = false;
};

std::vector<Part> Cut(std::span<const iovec> pieces, std::uint64_t part_bytes) {
  std::vector<Part> parts(1);
  for (iovec rest : pieces) {
    while (rest.iov_len > 0) {
      if (parts.back().bytes == part_bytes) {
        parts.push_back({.pieces = {}, .begin = parts.back().begin + part_bytes});
      }
      Part& part = parts.back();
      const std::size_t bytes = std::min<std::size_t>(rest.iov_len, part_bytes - part.bytes);
      part.pieces.push_back({rest.iov_base, bytes});
      part.bytes += bytes;
      rest.iov_base = static_cast<char*>(rest.iov_base) + bytes;
      rest.iov_len -= bytes;
    }
  }
  return parts;
}

// The parts of one transfer on their way. After a failure no more are begun, and it is waited
// until the device has let go of those that were: their memory is the caller's again.
class Pipeline {
 public:
  Pipeline(Uring& ring, Uring::Kind kind, int fd, std::uint64_t offset, std::vector<Part>& parts)
      : ring_(ring), kind_(kind), fd_(fd), offset_(offset), parts_(parts) {}
  ~Pipeline() { Drain(); }
  Pipeline(const Pipeline&) = delete;
  Pipeline& operator=(const Pipeline&) = delete;

  bool is_full() const { return at_once_ == kAtOnce; }
  const IoStatus& failure() const { return failure_; }

  void Start(std::size_t number) {
    Part& part = parts_[number];
    if (ring_.Start(kind_, fd_, part.pieces, offset_ + part.begin, number)) {
      ++at_once_;
    } else {
      MoveRest(part, 0);
    }
  }

  // Waits for one part at least, and takes note of all that have ended.
  void Wait() {
    do {
      const Uring::Ended ended = ring_.Wait();
      --at_once_;
      // What a ring refuses (EAGAIN; EINVAL in kernels without an operation) or ends early is
      // tried once more by plain calls, which then tell what is the matter.
      MoveRest(parts_[ended.tag], ended.result > 0 ? static_cast<std::size_t>(ended.result) : 0);
    } while (at_once_ > 0 && ring_.HasEnded());
  }

  void Drain() {
    while (at_once_ > 0) Wait();
  }

 private:
  void MoveRest(Part& part, std::size_t moved) {
    part.ended = true;
    if (moved >= part.bytes || !failure_.ok()) return;
    const Transfer transfer = kind_ == Uring::Kind::kRead ? ::preadv : ::pwritev;
    failure_ = MoveAll(transfer, fd_, Advance(part.pieces, moved), offset_ + part.begin + moved);
  }

  Uring& ring_;
  const Uring::Kind kind_;
  const int fd_;
  const std::uint64_t offset_;
  std::vector<Part>& parts_;
  int at_once_ = 0;
  IoStatus failure_;
};

// Into parts of one length, or nearly: a short one at the end would cost a turn of its own.
std::vector<Part> CutEvenly(std::span<const iovec> pieces) {
  const std::uint64_t total = TotalBytes(pieces);
  const std::uint64_t least = (total + kPartBytesMax - 1) / kPartBytesMax;
  const std::uint64_t count = std::max(std::min(kPartsWanted, total / kPartBytesMin), least);
  return Cut(pieces, RoundUp((total + count - 1) / count, kBlockBytes));
}

}  // namespace

IoStatus ReadInParts(Uring& ring, int fd, std::span<const iovec> pieces, std::uint64_t offset,
                     const Progress& arrived) {
  std::vector<Part> parts = CutEvenly(pieces);
  Pipeline pipeline(ring, Uring::Kind::kRead, fd, offset, parts);
  std::size_t begun = 0, passed_on = 0;
  while (passed_on < parts.size() && pipeline.failure().ok()) {
    while (begun < parts.size() && !pipeline.is_full()) pipeline.Start(begun++);
    if (passed_on < begun && parts[passed_on].ended && pipeline.failure().ok()) {
      const Part& part = parts[passed_on++];
      arrived(part.begin + part.bytes);
    } else if (pipeline.failure().ok()) {
      pipeline.Wait();
    }
  }
  pipeline.Drain();
  return pipeline.failure();
}

IoStatus WriteInParts(Uring& ring, int fd, std::span<const iovec> pieces, std::uint64_t offset,
                      const Progress& prepare) {
  std::vector<Part> parts = CutEvenly(pieces);
  Pipeline pipeline(ring, Uring::Kind::kWrite, fd, offset, parts);
  prepare(parts[0].bytes);
  for (std::size_t i = 1; i < parts.size() && pipeline.failure().ok(); ++i) {
    prepare(parts[i].begin + parts[i].bytes);
    while (pipeline.is_full()) pipeline.Wait();
    pipeline.Start(i);
  }
  while (pipeline.is_full()) pipeline.Wait();
  // With the block that vouches for the rest; it was only now made ready.
  if (pipeline.failure().ok()) pipeline.Start(0);
  pipeline.Drain();
  return pipeline.failure();
}

}  // namespace kvtier
