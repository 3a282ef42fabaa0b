#include "store_harness.h"

#include <catch2/catch.hpp>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <random>
#include <stdexcept>
#include <thread>

namespace kvtier::testing {

constexpr auto kDeadline = std::chrono::seconds(60);

TempDirectory::TempDirectory() {
  std::string name = (std::filesystem::temp_directory_path() / "kvtier-test-XXXXXX").string();
  if (::mkdtemp(name.data()) == nullptr) throw std::runtime_error("mkdtemp failed");
  path_ = name;
}

TempDirectory::~TempDirectory() { std::filesystem::remove_all(path_); }

Key MakeKey(std::uint64_t i) {
  Key key;
  const std::uint64_t words[] = {i * 0x9E3779B97F4A7C15ull, i + 1};
  std::memcpy(key.bytes.data(), words, sizeof words);
  return key;
}

std::vector<std::byte> MakePage(std::uint64_t i) {
  std::mt19937_64 random(i);
  std::vector<std::byte> page(kTestPageBytes);
  for (std::size_t at = 0; at < page.size(); at += sizeof(std::uint64_t)) {
    const std::uint64_t word = random();
    std::memcpy(page.data() + at, &word, sizeof word);
  }
  return page;
}

std::uint64_t CapacityFor(std::uint64_t pages) {
  std::uint64_t capacity = 0;
  while (SlotsFor(capacity, SlotBytes(kTestPageBytes)) < pages) capacity += 256;
  return capacity;
}

PageGeometry TestPages() {
  PageGeometry pages{.page_bytes = kTestPageBytes, .name_space = {}};
  pages.name_space.bytes[0] = 'n';
  pages.name_space.size = 1;
  return pages;
}

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

bool Eventually(const std::function<bool()>& holds) {
  const auto deadline = std::chrono::steady_clock::now() + kDeadline;
  while (!holds()) {
    if (std::chrono::steady_clock::now() > deadline) return false;
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  return true;
}

}  // namespace kvtier::testing
