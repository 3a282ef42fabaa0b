#include "arena.h"

#include <sys/mman.h>
#include <unistd.h>

#include <catch2/catch.hpp>
#include <cstring>
#include <thread>

#include "error.h"
#include "store_harness.h"

namespace kvtier {
namespace {

using testing::Eventually;
using testing::MakeKey;

struct Memfd {
  Memfd() : fd(::memfd_create("kvtier-test", MFD_CLOEXEC)) {}
  ~Memfd() { ::close(fd); }
  const int fd;
};

ArenaOptions Options(std::uint64_t slots = 8) {
  ArenaOptions options;
  const std::byte name{'n'};
  options.geometry = MakeArenaGeometry(slots, 3, 5000, {&name, 1});
  options.backing = Backing::kPlain;
  return options;
}

void Fill(const Arena& arena, std::uint64_t slot, int value) {
  for (const Piece& piece : arena.Pieces(slot)) std::memset(piece.data, value, piece.bytes);
}

TEST_CASE("a successor adopts published slots, oldest first") {
  Memfd memory;
  auto first = Arena::Open(memory.fd, Options());
  CHECK_FALSE(first->adopted());
  for (const std::uint64_t slot : {5, 2, 7}) {
    Fill(*first, slot, static_cast<int>(slot));
    first->Publish(slot, MakeKey(slot), MakeKey(slot + 100));
  }
  first->Retract(2);
  first->Close();
  const auto second = Arena::Open(memory.fd, Options());
  REQUIRE(second->adopted());
  const auto entries = second->Entries();
  REQUIRE(entries.size() == 2);
  CHECK(entries[0].slot == 5);
  CHECK(entries[1].slot == 7);
  CHECK(entries[1].key == MakeKey(7));
  CHECK(entries[1].parent == MakeKey(107));
  CHECK(second->Verify(5));
  second->Publish(1, MakeKey(1), Key{});
  CHECK(second->Entries().back().slot == 1);
  CHECK(second->Entries().back().parent.IsZero());
}

TEST_CASE("a slot whose bytes changed does not verify") {
  Memfd memory;
  const auto arena = Arena::Open(memory.fd, Options());
  arena->Publish(3, MakeKey(3), Key{});
  CHECK(arena->Verify(3));
  const Piece last = arena->Pieces(3).back();
  last.data[last.bytes - 1] ^= std::byte{1};
  CHECK_FALSE(arena->Verify(3));
  CHECK_FALSE(arena->Verify(4));
}

TEST_CASE("a page moves to an empty slot with its place in the order") {
  Memfd memory;
  auto arena = Arena::Open(memory.fd, Options());
  for (const std::uint64_t slot : {6, 3}) {
    Fill(*arena, slot, static_cast<int>(slot));
    arena->Publish(slot, MakeKey(slot), MakeKey(slot + 100));
  }
  arena->Move(6, 0);
  REQUIRE(arena->Entries().size() == 2);
  CHECK(arena->Entries()[0].slot == 0);
  CHECK(arena->Entries()[0].key == MakeKey(6));
  CHECK(arena->Entries()[0].parent == MakeKey(106));
  CHECK(arena->Verify(0));
  CHECK_FALSE(arena->Verify(6));
  for (const Piece& piece : arena->Pieces(0)) {
    CHECK(piece.data[0] == std::byte{6});
    CHECK(piece.data[piece.bytes - 1] == std::byte{6});
  }
  CHECK_THROWS_AS(arena->Move(6, 1), ArenaError);
  CHECK_THROWS_AS(arena->Move(0, 3), ArenaError);
  CHECK(arena->Verify(3));
}

TEST_CASE("bytes that changed do not verify after a move either") {
  Memfd memory;
  auto arena = Arena::Open(memory.fd, Options());
  Fill(*arena, 5, 5);
  arena->Publish(5, MakeKey(5), Key{});
  arena->Pieces(5)[1].data[7] = std::byte{99};
  arena->Move(5, 2);
  CHECK_FALSE(arena->Verify(2));
}

TEST_CASE("another geometry or namespace formats the arena anew") {
  Memfd memory;
  (void)Arena::Open(memory.fd, Options())->Publish(1, MakeKey(1), Key{});
  const auto larger = Arena::Open(memory.fd, Options(9));
  CHECK_FALSE(larger->adopted());
  CHECK(larger->Entries().empty());
}

TEST_CASE("an entry that was half-written is dropped at adoption") {
  Memfd memory;
  const auto options = Options();
  auto arena = Arena::Open(memory.fd, options);
  for (const std::uint64_t slot : {0, 1, 2, 3}) arena->Publish(slot, MakeKey(slot + 1), Key{});
  arena->Close();
  const ArenaHeader header = MakeArenaHeader(options.geometry, BackingAlignment(options.backing));
  const SharedMapping raw(memory.fd, header.total_bytes, Backing::kPlain);
  auto* const table = reinterpret_cast<ArenaSlot*>(raw.data() + header.table_at);
  table[0].key = MakeKey(9);
  table[2].parent = MakeKey(9);
  table[3].sequence += 1;
  arena = Arena::Open(memory.fd, options);
  REQUIRE(arena->adopted());
  REQUIRE(arena->Entries().size() == 1);
  CHECK(arena->Entries()[0].slot == 1);
}

TEST_CASE("an arena of another version is formatted anew") {
  Memfd memory;
  const auto options = Options();
  Arena::Open(memory.fd, options)->Publish(1, MakeKey(1), Key{});
  const ArenaHeader header = MakeArenaHeader(options.geometry, BackingAlignment(options.backing));
  const SharedMapping raw(memory.fd, header.total_bytes, Backing::kPlain);
  reinterpret_cast<ArenaHeader*>(raw.data())->version = kArenaVersion - 1;
  CHECK_THROWS_AS(Arena::Attach(memory.fd), ArenaError);
  const auto arena = Arena::Open(memory.fd, options);
  CHECK_FALSE(arena->adopted());
  CHECK(arena->Entries().empty());
}

TEST_CASE("memory outlives the arena while a view of it lives") {
  Memfd memory;
  auto arena = Arena::Open(memory.fd, Options());
  const auto view = arena->PartView(2);
  arena.reset();
  (*view)[view->size() - 1] = std::byte{7};
  CHECK((*view)[view->size() - 1] == std::byte{7});
}

TEST_CASE("prefaulting populates everything") {
  Memfd memory;
  const auto arena = Arena::Open(memory.fd, Options(2000));
  arena->StartPrefault(2);
  CHECK(Eventually([&] { return arena->populated_bytes() == arena->mapped_bytes(); }));
  CHECK_FALSE(arena->prefault_error());
}

bool IsFilled(const Arena& arena, std::uint64_t slot, int value) {
  for (const Piece& piece : arena.Pieces(slot)) {
    for (std::size_t i = 0; i < piece.bytes; ++i) {
      if (piece.data[i] != static_cast<std::byte>(value)) return false;
    }
  }
  return true;
}

TEST_CASE("memory is given back and comes back as zeroes") {
  Memfd memory;
  const auto arena = Arena::Open(memory.fd, Options(2000));
  const auto is_populated = [&] { return arena->populated_bytes() == arena->target_bytes(); };
  arena->StartPrefault(2, 100);
  REQUIRE(Eventually(is_populated));
  const std::size_t few = arena->populated_bytes();
  CHECK(few < arena->mapped_bytes() / 10);
  arena->StartPrefault(1);
  arena->StartPrefault(1, 50);
  CHECK(arena->target_bytes() == arena->mapped_bytes());
  REQUIRE(Eventually(is_populated));
  for (std::uint64_t slot = 0; slot < 2000; ++slot) Fill(*arena, slot, 1);
  arena->Publish(99, MakeKey(99), Key{});
  CHECK_THROWS_AS(arena->Release(99), ArenaError);
  CHECK(arena->target_bytes() == arena->mapped_bytes());
  arena->Release(100);
  CHECK(arena->populated_bytes() == few);
  CHECK(arena->target_bytes() == few);
  CHECK(arena->Verify(99));
  CHECK(IsFilled(*arena, 0, 1));
  arena->StartPrefault(2);
  REQUIRE(Eventually(is_populated));
  CHECK(arena->populated_bytes() == arena->mapped_bytes());
  CHECK(IsFilled(*arena, 100, 0));
  CHECK(IsFilled(*arena, 1999, 0));
}

TEST_CASE("slots in use are not disturbed by memory that comes and goes") {
  Memfd memory;
  ArenaOptions options = Options(3000);
  const std::byte name{'n'};
  options.geometry = MakeArenaGeometry(3000, 3, 60000, {&name, 1});  // several chunks a part
  const auto arena = Arena::Open(memory.fd, options);
  for (std::uint64_t slot = 0; slot < 7; ++slot) {
    Fill(*arena, slot, static_cast<int>(slot) + 1);
    arena->Publish(slot, MakeKey(slot), Key{});
  }
  std::atomic<bool> stop{false};
  std::atomic<bool> all_well{true};
  std::thread reader([&] {
    while (!stop) {
      for (std::uint64_t slot = 0; slot < 7; ++slot) {
        if (!arena->Verify(slot)) all_well = false;
      }
    }
  });
  for (int round = 0; round < 20; ++round) {
    arena->StartPrefault(1 + round % 3, 3000 - 100 * (round % 5));
    arena->Release(7 + 500 * (round % 3));
  }
  stop = true;
  reader.join();
  CHECK(all_well);
  arena->StartPrefault(2);
  CHECK(Eventually([&] { return arena->populated_bytes() == arena->mapped_bytes(); }));
  CHECK_FALSE(arena->prefault_error());
}

TEST_CASE("mistakes are sentences") {
  Memfd memory, empty;
  const auto arena = Arena::Open(memory.fd, Options());
  CHECK_THROWS_AS(arena->Publish(8, MakeKey(1), Key{}), ArenaError);
  CHECK_THROWS_AS(arena->PartAddress(3), ArenaError);
  CHECK_THROWS_AS(Arena::Attach(empty.fd), ArenaError);
  CHECK_THROWS_AS(Arena::Attach(-1), ArenaError);
  ArenaOptions options = Options();
  options.numa_nodes = {0};
  CHECK_THROWS_AS(Arena::Open(memory.fd, options), ArenaError);
  options = Options(std::uint64_t{1} << 60);
  CHECK_THROWS_AS(Arena::Open(memory.fd, options), ArenaError);
  arena->Close();
  CHECK_THROWS_AS(arena->Entries(), ArenaError);
}

}  // namespace
}  // namespace kvtier
