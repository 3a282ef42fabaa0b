// For ThreadSanitizer above all: every public call from several threads at once.

#include <atomic>
#include <catch2/catch.hpp>
#include <mutex>
#include <random>
#include <thread>

#include "error.h"
#include "store_harness.h"

namespace kvtier {
namespace {

using testing::CapacityFor;
using testing::kTestPageBytes;
using testing::MakeKey;
using testing::MakePage;
using testing::TempDirectory;

constexpr std::uint64_t kKeys = 40;
constexpr int kThreads = 3;
constexpr int kSteps = 400;

// Submits requests of one thread and counts what comes back; any thread may fetch a completion.
class Client {
 public:
  Client(Store& store, std::atomic<int>& open) : store_(store), open_(open) {}

  void Put(std::uint64_t i) {
    auto& page = pages_.emplace_back(MakePage(i));
    ++open_;
    store_.Submit({PutRequest{i, MakeKey(i), MakeKey(i / 3), {{page.data(), page.size()}}}});
  }

  void Get(std::uint64_t i) {
    auto& page = pages_.emplace_back(kTestPageBytes);
    ++open_;
    store_.Submit({GetRequest{i, MakeKey(i), {{page.data(), page.size()}}}});
  }

  void Other(std::uint64_t i, std::uint64_t which) {
    const Key key = MakeKey(i);
    switch (which) {
      case 0:
        store_.Evict({&key, 1});
        break;
      case 1:
        store_.Pin({&key, 1});
        store_.Unpin({&key, 1});
        break;
      case 2:
        store_.Touch({&key, 1});
        store_.LongestPrefix({&key, 1});
        break;
      case 3:
        store_.Flush();
        break;
      default:
        (void)store_.Stats();
    }
  }

 private:
  Store& store_;
  std::atomic<int>& open_;
  std::vector<std::vector<std::byte>> pages_;
};

TEST_CASE("many threads use a store of two directories while it evicts") {
  TempDirectory first, second;
  StoreOptions options;
  options.commit_interval_s = 0.002;
  options.reserve_bytes = 0;
  const auto store = Store::Open({{first.path(), CapacityFor(8)}, {second.path(), CapacityFor(12)}},
                                 testing::TestPages(), options);
  std::atomic<int> open{0};
  std::vector<Client> clients(kThreads, Client(*store, open));
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([&, t] {
      std::mt19937_64 random(static_cast<std::uint64_t>(t));
      for (int step = 0; step < kSteps; ++step) {
        const std::uint64_t i = 1 + random() % kKeys;
        const std::uint64_t what = random() % 12;
        if (what < 4) {
          clients[static_cast<std::size_t>(t)].Put(i);
        } else if (what < 8) {
          clients[static_cast<std::size_t>(t)].Get(i);
        } else {
          clients[static_cast<std::size_t>(t)].Other(i, random() % 6);
        }
        open -= static_cast<int>(store->completions().Poll(100).size());
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  while (open > 0) {
    const auto ended = store->completions().Wait(std::chrono::seconds(60), 100);
    REQUIRE_FALSE(ended.empty());
    open -= static_cast<int>(ended.size());
  }
  store->CheckIntegrity();
  const StoreStats stats = store->Stats();
  CHECK(stats.corrupt.empty());
  CHECK(stats.io_errors == 0);
  CHECK(stats.pages <= stats.capacity_pages);
  for (std::uint64_t i = 1; i <= kKeys; ++i) (void)testing::GetPage(*store, i);
}

TEST_CASE("closing ends every request exactly once, and calls after it say so") {
  TempDirectory directory;
  StoreOptions options;
  options.reserve_bytes = 0;
  const auto store =
      Store::Open({{directory.path(), CapacityFor(50)}}, testing::TestPages(), options);
  std::vector<std::vector<std::byte>> pages;
  std::vector<PutRequest> batch;
  for (std::uint64_t i = 1; i <= 40; ++i) pages.push_back(MakePage(i));
  for (std::uint64_t i = 1; i <= 40; ++i) {
    batch.push_back({i, MakeKey(i), Key{}, {{pages[i - 1].data(), pages[i - 1].size()}}});
  }
  store->Submit(std::move(batch));
  std::thread other([&] { store->Close(); });
  store->Close();
  other.join();
  std::vector<int> ended(41);
  for (const Completion& completion : store->completions().Poll(1000)) ++ended[completion.ticket];
  for (std::uint64_t i = 1; i <= 40; ++i) CHECK(ended[i] == 1);
  CHECK_THROWS_AS(store->Flush(), StoreError);
  CHECK_NOTHROW(store->Close());
}

}  // namespace
}  // namespace kvtier
