// What the fuzzer has found stays a test for compilers that have none.

#include <catch2/catch.hpp>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <random>
#include <vector>

#include "fuzz_directory.h"
#include "fuzz_operations.h"

namespace kvtier {
namespace {

using Target = void (*)(std::span<const std::uint8_t>);

void Replay(const char* corpus, Target target) {
  int inputs = 0;
  for (const auto& entry : std::filesystem::directory_iterator(corpus)) {
    std::ifstream file(entry.path(), std::ios::binary);
    const std::vector<char> bytes{std::istreambuf_iterator<char>(file), {}};
    INFO(entry.path());
    target({reinterpret_cast<const std::uint8_t*>(bytes.data()), bytes.size()});
    ++inputs;
  }
  CHECK(inputs > 0);
}

void RunAtRandom(std::uint64_t runs, std::size_t bytes_max, Target target) {
  for (std::uint64_t seed = 1; seed <= runs; ++seed) {
    std::mt19937_64 random(seed);
    std::vector<std::uint8_t> bytes(random() % bytes_max);
    for (auto& byte : bytes) byte = static_cast<std::uint8_t>(random());
    INFO("seed " << seed);
    target(bytes);
  }
}

TEST_CASE("directories of the fuzzer's corpus") {
  Replay(KVTIER_CORPUS "/directory", testing::FuzzDirectory);
}

TEST_CASE("operations of the fuzzer's corpus") {
  Replay(KVTIER_CORPUS "/operations", testing::FuzzOperations);
}

TEST_CASE("directories damaged at random") { RunAtRandom(300, 120, testing::FuzzDirectory); }

TEST_CASE("operations at random") { RunAtRandom(80, 900, testing::FuzzOperations); }

}  // namespace
}  // namespace kvtier
