#pragma once

#include <atomic>
#include <memory>
#include <string>
#include <utility>

#include "faulty_device.h"
#include "posix_device.h"
#include "store_harness.h"

namespace kvtier::testing {

// A store of two real directories, with faults to switch on in the first.
struct TwoDirectories {
  TwoDirectories() {
    options.probe_interval_s = 0.005;
    options.reserve_bytes = 0;
    options.open_device = [this](const std::string& path) {
      auto device = OpenPosixDevice(path);
      if (path == first.path()) ++first_opened;
      return path == first.path() ? MakeFaulty(std::move(device), faults) : std::move(device);
    };
  }
  ~TwoDirectories() { faults->Release(); }
  TwoDirectories(const TwoDirectories&) = delete;
  TwoDirectories& operator=(const TwoDirectories&) = delete;

  void Open(std::uint64_t pages) {
    store = Store::Open({{first.path(), CapacityFor(pages)}, {second.path(), CapacityFor(pages)}},
                        TestPages(), options);
  }

  bool Has(std::uint64_t i) const {
    const Key key = MakeKey(i);
    return store->Contains({&key, 1})[0];
  }

  DirectoryStats First() const { return store->Stats().directories[0]; }
  DirectoryStats Second() const { return store->Stats().directories[1]; }

  TempDirectory first, second;
  std::atomic<int> first_opened{0};  // times
  std::shared_ptr<Faults> faults = std::make_shared<Faults>();
  StoreOptions options;
  std::shared_ptr<Store> store;
};

}  // namespace kvtier::testing
