#include "catalog.h"

#include <catch2/catch.hpp>

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

}  // namespace
}  // namespace kvtier
