#include "store_harness.h"

#include <catch2/catch.hpp>
#include <stdexcept>
#include <thread>

#include "error.h"

namespace kvtier::testing {

constexpr auto kDeadline = std::chrono::seconds(60);

Status WaitOne(Store& store) {
  const auto ended = store.completions().Wait(kDeadline, 1);
  if (ended.empty()) throw std::runtime_error("no completion came");
  return ended.front().status;
}

Status PutPage(Store& store, std::uint64_t i, std::uint64_t parent) {
  std::vector<std::byte> page = MakePage(i);
  const Key parent_key = parent == 0 ? Key{} : MakeKey(parent);
  store.Submit({PutRequest{i, MakeKey(i), parent_key, {{page.data(), page.size()}}}});
  return WaitOne(store);
}

Status GetPage(Store& store, std::uint64_t i) {
  std::vector<std::byte> page(kTestPageBytes);
  store.Submit({GetRequest{i, MakeKey(i), {{page.data(), page.size()}}}});
  const Status status = WaitOne(store);
  if (status == Status::kOk) {
    const bool is_right = page == MakePage(i);
    REQUIRE(is_right);
  }
  return status;
}

bool FlushFails(Store& store) {
  try {
    store.Flush();
    return false;
  } catch (const StoreError&) {
    return true;
  }
}

bool CloseFails(Store& store) {
  try {
    store.Close();
    return false;
  } catch (const StoreError&) {
    return true;
  }
}

bool Eventually(const std::function<bool()>& holds) {
  const auto deadline = std::chrono::steady_clock::now() + kDeadline;
  while (!holds()) {
    if (std::chrono::steady_clock::now() > deadline) return false;
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  return true;
}

}  // namespace kvtier::testing
