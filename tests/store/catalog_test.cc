#include "catalog.h"

#include <catch2/catch.hpp>
#include <map>
#include <random>

#include "memory_disk.h"
#include "replay.h"
#include "test_pages.h"

namespace kvtier {
namespace {

using testing::MakeKey;

JournalRecord PutRecord(std::uint64_t slot, std::uint64_t i) {
  JournalRecord record{};
  record.kind = RecordKind::kPut;
  record.slot = slot;
  record.sequence = i;
  record.key = MakeKey(i);
  return record;
}

void RestoreTwo(Catalog& catalog) {
  const std::vector<JournalRecord> records{PutRecord(0, 1), PutRecord(1, 2)};
  catalog.Restore(0, 2, records);
  catalog.FinishRestore(0);
  catalog.SetAvailable(0, true);
}

TEST_CASE("a read that ends after its directory was withdrawn does not touch what is there now") {
  Catalog catalog({2});
  RestoreTwo(catalog);
  const auto read = catalog.BeginRead(MakeKey(1));
  REQUIRE(read);
  catalog.SetAvailable(0, false);
  catalog.Withdraw(0);
  CHECK(catalog.Counts().pages == 0);
  CHECK_FALSE(catalog.BeginRead(MakeKey(1)));
  RestoreTwo(catalog);
  catalog.EndRead(*read, true);
  CHECK(catalog.Counts().pages == 2);
  catalog.CheckIntegrity();
  // Nobody reads either of them: both can go.
  CHECK(catalog.TakeVictim(0));
  CHECK(catalog.TakeVictim(0));
}

TEST_CASE("a page in sight stays when a directory that joins has it as well") {
  Catalog catalog({2, 2});
  RestoreTwo(catalog);
  const std::vector<JournalRecord> records{PutRecord(0, 2), PutRecord(1, 3)};
  catalog.Restore(1, 2, records);
  catalog.FinishRestore(1);
  catalog.SetAvailable(1, true);
  CHECK(catalog.PagesIn(0) == 2);
  CHECK(catalog.PagesIn(1) == 1);
  const auto read = catalog.BeginRead(MakeKey(2));
  REQUIRE(read);
  CHECK(read->directory == 0);
  catalog.EndRead(*read, false);
  CHECK(catalog.TakeFree(1));
  CHECK_FALSE(catalog.TakeFree(1));
}

// What a journal of these records comes to, by slot.
std::map<std::uint64_t, Key> Replayed(std::vector<JournalRecord> fresh,
                                      std::vector<JournalRecord> told_after) {
  testing::MemoryDisk disk{1};
  const auto device = disk.Open();
  Journal journal(*device, Uuid{1}, 1000);
  REQUIRE(journal.Rewrite(fresh).ok());
  REQUIRE(journal.Append(told_after).ok());
  Replay replay;
  REQUIRE(ReplayJournal(journal, 1000, replay).ok());
  std::map<std::uint64_t, Key> pages;
  for (const JournalRecord& put : replay.puts) pages[put.slot] = put.key;
  return pages;
}

// A page goes in, for another one if need be.
void PutOne(Catalog& catalog, std::uint64_t i) {
  auto slot = catalog.TakeFree(0);
  if (!slot) slot = catalog.TakeVictim(0);
  REQUIRE(slot);
  REQUIRE(catalog.BeginWrite(MakeKey(i)));
  catalog.FinishWrite({0, *slot, i}, MakeKey(i), Key{});
}

TEST_CASE("a snapshot taken while pages come and go is right with what is told after it") {
  for (unsigned seed = 0; seed < 200; ++seed) {
    std::mt19937 random(seed);
    Catalog catalog({40});
    catalog.SetAllocated(0, 30);
    catalog.SetAvailable(0, true);
    std::uint64_t next = 1;
    while (next <= 25) PutOne(catalog, next++);
    auto snapshot = catalog.BeginSnapshot(0);
    CHECK(snapshot.pending.size() == 25);
    bool more = true;
    while (more) {
      more = catalog.ContinueSnapshot(snapshot, 1 + random() % 8);
      for (unsigned changes = random() % 4; changes > 0; --changes) {
        const Key key = MakeKey(1 + random() % next);
        if (random() % 2 == 0) {
          PutOne(catalog, next++);
        } else if (random() % 2 == 0) {
          catalog.Evict({&key, 1});
        } else {
          catalog.Touch({&key, 1});
        }
      }
      if (random() % 8 == 0) catalog.SetAllocated(0, 40);
    }
    const auto pages = Replayed(snapshot.pages, catalog.TakePending(0));
    CHECK(pages.size() == catalog.Counts().pages);
    for (const auto& [slot, key] : pages) {
      const auto read = catalog.BeginRead(key);
      REQUIRE(read);
      CHECK(read->slot == slot);
      catalog.EndRead(*read, false);
    }
    catalog.CheckIntegrity();
  }
}

}  // namespace
}  // namespace kvtier
