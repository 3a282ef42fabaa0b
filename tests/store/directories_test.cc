// Several directories as one store.

#include <catch2/catch.hpp>
#include <map>
#include <random>
#include <set>

#include "two_directories.h"

namespace kvtier {
namespace {

using testing::CapacityFor;
using testing::Eventually;
using testing::GetPage;
using testing::MakeKey;
using testing::PutPage;
using testing::TempDirectory;
using testing::TwoDirectories;

TEST_CASE("no page goes before the pages that come after it, wherever they lie") {
  for (std::uint64_t seed = 1; seed <= 20; ++seed) {
    INFO("seed " << seed);
    TwoDirectories test;
    test.Open(8);
    std::mt19937_64 random(seed);
    std::map<std::uint64_t, std::uint64_t> parents;  // of the pages that are there
    for (std::uint64_t i = 1; i <= 200; ++i) {
      const std::uint64_t parent =
          parents.empty() || random() % 4 == 0
              ? 0
              : std::next(parents.begin(), static_cast<long>(random() % parents.size()))->first;
      std::set<std::uint64_t> inner;
      for (const auto& [page, above] : parents) inner.insert(above);
      REQUIRE(PutPage(*test.store, i, parent) == Status::kOk);
      for (auto page = parents.begin(); page != parents.end();) {
        const bool is_gone = !test.Has(page->first);
        if (is_gone) REQUIRE_FALSE(inner.contains(page->first));
        page = is_gone ? parents.erase(page) : std::next(page);
      }
      parents.emplace(i, parent);
    }
    REQUIRE(test.store->Stats().evicted == 200 - 16);
    test.store->CheckIntegrity();
  }
}

TEST_CASE("a page whose only copy is out of sight is written again, and there is one of it") {
  TwoDirectories test;
  test.Open(50);
  for (std::uint64_t i = 1; i <= 20; ++i) REQUIRE(PutPage(*test.store, i) == Status::kOk);
  test.store->Flush();
  test.faults->FailReads(EIO);
  for (std::uint64_t i = 1; i <= 20 && !test.store->Stats().degraded; ++i) {
    (void)GetPage(*test.store, i);
  }
  REQUIRE(test.store->Stats().degraded);
  std::set<std::uint64_t> unseen;
  for (std::uint64_t i = 1; i <= 20; ++i) {
    if (!test.Has(i)) unseen.insert(i);
  }
  REQUIRE(unseen.size() > 2);
  for (const std::uint64_t i : unseen) {
    CHECK(PutPage(*test.store, i) == Status::kOk);
    CHECK(GetPage(*test.store, i) == Status::kOk);
  }
  CHECK(PutPage(*test.store, *unseen.begin()) == Status::kAlreadyPresent);
  test.faults->FailReads(0);
  REQUIRE(Eventually([&] { return !test.store->Stats().degraded; }));
  for (std::uint64_t i = 1; i <= 20; ++i) CHECK(GetPage(*test.store, i) == Status::kOk);
  CHECK(test.store->Stats().pages == 20);
  test.store->CheckIntegrity();
  test.store->Close();
  test.Open(50);
  for (std::uint64_t i = 1; i <= 20; ++i) CHECK(GetPage(*test.store, i) == Status::kOk);
  CHECK(test.store->Stats().recovered_pages == 20);
}

TEST_CASE("a directory whose writes take longer gets fewer of them") {
  TwoDirectories test;
  test.Open(200);
  test.faults->Stall();
  std::vector<std::vector<std::byte>> pages;
  std::size_t open = 0;
  for (std::uint64_t i = 1; i <= 100; ++i) {
    auto& page = pages.emplace_back(testing::MakePage(i));
    test.store->Submit({PutRequest{i, MakeKey(i), Key{}, {{page.data(), page.size()}}}});
    ++open;
    // The second directory keeps up: what is left belongs to the first.
    while (open > test.First().writes_queued) open -= test.store->completions().Poll(100).size();
  }
  // Eight behind the second, which may count two more that it has just ended.
  CHECK(test.First().writes_queued <= 11);
  CHECK(test.Second().pages >= 89);
  test.faults->Release();
  while (open > 0) open -= test.store->completions().Wait(std::chrono::seconds(60), 100).size();
  CHECK(test.First().pages + test.Second().pages == 100);
  test.store->CheckIntegrity();
}

TEST_CASE("directories share pages by capacity, and the figures of each say so") {
  TempDirectory small, large;
  StoreOptions options;
  options.reserve_bytes = 0;
  const auto store = Store::Open({{small.path(), CapacityFor(30)}, {large.path(), CapacityFor(90)}},
                                 testing::TestPages(), options);
  for (std::uint64_t i = 1; i <= 40; ++i) REQUIRE(PutPage(*store, i) == Status::kOk);
  for (std::uint64_t i = 1; i <= 40; ++i) REQUIRE(GetPage(*store, i) == Status::kOk);
  const StoreStats stats = store->Stats();
  REQUIRE(stats.directories.size() == 2);
  const DirectoryStats &first = stats.directories[0], &second = stats.directories[1];
  CHECK(first.path == small.path());
  CHECK(first.pages == 10);
  CHECK(second.pages == 30);
  CHECK(first.capacity_pages == 30);
  CHECK(second.written_bytes == 30 * testing::kTestPageBytes);
  CHECK(second.read_bytes == 30 * testing::kTestPageBytes);
  CHECK(first.read_bytes + second.read_bytes == stats.read_bytes);
  CHECK(first.used_bytes + second.used_bytes == stats.used_bytes);
  CHECK(first.disk_written_bytes + second.disk_written_bytes == stats.disk_written_bytes);
  CHECK((first.is_open && first.reads_in_use && first.writes_in_use));
  CHECK(first.out_of_use_reason.empty());
}

TEST_CASE("the order of use survives a clean restart") {
  TempDirectory directory;
  StoreOptions options;
  options.reserve_bytes = 0;
  const auto open = [&] {
    return Store::Open({{directory.path(), CapacityFor(4)}}, testing::TestPages(), options);
  };
  auto store = open();
  for (std::uint64_t i = 1; i <= 4; ++i) REQUIRE(PutPage(*store, i) == Status::kOk);
  REQUIRE(GetPage(*store, 1) == Status::kOk);
  const Key second = MakeKey(2);
  store->Touch({&second, 1});
  store->Close();
  store = open();
  REQUIRE(PutPage(*store, 5) == Status::kOk);
  REQUIRE(PutPage(*store, 6) == Status::kOk);
  CHECK(GetPage(*store, 3) == Status::kMiss);
  CHECK(GetPage(*store, 4) == Status::kMiss);
  CHECK(GetPage(*store, 1) == Status::kOk);
  CHECK(GetPage(*store, 2) == Status::kOk);
}

}  // namespace
}  // namespace kvtier
