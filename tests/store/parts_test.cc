#include "parts.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <catch2/catch.hpp>
#include <cerrno>
#include <cstdint>
#include <cstring>
#include <deque>
#include <functional>
#include <numeric>
#include <random>
#include <vector>

#include "store_harness.h"

namespace kvtier {
namespace {

using testing::TempDirectory;

constexpr std::size_t kMiB = std::size_t{1} << 20;

// Ends what it was given in the order that `choose` says, with the result that `move` says.
class FakeUring : public Uring {
 public:
  struct Begun {
    Kind kind;
    int fd;
    std::vector<iovec> pieces;
    std::uint64_t offset;
    std::uint64_t tag;
  };

  bool Start(Kind kind, int fd, std::span<const iovec> pieces, std::uint64_t offset,
             std::uint64_t tag) override {
    ++starts;
    if (refuses && refuses(starts)) return false;
    begun.push_back({kind, fd, {pieces.begin(), pieces.end()}, offset, tag});
    offsets.push_back(offset);
    at_once_max = std::max(at_once_max, begun.size());
    return true;
  }

  Ended Wait() override {
    const auto chosen = begun.begin() + (ends_last_first ? std::ssize(begun) - 1 : 0);
    Begun job = *chosen;
    begun.erase(chosen);
    return {job.tag, move ? move(job) : MoveWhole(job)};
  }

  bool HasEnded() override { return false; }

  static int MoveWhole(Begun& job) {
    const int count = static_cast<int>(job.pieces.size());
    const auto at = static_cast<off_t>(job.offset);
    return static_cast<int>(job.kind == Kind::kRead
                                ? ::preadv(job.fd, job.pieces.data(), count, at)
                                : ::pwritev(job.fd, job.pieces.data(), count, at));
  }

  std::function<bool(int)> refuses;  // the n-th start
  std::function<int(Begun&)> move;
  bool ends_last_first = false;
  int starts = 0;
  std::vector<std::uint64_t> offsets;
  std::deque<Begun> begun;
  std::size_t at_once_max = 0;
};

// A file of 9 MiB and 4 KiB of noise, and memory to read it into, in pieces of odd numbers of
// blocks.
struct Bench {
  Bench() : noise(9 * kMiB + 4096), memory(noise.size()) {
    std::mt19937 random(1);
    std::ranges::generate(noise, [&] { return static_cast<std::byte>(random()); });
    fd = ::open((directory.path() + "/file").c_str(), O_RDWR | O_CREAT, 0600);
    REQUIRE(fd >= 0);
  }
  ~Bench() { ::close(fd); }

  std::vector<iovec> Pieces(std::vector<std::byte>& of) {
    std::vector<iovec> pieces;
    const std::size_t cuts[] = {0, 4096, 3 * kMiB + 8192, 3 * kMiB + 8192, of.size()};
    for (std::size_t i = 0; i + 1 < std::size(cuts); ++i) {
      pieces.push_back({of.data() + cuts[i], cuts[i + 1] - cuts[i]});
    }
    return pieces;
  }

  void Fill() { REQUIRE(::pwrite(fd, noise.data(), noise.size(), 512) == std::ssize(noise)); }

  // Reads through `ring`; what arrives must be right when it is told of.
  IoStatus Read(Uring& ring) {
    told.clear();
    std::ranges::fill(memory, std::byte{0});
    auto pieces = Pieces(memory);
    return ReadInParts(ring, fd, pieces, 512, [&](std::uint64_t bytes) {
      CHECK(std::memcmp(memory.data(), noise.data(), bytes) == 0);
      told.push_back(bytes);
    });
  }

  // Writes through `ring` memory that `prepare` fills in no sooner than it is told to.
  IoStatus Write(Uring& ring) {
    told.clear();
    std::ranges::fill(memory, std::byte{0});
    auto pieces = Pieces(memory);
    return WriteInParts(ring, fd, pieces, 512, [&](std::uint64_t bytes) {
      const std::size_t from = told.empty() ? 4096 : told.back();
      std::copy_n(noise.begin() + static_cast<std::ptrdiff_t>(from), bytes - from,
                  memory.begin() + static_cast<std::ptrdiff_t>(from));
      if (bytes == noise.size()) std::copy_n(noise.begin(), 4096, memory.begin());
      told.push_back(bytes);
    });
  }

