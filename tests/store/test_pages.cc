#include "test_pages.h"

#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <random>
#include <stdexcept>

#include "volume.h"

namespace kvtier::testing {

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
  return kvtier::CapacityFor(pages, SlotBytes(kTestPageBytes));
}

PageGeometry TestPages() {
  PageGeometry pages{.page_bytes = kTestPageBytes, .name_space = {}};
  pages.name_space.bytes[0] = 'n';
  pages.name_space.size = 1;
  return pages;
}

}  // namespace kvtier::testing
