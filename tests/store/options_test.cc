#include "options.h"

#include <catch2/catch.hpp>

namespace kvtier {
namespace {

constexpr std::uint64_t kMiB = std::uint64_t{1} << 20;

TEST_CASE("reads at once are 4 MiB of pages, within bounds, unless told") {
  StoreOptions options;
  CHECK(options.ReadDepthFor(1) == 16);
  CHECK(options.ReadDepthFor(kMiB / 2) == 8);
  CHECK(options.ReadDepthFor(kMiB) == 4);
  CHECK(options.ReadDepthFor(64 * kMiB) == 4);
  options.read_depth = 2;
  CHECK(options.ReadDepthFor(kMiB / 2) == 2);
}

TEST_CASE("the engine in use is one of the two") {
  StoreOptions options;
  CHECK(options.EngineInUse() != IoEngine::kAuto);
  options.io_engine = IoEngine::kThreads;
  CHECK(options.EngineInUse() == IoEngine::kThreads);
}

}  // namespace
}  // namespace kvtier
