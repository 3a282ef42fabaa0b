#include "index.h"

#include <catch2/catch.hpp>
#include <map>
#include <random>

#include "store_harness.h"

namespace kvtier {
namespace {

using testing::MakeKey;

TEST_CASE("the victim is the least recently used leaf") {
  Index index({0, 10});
  index.Insert(0, MakeKey(1), Key{}, 1);
  index.Insert(1, MakeKey(2), MakeKey(1), 2);
  index.Insert(2, MakeKey(3), MakeKey(2), 3);
  index.Insert(3, MakeKey(9), Key{}, 4);
  CHECK(index.Victim(0) == 2);  // 0 and 1 are older, but have a child
  index.Touch(2);
  CHECK(index.Victim(0) == 3);
  index.Remove(2);
  CHECK(index.Victim(0) == 1);  // a leaf now, and older than 3
  index.CheckIntegrity();
}

TEST_CASE("with keep_reused a page that was read outlives some stores full of others") {
  Index index({0, 10}, MakeEvictionPolicy(Eviction::kKeepReused, 10));
  for (SlotId slot = 0; slot < 3; ++slot) index.Insert(slot, MakeKey(slot + 1), Key{}, slot + 1);
  index.MarkRead(0);
  index.Touch(1);
  for (int i = 0; i < 39; ++i) index.Touch(2);
  CHECK(index.Victim(0) == 1);
  index.Remove(1);
  CHECK(index.Victim(0) == 2);
  for (int i = 0; i < 3; ++i) index.Touch(2);
  CHECK(index.Victim(0) == 0);  // 4 x 10 uses later it is like any other
  index.Touch(0);
  CHECK(index.Victim(0) == 2);  // which a touch with its chain renews
  index.CheckIntegrity();
}

TEST_CASE("a parent that arrives after its children is not a leaf") {
  Index index({0, 10});
  index.Insert(0, MakeKey(2), MakeKey(1), 1);
  index.Insert(1, MakeKey(3), MakeKey(1), 2);
  index.Insert(2, MakeKey(1), Key{}, 3);
  CHECK(index.at(2).children == 2);
  index.Remove(0);
  index.Remove(1);
  CHECK(index.Victim(0) == 2);
  index.CheckIntegrity();
}

TEST_CASE("pages that are read or pinned are no victims") {
  Index index({0, 10});
  index.Insert(0, MakeKey(1), Key{}, 1);
  index.AddReader(0);
  REQUIRE(index.Pin(0));
  index.RemoveReader(0);
  CHECK_FALSE(index.Victim(0));
  index.Unpin(0);
  CHECK(index.Victim(0) == 0);
}

TEST_CASE("directories evict among their own") {
  Index index({0, 5, 10});
  index.Insert(7, MakeKey(1), Key{}, 1);
  CHECK_FALSE(index.Victim(0));
  CHECK(index.Victim(1) == 7);
}

TEST_CASE("an index agrees with a map over random changes") {
  constexpr SlotId kSlots = 64;
  std::mt19937_64 random(3);
  Index index({0, kSlots / 2, kSlots});
  std::map<std::uint64_t, SlotId> model;
  for (int round = 0; round < 20000; ++round) {
    const std::uint64_t i = 1 + random() % 100;
    const auto slot = static_cast<SlotId>(random() % kSlots);
    const auto known = model.find(i);
    if (known != model.end()) {
      if (random() % 3 == 0) {
        index.Touch(known->second);
      } else {
        index.Remove(known->second);
        model.erase(known);
      }
    } else if (!index.Holds(slot)) {
      const std::uint64_t parent = random() % 20;
      index.Insert(slot, MakeKey(i), parent == 0 ? Key{} : MakeKey(parent), 1 + round);
      model[i] = slot;
    }
    if (round % 100 == 0) index.CheckIntegrity();
    REQUIRE(index.size() == model.size());
  }
  for (std::uint64_t i = 1; i <= 100; ++i) {
    const auto known = model.find(i);
    const auto found = index.Find(MakeKey(i));
    REQUIRE(found.has_value() == (known != model.end()));
    if (found) CHECK(*found == known->second);
  }
}

}  // namespace
}  // namespace kvtier
