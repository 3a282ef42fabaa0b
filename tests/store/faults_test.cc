#include <atomic>
#include <catch2/catch.hpp>
#include <cerrno>
#include <future>

#include "error.h"
#include "faulty_device.h"
#include "inspect.h"
#include "posix_device.h"
#include "store_harness.h"

namespace kvtier {
namespace {

using testing::CapacityFor;
using testing::Eventually;
using testing::Faults;
using testing::FlushFails;
using testing::GetPage;
using testing::MakeKey;
using testing::MakePage;
using testing::PutPage;
using testing::TempDirectory;
using testing::WaitOne;

// A store of 20 pages on a real directory with faults to switch on.
struct FaultyStore {
  explicit FaultyStore(std::uint64_t pages = 20) {
    options.read_depth = 2;
    options.write_depth = 1;
    options.write_queue = 4;
    options.commit_interval_s = 0.001;
    options.probe_interval_s = 0.005;
    options.reserve_bytes = 0;
    options.open_device = [this](const std::string& path) {
      return testing::MakeFaulty(OpenPosixDevice(path), faults);
    };
    capacity = CapacityFor(pages);
  }

  void Open() {
    store = Store::Open({{directory.path(), capacity}}, testing::TestPages(), options);
  }

  TempDirectory directory;
  std::shared_ptr<Faults> faults = std::make_shared<Faults>();
  StoreOptions options;
  std::uint64_t capacity;
  std::shared_ptr<Store> store;
};

TEST_CASE("a read that fails is a miss with its cause counted, and the page is dropped") {
  FaultyStore test;
  test.Open();
  REQUIRE(PutPage(*test.store, 1) == Status::kOk);
  test.faults->FailReads(EIO);
  CHECK(GetPage(*test.store, 1) == Status::kIoError);
  CHECK(test.store->Stats().io_errors == 1);
  test.faults->FailReads(0);
  CHECK(GetPage(*test.store, 1) == Status::kMiss);
  test.store->CheckIntegrity();
}

TEST_CASE("reads that fail again and again take the directory out of use until it works") {
  FaultyStore test;
  test.Open();
  for (std::uint64_t i = 1; i <= 10; ++i) REQUIRE(PutPage(*test.store, i) == Status::kOk);
  test.store->Flush();
  test.faults->FailReads(EIO);
  for (std::uint64_t i = 1; i <= 5; ++i) CHECK(GetPage(*test.store, i) == Status::kIoError);
  CHECK(test.store->Stats().degraded);
  CHECK(test.store->Stats().degraded_reason.find(test.directory.path()) != std::string::npos);
  CHECK(GetPage(*test.store, 6) == Status::kMiss);
  CHECK(PutPage(*test.store, 11) == Status::kDropped);
  test.faults->FailReads(0);
  REQUIRE(Eventually([&] { return !test.store->Stats().degraded; }));
  CHECK(GetPage(*test.store, 6) == Status::kOk);
  CHECK(PutPage(*test.store, 11) == Status::kOk);
  test.store->CheckIntegrity();
}

TEST_CASE("a disk that takes no writes goes on serving reads") {
  FaultyStore test;
  test.Open();
  REQUIRE(PutPage(*test.store, 1) == Status::kOk);
  test.store->Flush();
  test.faults->FailWrites(EROFS);
  test.faults->FailMetadataWrites(EROFS);
  for (std::uint64_t i = 2; i <= 6; ++i) CHECK(PutPage(*test.store, i) == Status::kIoError);
  CHECK(test.store->Stats().degraded);
  CHECK(PutPage(*test.store, 7) == Status::kDropped);
  CHECK(GetPage(*test.store, 1) == Status::kOk);
  test.faults->FailWrites(0);
  test.faults->FailMetadataWrites(0);
  REQUIRE(Eventually([&] { return !test.store->Stats().degraded; }));
  CHECK(PutPage(*test.store, 7) == Status::kOk);
  test.store->CheckIntegrity();
}

TEST_CASE("on a full disk the slots that there are go round") {
  FaultyStore test(100000);  // grows in steps of 64 MiB, so the first is all there is
  test.Open();
  REQUIRE(PutPage(*test.store, 1) == Status::kOk);
  test.faults->FailGrowth(ENOSPC);
  const std::uint64_t slots = (std::uint64_t{64} << 20) / SlotBytes(testing::kTestPageBytes);
  for (std::uint64_t i = 2; i <= slots + 50; ++i) REQUIRE(PutPage(*test.store, i) == Status::kOk);
  CHECK(test.store->Stats().pages == slots);
  CHECK(test.store->Stats().evicted == 50);
  CHECK(GetPage(*test.store, slots + 50) == Status::kOk);
  CHECK(GetPage(*test.store, 1) == Status::kMiss);
  CHECK_FALSE(test.store->Stats().degraded);
}

TEST_CASE("with no room for a single slot a put is refused and nothing breaks") {
  FaultyStore test;
  test.Open();
  test.faults->FailGrowth(EDQUOT);
  for (std::uint64_t i = 1; i <= 20; ++i) REQUIRE(PutPage(*test.store, i) == Status::kNoRoom);
  CHECK(test.store->Stats().dropped_writes == 20);
  CHECK_FALSE(test.store->Stats().degraded);
  test.faults->FailGrowth(0);
  REQUIRE(Eventually([&] { return PutPage(*test.store, 1) == Status::kOk; }));
  test.store->CheckIntegrity();
}

TEST_CASE("a write for which the file system has no block evicts, tries once more, then refuses") {
  FaultyStore test(8);
  test.Open();
  for (std::uint64_t i = 1; i <= 4; ++i) REQUIRE(PutPage(*test.store, i) == Status::kOk);
  test.faults->FailWrites(ENOSPC);
  CHECK(PutPage(*test.store, 5) == Status::kNoRoom);
  CHECK(test.store->Stats().evicted == 1);
  CHECK(GetPage(*test.store, 4) == Status::kOk);
  test.faults->FailWrites(0);
  CHECK(PutPage(*test.store, 5) == Status::kOk);
  test.store->CheckIntegrity();
}

TEST_CASE("flush says so when pages cannot be made durable, and they are gone") {
  FaultyStore test;
  test.options.commit_interval_s = 3600;
  test.Open();
  REQUIRE(PutPage(*test.store, 1) == Status::kOk);
  test.store->Flush();
  REQUIRE(PutPage(*test.store, 2) == Status::kOk);
  test.faults->FailSyncs(EIO);
  CHECK_THROWS_AS(test.store->Flush(), StoreError);
  test.faults->FailSyncs(0);
  CHECK(GetPage(*test.store, 2) == Status::kMiss);
  CHECK(GetPage(*test.store, 1) == Status::kOk);
  test.store->Flush();
  test.store->CheckIntegrity();
}

TEST_CASE("a page that was written while a sync was failing is not relied on either") {
  FaultyStore test;
  test.options.commit_interval_s = 3600;
  test.Open();
  REQUIRE(PutPage(*test.store, 1) == Status::kOk);
  test.faults->StallSyncs();
  test.faults->FailSyncs(EIO);
  std::future<bool> fails = std::async(std::launch::async, [&] { return FlushFails(*test.store); });
  test.faults->WaitForStalled(1);
  REQUIRE(PutPage(*test.store, 2) == Status::kOk);
  test.faults->Release();
  CHECK(fails.get());
  test.faults->FailSyncs(0);
  CHECK(GetPage(*test.store, 1) == Status::kMiss);
  CHECK(GetPage(*test.store, 2) == Status::kMiss);
  test.store->Flush();
  test.store->CheckIntegrity();
}

TEST_CASE("a disk is busy while a read runs there, however long, and not while none does") {
  FaultyStore test;
  test.options.stall_timeout_s = 3600;
  test.Open();
  REQUIRE(PutPage(*test.store, 1) == Status::kOk);
  const auto busy_s = [&] { return test.store->Stats().directories[0].reads_busy_s; };
  CHECK(busy_s() == 0);
  CHECK(test.store->Stats().directories[0].writes_busy_s > 0);
  test.faults->Stall();
  std::vector<std::byte> memory(testing::kTestPageBytes);
  test.store->Submit({GetRequest{1, MakeKey(1), {{memory.data(), memory.size()}}}});
  test.faults->WaitForStalled(1);
  const double begun = busy_s();
  CHECK(Eventually([&] { return busy_s() > begun; }));
  test.faults->Release();
  REQUIRE(WaitOne(*test.store) == Status::kOk);
  REQUIRE(Eventually([&] { return test.store->Stats().reads_queued == 0; }));
  const double ended = busy_s();
  REQUIRE(PutPage(*test.store, 2) == Status::kOk);
  CHECK(busy_s() == ended);
}

TEST_CASE("a store that is only read tells who looks from outside of its hits") {
  FaultyStore test;
  std::atomic<std::uint64_t> now{1'000'000};
  test.options.unix_now = [&] { return now.load(); };
  test.Open();
  REQUIRE(PutPage(*test.store, 1) == Status::kOk);
  test.store->Flush();
  REQUIRE(GetPage(*test.store, 1) == Status::kOk);
  now += 2 * Timeline::kMarkEveryS;  // last: the mark is made as soon as it is seen, and but once
  CHECK(Eventually([&] {
    return InspectDirectory(test.directory.path()).timeline.wear().hit_bytes ==
           testing::kTestPageBytes;
  }));
}

TEST_CASE("what was evicted stays evicted, though the commit that was to tell of it failed") {
  FaultyStore test;
  test.options.commit_interval_s = 3600;
  test.Open();
  REQUIRE(PutPage(*test.store, 1) == Status::kOk);
  test.store->Flush();
  REQUIRE(PutPage(*test.store, 2) == Status::kOk);
  const Key key = MakeKey(1);
  REQUIRE(test.store->Evict({&key, 1}) == 1);
  test.faults->FailSyncs(EIO);
  CHECK_THROWS_AS(test.store->Flush(), StoreError);
  test.faults->FailSyncs(0);
  test.store->Flush();
  test.store->Close();
  test.Open();
  CHECK(test.store->Stats().recovered_pages == 0);
  CHECK(GetPage(*test.store, 1) == Status::kMiss);
}

TEST_CASE("a stalled disk: queued reads end at once, running ones when the disk answers") {
  FaultyStore test;
  test.options.stall_timeout_s = 0.05;
  test.Open();
  for (std::uint64_t i = 1; i <= 6; ++i) REQUIRE(PutPage(*test.store, i) == Status::kOk);
  test.store->Flush();
  test.faults->Stall();
  std::vector<std::vector<std::byte>> memory(6, std::vector<std::byte>(testing::kTestPageBytes));
  std::vector<GetRequest> batch;
  for (std::uint64_t i = 1; i <= 6; ++i) {
    batch.push_back({i, MakeKey(i), {{memory[i - 1].data(), memory[i - 1].size()}}});
  }
  test.store->Submit(std::move(batch));
  test.faults->WaitForStalled(2);
  for (int i = 0; i < 4; ++i) CHECK(WaitOne(*test.store) == Status::kIoError);
  CHECK(test.store->Stats().degraded);
  CHECK(GetPage(*test.store, 1) == Status::kMiss);
  CHECK(test.store->completions().Poll(10).empty());
  test.faults->Release();
  for (int i = 0; i < 2; ++i) CHECK(WaitOne(*test.store) == Status::kOk);
  REQUIRE(Eventually([&] { return !test.store->Stats().degraded; }));
  CHECK(GetPage(*test.store, 5) == Status::kOk);
  test.store->CheckIntegrity();
}

TEST_CASE("a read that waits past its deadline times out while the disk is busy") {
  FaultyStore test;
  test.options.read_timeout_s = 0.05;
  test.options.stall_timeout_s = 3600;
  test.Open();
  REQUIRE(PutPage(*test.store, 1) == Status::kOk);
  test.faults->Stall();
  std::vector<std::vector<std::byte>> memory(3, std::vector<std::byte>(testing::kTestPageBytes));
  std::vector<GetRequest> batch;
  for (auto& page : memory) batch.push_back({0, MakeKey(1), {{page.data(), page.size()}}});
  test.store->Submit(std::move(batch));
  CHECK(WaitOne(*test.store) == Status::kTimedOut);
  test.faults->Release();
  for (int i = 0; i < 2; ++i) CHECK(WaitOne(*test.store) == Status::kOk);
  CHECK(test.store->Stats().timed_out_reads == 1);
  test.store->CheckIntegrity();
}

TEST_CASE("writes beyond the queue are dropped, never waited for") {
  FaultyStore test;
  test.options.stall_timeout_s = 3600;
  test.Open();
  test.faults->Stall();
  auto page = MakePage(0);
  std::vector<PutRequest> batch;
  for (std::uint64_t i = 1; i <= 6; ++i) {
    batch.push_back({i, MakeKey(i), Key{}, {{page.data(), page.size()}}});
  }
  test.store->Submit(std::move(batch));
  CHECK(WaitOne(*test.store) == Status::kDropped);
  CHECK(WaitOne(*test.store) == Status::kDropped);
  test.faults->Release();
  for (int i = 0; i < 4; ++i) CHECK(WaitOne(*test.store) == Status::kOk);
  CHECK(test.store->Stats().dropped_writes == 2);
}

TEST_CASE("a slot that is being read is not given to another page") {
  FaultyStore test(1);
  test.options.stall_timeout_s = 3600;
  test.Open();
  REQUIRE(PutPage(*test.store, 1) == Status::kOk);
  test.faults->Stall();
  std::vector<std::byte> memory(testing::kTestPageBytes);
  test.store->Submit({GetRequest{1, MakeKey(1), {{memory.data(), memory.size()}}}});
  test.faults->WaitForStalled(1);
  CHECK(PutPage(*test.store, 2) == Status::kNoRoom);
  const Key key = MakeKey(1);
  CHECK(test.store->Evict({&key, 1}) == 1);  // out of sight, not out of use
  CHECK(PutPage(*test.store, 2) == Status::kNoRoom);
  test.faults->Release();
  CHECK(WaitOne(*test.store) == Status::kOk);
  const bool is_right = memory == MakePage(1);
  CHECK(is_right);
  CHECK(PutPage(*test.store, 2) == Status::kOk);
  test.store->CheckIntegrity();
}

}  // namespace
}  // namespace kvtier
