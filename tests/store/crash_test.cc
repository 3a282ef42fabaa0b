// Fault model: memory_disk.h. The store is driven one request at a time and commits only when it
// is told to, so that the n-th change of the disk is the same in every run; the power then fails
// at each of them. After that: no wrong bytes, and every page that a Flush had covered and nothing
// evicted since is there.

#include <catch2/catch.hpp>
#include <random>
#include <set>

#include "error.h"
#include "memory_disk.h"
#include "store_harness.h"

namespace kvtier {
namespace {

using testing::CapacityFor;
using testing::GetPage;
using testing::MakeKey;
using testing::MemoryDisk;
using testing::PutPage;
using testing::TempDirectory;

constexpr std::uint64_t kKeys = 24;
constexpr std::uint64_t kSeeds = 10;
constexpr std::uint64_t kChangesMin = 40;  // else the runs are too short to prove anything

class CrashRun {
 public:
  CrashRun(MemoryDisk& disk, std::uint64_t pages) : disk_(disk), capacity_(CapacityFor(pages)) {
    options_.read_depth = 1;
    options_.write_depth = 1;
    options_.commit_interval_s = 3600;
    options_.reserve_bytes = 0;
    options_.open_device = [&](const std::string&) { return disk_.Open(); };
  }

  bool Open() {
    try {
      store_ = Store::Open({{directory_.path(), capacity_}}, testing::TestPages(), options_);
      return true;
    } catch (const StoreError&) {
      return false;
    }
  }

  // Puts, gets, evicts and flushes at random until the power fails or `steps` are done.
  void Work(std::mt19937_64& random, int steps) {
    for (int step = 0; step < steps && disk_.has_power(); ++step) {
      const std::uint64_t i = 1 + random() % kKeys;
      switch (random() % 8) {
        case 0:
          Flush();
          break;
        case 1:
          (void)GetPage(*store_, i);
          break;
        case 2: {
          const Key key = MakeKey(i);
          store_->Evict({&key, 1});
          break;
        }
        default:
          (void)PutPage(*store_, i, i / 2);
      }
      ForgetEvicted();
    }
  }

  void Close() { store_.reset(); }

  void CheckSurvivors() {
    for (std::uint64_t i = 1; i <= kKeys; ++i) {
      const bool was_durable = durable_.contains(i);
      const Status status = GetPage(*store_, i);  // fails on wrong bytes
      INFO("key " << i << " was durable: " << was_durable);
      if (was_durable) REQUIRE(status == Status::kOk);
    }
    store_->CheckIntegrity();
  }

 private:
  void Flush() {
    try {
      store_->Flush();
    } catch (const StoreError&) {
      return;
    }
    if (!disk_.has_power()) return;
    durable_.clear();
    for (std::uint64_t i = 1; i <= kKeys; ++i) {
      const Key key = MakeKey(i);
      if (store_->Contains({&key, 1})[0]) durable_.insert(i);
    }
  }

  void ForgetEvicted() {
    std::erase_if(durable_, [this](std::uint64_t i) {
      const Key key = MakeKey(i);
      return !store_->Contains({&key, 1})[0];
    });
  }

  MemoryDisk& disk_;
  TempDirectory directory_;
  const std::uint64_t capacity_;
  StoreOptions options_;
  std::shared_ptr<Store> store_;
  std::set<std::uint64_t> durable_;
};

// True if the power failed before the work was done.
bool CrashAt(std::uint64_t change, std::uint64_t seed, std::uint64_t pages) {
  CAPTURE(change, seed, pages);
  MemoryDisk disk(seed);
  CrashRun run(disk, pages);
  disk.FailPowerAfter(change);
  std::mt19937_64 random(seed);
  if (run.Open()) run.Work(random, 60);
  const bool crashed = !disk.has_power();
  run.Close();
  disk.RestorePower();
  REQUIRE(run.Open());
  run.CheckSurvivors();
  // What it then writes is as safe as before: a second crash, at a random change.
  disk.FailPowerAfter(1 + random() % 40);
  run.Work(random, 30);
  run.Close();
  disk.RestorePower();
  REQUIRE(run.Open());
  run.CheckSurvivors();
  return crashed;
}

TEST_CASE("power loss at every change of the disk, with room for all pages") {
  for (std::uint64_t seed = 1; seed <= kSeeds; ++seed) {
    std::uint64_t change = 1;
    while (CrashAt(change, seed, 2 * kKeys)) ++change;
    CHECK(change > kChangesMin);
  }
}

TEST_CASE("power loss at every change of the disk, evicting all the time") {
  for (std::uint64_t seed = 1; seed <= kSeeds; ++seed) {
    std::uint64_t change = 1;
    while (CrashAt(change, seed, kKeys / 3)) ++change;
    CHECK(change > kChangesMin);
  }
}

TEST_CASE("power loss while the journal is compacted") {
  MemoryDisk disk(5);
  CrashRun run(disk, kKeys / 3);
  REQUIRE(run.Open());
  std::mt19937_64 random(5);
  for (int round = 0; round < 60; ++round) {
    disk.FailPowerAfter(50 + random() % 200);
    run.Work(random, 200);
    run.Close();
    disk.RestorePower();
    REQUIRE(run.Open());
    run.CheckSurvivors();
  }
}

}  // namespace
}  // namespace kvtier
