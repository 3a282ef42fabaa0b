// What the fuzzer has found stays a test for compilers that have none.

#include <catch2/catch.hpp>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <random>
#include <vector>

#include "fuzz_directory.h"

namespace kvtier {
namespace {

TEST_CASE("directories of the fuzzer's corpus") {
  int inputs = 0;
  for (const auto& entry : std::filesystem::directory_iterator(KVTIER_CORPUS "/directory")) {
    std::ifstream file(entry.path(), std::ios::binary);
    const std::vector<char> bytes{std::istreambuf_iterator<char>(file), {}};
    INFO(entry.path());
    testing::FuzzDirectory({reinterpret_cast<const std::uint8_t*>(bytes.data()), bytes.size()});
    ++inputs;
  }
  CHECK(inputs > 0);
}

TEST_CASE("directories damaged at random") {
  for (std::uint64_t seed = 1; seed <= 300; ++seed) {
    std::mt19937_64 random(seed);
    std::vector<std::uint8_t> bytes(random() % 120);
    for (auto& byte : bytes) byte = static_cast<std::uint8_t>(random());
    INFO("seed " << seed);
    testing::FuzzDirectory(bytes);
  }
}

}  // namespace
}  // namespace kvtier
