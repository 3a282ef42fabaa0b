// Closing and flushing when a disk hangs.

#include <catch2/catch.hpp>
#include <cerrno>
#include <future>

#include "error.h"
#include "two_directories.h"

namespace kvtier {
namespace {

using Catch::Matchers::Contains;
using testing::CloseFails;
using testing::Eventually;
using testing::FlushFails;
using testing::GetPage;
using testing::MakeKey;
using testing::MakePage;
using testing::PutPage;
using testing::TwoDirectories;

// Reads page i, which ends whenever it does.
void BeginGet(Store& store, std::uint64_t i, std::vector<std::byte>& page) {
  page.resize(testing::kTestPageBytes);
  store.Submit({GetRequest{i, MakeKey(i), {{page.data(), page.size()}}}});
}

TEST_CASE("closing tells of a read that runs on a disk which is gone as well") {
  TwoDirectories test;
  test.options.close_timeout_s = 0.05;
  test.options.read_timeout_s = 0.08;  // the monitor looks every hundredth of a second
  test.Open(50);
  for (std::uint64_t i = 1; i <= 2; ++i) REQUIRE(PutPage(*test.store, i) == Status::kOk);
  test.store->Flush();
  test.faults->Stall();
  std::vector<std::byte> pages[2];
  for (std::uint64_t i = 1; i <= 2; ++i) BeginGet(*test.store, i, pages[i - 1]);
  test.faults->WaitForStalled(1);
  test.faults->GoAway(1);
  REQUIRE(Eventually([&] { return !test.First().is_open; }));
  CHECK_THROWS_WITH(test.store->Flush(), Contains(test.first.path() + " is gone"));
  CHECK_THROWS_WITH(test.store->Close(), Contains(test.first.path()));
  CHECK_THROWS_WITH(test.store->Close(), Contains(test.first.path()));
  test.faults->Release();
  CHECK(Eventually([&] { return !CloseFails(*test.store); }));
}

TEST_CASE("a flush that waits for a disk which hangs ends though the store is being closed") {
  TwoDirectories test;
  test.options.stall_timeout_s = 0.2;
  test.options.close_timeout_s = 0.01;
  test.options.commit_interval_s = 3600;
  test.Open(50);
  for (std::uint64_t i = 1; i <= 4; ++i) REQUIRE(PutPage(*test.store, i) == Status::kOk);
  test.faults->StallSyncs();
  std::future<bool> fails = std::async(std::launch::async, [&] { return FlushFails(*test.store); });
  test.faults->WaitForStalled(1);
  CHECK_THROWS_AS(test.store->Close(), StoreError);
  CHECK(fails.get());
  test.faults->Release();
  CHECK(Eventually([&] { return !CloseFails(*test.store); }));
}

TEST_CASE("closing says when what was written last is not durable") {
  TwoDirectories test;
  test.options.commit_interval_s = 3600;
  test.Open(50);
  for (std::uint64_t i = 1; i <= 4; ++i) REQUIRE(PutPage(*test.store, i) == Status::kOk);
  test.faults->FailSyncs(EIO);
  CHECK_THROWS_WITH(test.store->Close(),
                    Contains(test.first.path()) && Contains("durable") && Contains("Input/output"));
  CHECK_NOTHROW(test.store->Close());
}

TEST_CASE("closing does not wait for a disk that hangs, and what runs there still ends") {
  TwoDirectories test;
  test.options.close_timeout_s = 0.05;
  test.Open(50);
  for (std::uint64_t i = 1; i <= 10; ++i) REQUIRE(PutPage(*test.store, i) == Status::kOk);
  test.store->Flush();
  test.faults->Stall();
  std::vector<std::vector<std::byte>> pages;
  for (std::uint64_t i = 1; i <= 10; ++i) {
    BeginGet(*test.store, i, pages.emplace_back());
  }
  test.faults->WaitForStalled(4);
  CHECK_THROWS_WITH(test.store->Close(), Contains(test.first.path()) &&
                                             Contains("does not answer") &&
                                             !Contains(test.second.path()));
  CHECK_THROWS_WITH(test.store->Close(), Contains(test.first.path()));
  // The second directory is free, the first is not.
  CHECK_NOTHROW(Store::Open({{test.second.path(), testing::CapacityFor(50)}}, testing::TestPages(),
                            test.options));
  CHECK_THROWS_WITH(Store::Open({{test.first.path(), testing::CapacityFor(50)}},
                                testing::TestPages(), test.options),
                    Contains("in use by"));
  test.faults->Release();
  std::size_t ended = 0, right = 0;
  REQUIRE(Eventually([&] {
    for (const Completion& completion : test.store->completions().Poll(100)) {
      ++ended;
      if (completion.status != Status::kOk) continue;
      ++right;
      CHECK(pages[completion.ticket - 1] == MakePage(completion.ticket));
    }
    return ended == 10;
  }));
  CHECK(right >= 4);
  CHECK(Eventually([&] { return !CloseFails(*test.store); }));
  REQUIRE(Eventually([&] {
    try {
      test.Open(50);
      return true;
    } catch (const StoreError&) {
      return false;
    }
  }));
  for (std::uint64_t i = 1; i <= 10; ++i) CHECK(GetPage(*test.store, i) == Status::kOk);
}

TEST_CASE("a flush does not wait for a disk that hangs") {
  TwoDirectories test;
  test.options.stall_timeout_s = 0.05;
  test.options.commit_interval_s = 3600;
  test.Open(50);
  for (std::uint64_t i = 1; i <= 4; ++i) REQUIRE(PutPage(*test.store, i) == Status::kOk);
  test.faults->StallSyncs();
  CHECK_THROWS_WITH(test.store->Flush(), Contains(test.first.path()) && Contains("not answer"));
  CHECK(Eventually([&] { return test.store->Stats().degraded; }));
  test.faults->Release();
  REQUIRE(Eventually([&] { return !test.store->Stats().degraded; }));
  CHECK_NOTHROW(test.store->Flush());
  for (std::uint64_t i = 1; i <= 4; ++i) CHECK(GetPage(*test.store, i) == Status::kOk);
  test.store->Close();
  test.Open(50);
  for (std::uint64_t i = 1; i <= 4; ++i) CHECK(GetPage(*test.store, i) == Status::kOk);
}

}  // namespace
}  // namespace kvtier
