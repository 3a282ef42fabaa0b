// Disks that fail or hang while a store is opened, and directories that join it later.

#include <atomic>
#include <catch2/catch.hpp>
#include <cerrno>
#include <filesystem>
#include <string>
#include <thread>

#include "error.h"
#include "open_directory.h"
#include "two_directories.h"

namespace kvtier {
namespace {

using Catch::Matchers::Contains;
using testing::CapacityFor;
using testing::Eventually;
using testing::GetPage;
using testing::PutPage;
using testing::TwoDirectories;

constexpr std::uint64_t kPages = 20;

// Closed, with pages 1 to kPages in both directories.
void Fill(TwoDirectories& test) {
  test.Open(50);
  for (std::uint64_t i = 1; i <= kPages; ++i) REQUIRE(PutPage(*test.store, i) == Status::kOk);
  test.store->Close();
}

TEST_CASE("a store opens without a directory whose disk fails, which joins it when it works") {
  TwoDirectories test;
  Fill(test);
  test.faults->FailReads(EIO);
  test.Open(50);
  StoreStats stats = test.store->Stats();
  CHECK(stats.degraded);
  CHECK_THAT(stats.degraded_reason,
             Contains(test.first.path()) && Contains("is not open") && Contains("Input/output"));
  CHECK_FALSE(test.First().is_open);
  CHECK_FALSE(test.First().writes_in_use);
  CHECK(test.Second().is_open);
  std::uint64_t there = 0;
  for (std::uint64_t i = 1; i <= kPages; ++i) {
    if (!test.Has(i)) continue;
    ++there;
    CHECK(GetPage(*test.store, i) == Status::kOk);
  }
  CHECK(there == kPages / 2);
  CHECK(PutPage(*test.store, 100) == Status::kOk);
  test.store->Flush();

  test.faults->FailReads(0);
  REQUIRE(Eventually([&] { return !test.store->Stats().degraded; }));
  for (std::uint64_t i = 1; i <= kPages; ++i) CHECK(GetPage(*test.store, i) == Status::kOk);
  CHECK(GetPage(*test.store, 100) == Status::kOk);
  CHECK(test.First().pages == kPages / 2);
  test.store->CheckIntegrity();
}

TEST_CASE("a page that was written again while its directory was away is there once") {
  TwoDirectories test;
  Fill(test);
  test.faults->FailReads(EIO);
  test.Open(50);
  for (std::uint64_t i = 1; i <= kPages; ++i) (void)PutPage(*test.store, i);
  CHECK(test.Second().pages == kPages);
  test.faults->FailReads(0);
  REQUIRE(Eventually([&] { return !test.store->Stats().degraded; }));
  CHECK(test.store->Stats().pages == kPages);
  CHECK(test.First().pages == 0);
  test.store->CheckIntegrity();
  test.store->Close();
  test.Open(50);
  CHECK(test.store->Stats().pages == kPages);
  for (std::uint64_t i = 1; i <= kPages; ++i) CHECK(GetPage(*test.store, i) == Status::kOk);
  test.store->CheckIntegrity();
}

TEST_CASE("a directory that comes back does not get all writes until it has caught up") {
  TwoDirectories test;
  Fill(test);
  test.faults->FailReads(EIO);
  test.Open(200);
  for (std::uint64_t i = 101; i <= 140; ++i) REQUIRE(PutPage(*test.store, i) == Status::kOk);
  test.faults->FailReads(0);
  REQUIRE(Eventually([&] { return !test.store->Stats().degraded; }));
  for (std::uint64_t i = 201; i <= 220; ++i) REQUIRE(PutPage(*test.store, i) == Status::kOk);
  CHECK(test.First().written_bytes / testing::kTestPageBytes == 10);
}

TEST_CASE("a disk that hangs does not keep the store from opening") {
  TwoDirectories test;
  Fill(test);
  test.options.open_timeout_s = 0.05;
  test.faults->Stall();
  test.Open(50);
  CHECK_THAT(test.store->Stats().degraded_reason, Contains("still being opened"));
  CHECK(PutPage(*test.store, 100) == Status::kOk);
  test.faults->Release();
  REQUIRE(Eventually([&] { return !test.store->Stats().degraded; }));
  for (std::uint64_t i = 1; i <= kPages; ++i) CHECK(GetPage(*test.store, i) == Status::kOk);
}

TEST_CASE("a directory that goes away again and again while others work with it") {
  TwoDirectories test;
  test.options.stall_timeout_s = 0.08;  // the monitor looks every hundredth of a second
  test.options.commit_interval_s = 0.001;
  test.Open(20);
  std::atomic<bool> ends{false};
  std::vector<std::thread> threads;
  std::vector<std::vector<std::byte>> pages(2, std::vector<std::byte>(testing::kTestPageBytes));
  for (std::uint64_t t = 0; t < 2; ++t) {
    threads.emplace_back([&, t] {
      for (std::uint64_t step = 0; !ends; ++step) {
        const std::uint64_t i = 1 + (step * 7 + t) % 60;
        const Key key = testing::MakeKey(i);
        test.store->Submit({GetRequest{i, key, {{pages[t].data(), pages[t].size()}}}});
        test.store->Pin({&key, 1});
        test.store->Unpin({&key, 1});
        (void)test.store->completions().Wait(std::chrono::seconds(60), 1);
      }
    });
  }
  for (int times = 0; times < 6; ++times) {
    const int opened = test.first_opened;
    test.faults->GoAway(1);
    CHECK(Eventually([&] { return test.first_opened > opened; }));
    CHECK(Eventually([&] { return !test.store->Stats().degraded; }));
  }
  ends = true;
  for (std::thread& thread : threads) thread.join();
  for (std::uint64_t i = 1; i <= 60; ++i) CHECK(PutPage(*test.store, i) == Status::kOk);
  test.store->CheckIntegrity();
  CHECK(test.store->Stats().pages == 40);
  CHECK(test.store->Stats().corrupt.empty());
}

TEST_CASE("a store whose directory is not open yet is cleared but for that, and says so") {
  TwoDirectories test;
  Fill(test);
  test.faults->FailReads(EIO);
  test.Open(50);
  CHECK_THROWS_WITH(test.store->Clear(),
                    Contains(test.first.path()) && Contains("keeps its pages"));
  CHECK(test.store->Stats().pages == 0);
}

TEST_CASE("when all disks fail the store is not opened, and the error says why") {
  TwoDirectories test;
  test.faults->FailReads(EIO);
  test.faults->FailMetadataWrites(EIO);
  CHECK_THROWS_AS(
      Store::Open({{test.first.path(), CapacityFor(5)}}, testing::TestPages(), test.options),
      DiskFailed);
  test.faults->FailReads(0);
  test.faults->FailMetadataWrites(0);
  CHECK_NOTHROW(
      Store::Open({{test.first.path(), CapacityFor(5)}}, testing::TestPages(), test.options));
}

TEST_CASE("a store whose only directory hangs is there without it, and has it later") {
  TwoDirectories test;
  test.options.open_timeout_s = 0.02;
  test.options.close_timeout_s = 0.02;
  test.faults->StallSyncs();
  const auto open = [&] {
    return Store::Open({{test.first.path(), CapacityFor(5)}}, testing::TestPages(), test.options);
  };
  auto store = open();
  CHECK(store->Stats().degraded);
  CHECK(GetPage(*store, 1) == Status::kMiss);
  CHECK(PutPage(*store, 1) == Status::kDropped);
  store->Flush();
  // Closed meanwhile: the directory is let go of as soon as the disk has answered.
  CHECK_THROWS_WITH(store->Close(), Contains("does not answer"));
  test.options.open_timeout_s = 60;
  CHECK_THROWS_WITH(open(), Contains("in use by"));
  test.faults->Release();
  REQUIRE(Eventually([&] {
    try {
      store = open();
      return true;
    } catch (const StoreError&) {
      return false;
    }
  }));
  store->Close();
  test.options.open_timeout_s = 0.02;
  test.faults->Stall();
  store = open();
  CHECK(store->Stats().degraded);
  test.faults->Release();
  REQUIRE(Eventually([&] { return !store->Stats().degraded; }));
  CHECK(PutPage(*store, 1) == Status::kOk);
  CHECK(GetPage(*store, 1) == Status::kOk);
}

TEST_CASE("a directory is made on the disk that it was meant for, and on no other") {
  testing::TempDirectory directory;
  const DirectorySpec spec{directory.path() + "/l3", CapacityFor(5)};
  const DiskId disk = DiskAt(spec.path);
  CHECK(disk == DiskAt(directory.path()));
  CHECK_THROWS_AS(OpenDirectory(spec, testing::TestPages(), StoreOptions{}, OnDisk{disk + 1}),
                  DiskFailed);
  CHECK_FALSE(std::filesystem::exists(spec.path));
  CHECK_NOTHROW(OpenDirectory(spec, testing::TestPages(), StoreOptions{}, OnDisk{disk}));
  CHECK(std::filesystem::exists(spec.path));
}

TEST_CASE("a directory for other pages is a mistake: nothing is opened") {
  TwoDirectories test;
  Fill(test);
  PageGeometry other = testing::TestPages();
  other.page_bytes *= 2;
  {
    testing::TempDirectory third;
    CHECK_THROWS_WITH(Store::Open({{third.path(), 1 << 20}, {test.second.path(), 1 << 20}}, other,
                                  StoreOptions{}),
                      Contains("holds pages of"));
    // Neither is still held.
    CHECK_NOTHROW(Store::Open({{third.path(), 1 << 20}}, other, StoreOptions{}));
  }
  test.Open(50);
  CHECK(test.store->Stats().pages == kPages);
}

}  // namespace
}  // namespace kvtier