  bool FileIsRight() {
    std::vector<std::byte> found(noise.size());
    return ::pread(fd, found.data(), found.size(), 512) == std::ssize(found) && found == noise;
  }

  bool ToldInOrder() const {
    return std::ranges::is_sorted(told) && told.size() > 4 && told.back() == noise.size();
  }

  TempDirectory directory;
  std::vector<std::byte> noise, memory;
  std::vector<std::uint64_t> told;
  int fd = -1;
};

TEST_CASE("a transfer in parts moves every byte, whichever part ends first") {
  Bench bench;
  for (const bool last_first : {false, true}) {
    FakeUring ring;
    ring.ends_last_first = last_first;
    REQUIRE(bench.Write(ring).ok());
    CHECK(bench.ToldInOrder());
    CHECK(bench.FileIsRight());
    CHECK(ring.at_once_max == 2);
    REQUIRE(bench.Read(ring).ok());
    CHECK(bench.ToldInOrder());
    CHECK(ring.begun.empty());
  }
}

TEST_CASE("the first block is the last to be written") {
  Bench bench;
  FakeUring ring;
  REQUIRE(bench.Write(ring).ok());
  REQUIRE(ring.offsets.size() > 4);
  CHECK(ring.offsets.back() == 512);
  CHECK(std::ranges::count(ring.offsets, 512u) == 1);
}

TEST_CASE("a part that a ring refuses or cuts short is moved all the same") {
  Bench bench;
  FakeUring ring;
  SECTION("refused at the start") {
    ring.refuses = [](int start) { return start % 2 == 0; };
  }
  SECTION("ended with EAGAIN") {
    ring.move = [](FakeUring::Begun&) { return -EAGAIN; };
  }
  SECTION("cut short") {
    ring.move = [](FakeUring::Begun& job) {
      job.pieces.resize(1);
      job.pieces[0].iov_len = std::min<std::size_t>(job.pieces[0].iov_len, 4096);
      return FakeUring::MoveWhole(job);
    };
  }
  SECTION("nothing moved") {
    ring.move = [](FakeUring::Begun&) { return 0; };
  }
  REQUIRE(bench.Write(ring).ok());
  CHECK(bench.FileIsRight());
  REQUIRE(bench.Read(ring).ok());
  CHECK(bench.ToldInOrder());
}

TEST_CASE("a file that ends first is short, and nothing is left at the device") {
  Bench bench;
  bench.Fill();
  REQUIRE(::ftruncate(bench.fd, 5 * kMiB) == 0);
  FakeUring ring;
  ring.ends_last_first = true;
  CHECK(bench.Read(ring).IsShort());
  CHECK(ring.begun.empty());
}

TEST_CASE("a failure is reported and nothing is left at the device") {
  Bench bench;
  bench.Fill();
  const int readable = bench.fd;
  bench.fd = ::open((bench.directory.path() + "/file").c_str(), O_RDONLY);
  FakeUring ring;
  CHECK(bench.Write(ring).error() == EBADF);
  CHECK(ring.begun.empty());
  CHECK(ring.starts < 4);  // no more of them after the first failure
  ::close(bench.fd);
  bench.fd = readable;
  CHECK(bench.FileIsRight());
}

TEST_CASE("the kernel's ring does what the fake one does") {
  Uring* ring = Uring::OfThisThread();
  if (ring == nullptr) {
    WARN("no io_uring here: its test did not run");
    return;
  }
  CHECK(Uring::OfThisThread() == ring);
  Bench bench;
  for (int round = 0; round < 20; ++round) {
    REQUIRE(bench.Write(*ring).ok());
    REQUIRE(bench.FileIsRight());
    REQUIRE(bench.Read(*ring).ok());
    REQUIRE(bench.ToldInOrder());
  }
  REQUIRE(::ftruncate(bench.fd, 5 * kMiB) == 0);
  CHECK(bench.Read(*ring).IsShort());
}

}  // namespace
}  // namespace kvtier
