// A store that is opened with another capacity than before.

#include <sys/stat.h>

#include <catch2/catch.hpp>
#include <filesystem>
#include <set>

#include "memory_disk.h"
#include "posix_device.h"
#include "store_harness.h"

namespace kvtier {
namespace {

using testing::CapacityFor;
using testing::GetPage;
using testing::MakeKey;
using testing::MemoryDisk;
using testing::PutPage;
using testing::TempDirectory;

struct Resized {
  void Open(std::uint64_t pages) {
    store.reset();
    store = Store::Open({{directory.path(), CapacityFor(pages)}}, testing::TestPages(), options);
  }
  void Put(std::uint64_t first, std::uint64_t last) {
    for (std::uint64_t i = first; i <= last; ++i) REQUIRE(PutPage(*store, i) == Status::kOk);
  }
  std::set<std::uint64_t> There(std::uint64_t most) {
    std::set<std::uint64_t> there;
    for (std::uint64_t i = 1; i <= most; ++i) {
      const Key key = MakeKey(i);
      if (!store->Contains({&key, 1})[0]) continue;
      CHECK(GetPage(*store, i) == Status::kOk);
      there.insert(i);
    }
    return there;
  }
  std::uint64_t BytesOnDisk() const {
    std::uint64_t bytes = 0;
    for (const auto& entry : std::filesystem::directory_iterator(directory.path())) {
      struct stat status{};
      REQUIRE(::stat(entry.path().c_str(), &status) == 0);
      bytes += static_cast<std::uint64_t>(status.st_blocks) * 512;
    }
    return bytes;
  }

  TempDirectory directory;
  StoreOptions options = [] {
    StoreOptions with;
    with.reserve_bytes = 0;
    return with;
  }();
  std::shared_ptr<Store> store;
};

TEST_CASE("a smaller capacity keeps the pages used last, wherever they lie") {
  Resized test;
  test.Open(40);
  test.Put(1, 40);
  // The first written, and one in the middle, are used last.
  const std::vector<Key> used{MakeKey(25), MakeKey(3), MakeKey(2), MakeKey(1)};
  test.store->Touch(used);
  test.Open(8);
  CHECK(test.There(40) == std::set<std::uint64_t>{1, 2, 3, 25, 37, 38, 39, 40});
  CHECK(test.store->Stats().capacity_pages == 8);
  CHECK(test.store->Stats().used_bytes <= CapacityFor(8));
  CHECK(test.BytesOnDisk() <= CapacityFor(8));
  CHECK(test.store->Stats().corrupt.empty());
  test.store->CheckIntegrity();

  // It works on, evicts, and is the same after another opening.
  test.Put(41, 44);
  CHECK(test.store->Stats().evicted == 4);
  const auto there = test.There(44);
  CHECK(there.size() == 8);
  test.store->Flush();
  test.Open(8);
  CHECK(test.There(44) == there);
  CHECK(test.BytesOnDisk() <= CapacityFor(8));
  test.store->CheckIntegrity();
}

TEST_CASE("a capacity that was smaller for a while grows again, and holes get their blocks back") {
  Resized test;
  test.Open(40);
  test.Put(1, 40);
  const Key first = MakeKey(1);
  test.store->Touch({&first, 1});
  test.Open(8);
  test.Open(30);
  CHECK(test.There(40) == std::set<std::uint64_t>{1, 34, 35, 36, 37, 38, 39, 40});
  CHECK(test.store->Stats().used_bytes < CapacityFor(10));
  test.Put(101, 122);
  CHECK(test.store->Stats().pages == 30);
  CHECK(test.store->Stats().evicted == 0);
  CHECK(test.BytesOnDisk() <= CapacityFor(30));
  // Every page has blocks of its own: none is written into a hole.
  CHECK(test.BytesOnDisk() >= 30 * SlotBytes(testing::kTestPageBytes));
  test.Put(123, 130);
  CHECK(test.store->Stats().evicted == 8);
  test.store->CheckIntegrity();
  test.Open(60);
  CHECK(test.There(130).size() == 30);
  test.Put(201, 230);
  CHECK(test.store->Stats().pages == 60);
  test.store->CheckIntegrity();
}

TEST_CASE("the reserve is kept also by a store that has holes") {
  Resized test;
  test.Open(40);
  test.Put(1, 40);
  const Key first = MakeKey(1);
  test.store->Touch({&first, 1});
  test.Open(8);
  test.options.reserve_bytes = std::uint64_t{1} << 60;
  test.Open(30);
  test.Put(101, 110);
  CHECK(test.store->Stats().pages == 8);
  CHECK(test.BytesOnDisk() <= CapacityFor(10));
}

TEST_CASE("power that fails while a store becomes smaller costs no page that it keeps") {
  const auto opened = [](MemoryDisk& disk, const std::string& path, std::uint64_t pages) {
    StoreOptions options;
    options.reserve_bytes = 0;
    options.open_device = [&](const std::string&) { return disk.Open(); };
    return Store::Open({{path, CapacityFor(pages)}}, testing::TestPages(), options);
  };
  TempDirectory directory;
  MemoryDisk before(1);
  {
    const auto store = opened(before, directory.path(), 20);
    for (std::uint64_t i = 1; i <= 20; ++i) REQUIRE(PutPage(*store, i) == Status::kOk);
    const std::vector<Key> used{MakeKey(2), MakeKey(1)};
    store->Touch(used);
  }
  int failures = 0;
  for (std::uint64_t change = 0;; ++change) {
    MemoryDisk disk(change + 7);
    disk.Load(before.image());
    disk.FailPowerAfter(change);
    bool failed = false;
    try {
      opened(disk, directory.path(), 6);
    } catch (const std::exception&) {
      failed = true;
    }
    if (!failed && disk.has_power()) break;
    ++failures;
    disk.RestorePower();
    const auto store = opened(disk, directory.path(), 6);
    for (const std::uint64_t i : {1, 2, 17, 18, 19, 20}) CHECK(GetPage(*store, i) == Status::kOk);
    CHECK(store->Stats().pages == 6);
    CHECK(store->Stats().corrupt.empty());
    store->CheckIntegrity();
  }
  CHECK(failures > 5);
}

}  // namespace
}  // namespace kvtier
