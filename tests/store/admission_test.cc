#include "admission.h"

#include <catch2/catch.hpp>

#include "test_pages.h"

namespace kvtier {
namespace {

using testing::MakeKey;

TEST_CASE("everything is admitted unless there is a rule") {
  Admission admission({}, 100);
  CHECK(admission.Admits(MakeKey(1), 0));
  CHECK(admission.Admits(MakeKey(1), 1));
}

TEST_CASE("a page is admitted when it has been offered often enough") {
  Admission admission({.sightings_min = 3}, 100);
  CHECK_FALSE(admission.Admits(MakeKey(1), 0));
  CHECK_FALSE(admission.Admits(MakeKey(1), 0));
  CHECK_FALSE(admission.Admits(MakeKey(2), 0));
  CHECK(admission.Admits(MakeKey(1), 0));
  CHECK(admission.Admits(MakeKey(1), 0));
}

TEST_CASE("long chains are admitted at once") {
  Admission admission({.sightings_min = 2, .chain_pages_min = 8}, 100);
  CHECK(admission.Admits(MakeKey(1), 8));
  CHECK_FALSE(admission.Admits(MakeKey(2), 7));
  CHECK_FALSE(admission.Admits(MakeKey(3), 0));
}

TEST_CASE("counts stop at their limit") {
  Admission admission({.sightings_min = Admission::kSightingsMax}, 100);
  for (int i = 1; i < 15; ++i) CHECK_FALSE(admission.Admits(MakeKey(1), 0));
  for (int i = 0; i < 20; ++i) CHECK(admission.Admits(MakeKey(1), 0));
}

TEST_CASE("the table remembers about as many keys as it was made for, and takes few for another") {
  constexpr std::uint64_t kPages = 10'000;
  Admission admission({.sightings_min = 2}, kPages);
  std::uint64_t taken_for_another = 0, remembered = 0;
  for (std::uint64_t i = 1; i <= kPages; ++i) taken_for_another += admission.Admits(MakeKey(i), 0);
  for (std::uint64_t i = 1; i <= kPages; ++i) remembered += admission.Admits(MakeKey(i), 0);
  CHECK(taken_for_another < kPages / 500);
  CHECK(remembered > kPages * 9 / 10);
}

TEST_CASE("a table for one page works") {
  Admission admission({.sightings_min = 2}, 1);
  for (std::uint64_t i = 1; i < 100; ++i) (void)admission.Admits(MakeKey(i), 0);
  CHECK_FALSE(admission.Admits(MakeKey(1000), 0));
  CHECK(admission.Admits(MakeKey(1000), 0));
}

}  // namespace
}  // namespace kvtier
