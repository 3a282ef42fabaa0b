#include "slot_io.h"

#include <catch2/catch.hpp>
#include <cstring>
#include <functional>
#include <random>
#include <vector>

#include "memory_disk.h"
#include "store_harness.h"

namespace kvtier {
namespace {

using testing::MakeKey;
using testing::MemoryDisk;

constexpr Uuid kUuid{1};
constexpr std::uint64_t kPageBytes = 3 * kBlockBytes + 100;
constexpr std::uint64_t kSlot = 1;

// A directory of two slots, one of which holds a page.
struct Directory {
  explicit Directory(const std::vector<std::size_t>& piece_bytes = {kPageBytes})
      : device(disk.Open()),
        segments(*device, {SlotBytes(kPageBytes), 4}, 4),
        io(segments, kUuid),
        memory(kPageBytes + kBlockBytes) {
    REQUIRE(segments.Open().ok());
    REQUIRE(segments.Grow(4).ok());
    std::mt19937_64 random(5);
    for (auto& byte : memory) byte = static_cast<std::byte>(random());
    pieces = Cut(memory, piece_bytes);
    REQUIRE(io.Write(kSlot, Header(), pieces).ok());
  }

  static SlotHeader Header() {
    SlotHeader header{};
    header.name_space = testing::TestPages().name_space;
    header.key = MakeKey(1);
    header.sequence = 7;
    header.payload_bytes = kPageBytes;
    return header;
  }

  static std::vector<Piece> Cut(std::vector<std::byte>& from,
                                const std::vector<std::size_t>& sizes) {
    std::vector<Piece> pieces;
    std::byte* at =
        from.data() + kBlockBytes - reinterpret_cast<std::uintptr_t>(from.data()) % kBlockBytes;
    for (const std::size_t bytes : sizes) {
      pieces.push_back({at, bytes});
      at += bytes;
    }
    return pieces;
  }

  // Reads as `wanted` into fresh memory cut as told; true if the bytes are the page's.
  ReadOutcome Read(const SlotHeader& wanted, const std::vector<std::size_t>& sizes = {kPageBytes}) {
    std::vector<std::byte> into(kPageBytes + kBlockBytes);
    const auto to = Cut(into, sizes);
    const ReadOutcome outcome = io.Read(kSlot, wanted, to);
    if (outcome.ok()) {
      const bool same = std::memcmp(to.front().data, pieces.front().data, kPageBytes) == 0;
      REQUIRE(same);
    }
    return outcome;
  }

  void Change(std::uint64_t offset_in_slot, std::vector<std::byte> bytes) {
    iovec piece{bytes.data(), bytes.size()};
    std::unique_ptr<File> file;
    REQUIRE(device->Open(SegmentName(0), Access::kDirect, false, file).ok());
    REQUIRE(file->Write({&piece, 1}, kSlot * SlotBytes(kPageBytes) + offset_in_slot).ok());
  }

  MemoryDisk disk{1};
  std::unique_ptr<Device> device;
  Segments segments;
  SlotIo io;
  std::vector<std::byte> memory;
  std::vector<Piece> pieces;
};

TEST_CASE("a page comes back however its memory is cut") {
  const std::vector<std::vector<std::size_t>> cuts = {{kPageBytes},
                                                      {kBlockBytes, 2 * kBlockBytes + 100},
                                                      {1, kPageBytes - 1},
                                                      {100, 3 * kBlockBytes},
                                                      {3 * kBlockBytes, 60, 40}};
  for (const auto& write_cut : cuts) {
    Directory directory(write_cut);
    for (const auto& read_cut : cuts) CHECK(directory.Read(Directory::Header(), read_cut).ok());
  }
}

TEST_CASE("a read names what disagrees") {
  Directory directory;
  const auto cause_of = [&](const std::function<void(SlotHeader&)>& change) {
    SlotHeader wanted = Directory::Header();
    change(wanted);
    return directory.Read(wanted).corruption;
  };
  CHECK_FALSE(cause_of([](SlotHeader&) {}));
  CHECK(cause_of([](SlotHeader& h) { h.key = MakeKey(2); }) == Corruption::kKey);
  CHECK(cause_of([](SlotHeader& h) { h.sequence = 6; }) == Corruption::kSequence);
  CHECK(cause_of([](SlotHeader& h) { h.name_space.bytes[0] ^= 1; }) == Corruption::kNamespace);
  SlotIo other(directory.segments, Uuid{2});
  CHECK(other.Read(kSlot, Directory::Header(), directory.pieces).corruption ==
        Corruption::kForeign);
}

TEST_CASE("every flipped bit of a slot is found") {
  Directory directory;
  const std::uint64_t in_use = kBlockBytes + kPageBytes;
  for (std::uint64_t at = 0; at < in_use; at += at < sizeof(SlotHeader) ? 1 : 97) {
    if (at >= sizeof(SlotHeader) && at < kBlockBytes) continue;  // padding, of no meaning
    std::vector<std::byte> byte(1);
    std::unique_ptr<File> file;
    REQUIRE(directory.device->Open(SegmentName(0), Access::kDirect, false, file).ok());
    REQUIRE(ReadAll(*file, byte, kSlot * SlotBytes(kPageBytes) + at).ok());
    const auto right = byte;
    byte[0] ^= std::byte{1} << (at % 8);
    directory.Change(at, byte);
    REQUIRE(directory.Read(Directory::Header()).corruption);
    directory.Change(at, right);
  }
  CHECK(directory.Read(Directory::Header()).ok());
}

TEST_CASE("a slot beyond the end of its file is short") {
  Directory directory;
  std::unique_ptr<File> file;
  REQUIRE(directory.device->Open(SegmentName(0), Access::kDirect, false, file).ok());
  REQUIRE(file->Truncate(2 * SlotBytes(kPageBytes) - 1).ok());
  CHECK(directory.Read(Directory::Header()).corruption == Corruption::kShort);
}

}  // namespace
}  // namespace kvtier
