#include "journal.h"

#include <catch2/catch.hpp>
#include <vector>

#include "memory_disk.h"
#include "store_harness.h"

namespace kvtier {
namespace {

using testing::MakeKey;
using testing::MemoryDisk;

constexpr std::uint64_t kRecordsMax = 100;
constexpr Uuid kUuid{1, 2, 3};

JournalRecord Record(std::uint64_t i) {
  JournalRecord record{};
  record.kind = RecordKind::kPut;
  record.slot = i;
  record.sequence = i + 1;
  record.key = MakeKey(i);
  return record;
}

std::vector<JournalRecord> Records(std::uint64_t from, std::uint64_t to) {
  std::vector<JournalRecord> records;
  for (std::uint64_t i = from; i < to; ++i) records.push_back(Record(i));
  return records;
}

std::vector<std::uint64_t> SlotsOf(Journal& journal) {
  std::vector<std::uint64_t> slots;
  REQUIRE(journal.Recover([&](const JournalRecord& r) { slots.push_back(r.slot); }).ok());
  return slots;
}

// A journal of records 0 to 9, and the device it lies on.
struct Written {
  Written() : device(disk.Open()), journal(*device, kUuid, kRecordsMax) {
    auto first = Records(0, 6), second = Records(6, 10);
    REQUIRE(journal.Rewrite(first).ok());
    REQUIRE(journal.Append(second).ok());
    REQUIRE(device->Open(kJournalName, Access::kBuffered, false, file).ok());
  }

  void Flip(std::uint64_t offset) {
    std::byte byte;
    REQUIRE(ReadAll(*file, {&byte, 1}, offset).ok());
    byte ^= std::byte{4};
    REQUIRE(WriteAll(*file, {&byte, 1}, offset).ok());
  }

  MemoryDisk disk{1};
  std::unique_ptr<Device> device;
  Journal journal;
  std::unique_ptr<File> file;
};

TEST_CASE("a journal gives back its records in order") {
  Written written;
  Journal reader(*written.device, kUuid, kRecordsMax);
  CHECK(SlotsOf(reader) == std::vector<std::uint64_t>{0, 1, 2, 3, 4, 5, 6, 7, 8, 9});
  CHECK_FALSE(reader.NeedsRewrite());
}

TEST_CASE("a bit flipped in a record loses that record") {
  Written written;
  written.Flip(sizeof(JournalHeader) + 4 * sizeof(JournalRecord) + 20);
  Journal reader(*written.device, kUuid, kRecordsMax);
  CHECK(SlotsOf(reader) == std::vector<std::uint64_t>{0, 1, 2, 3, 5, 6, 7, 8, 9});
  CHECK(reader.damaged_records() == 1);
  CHECK(reader.NeedsRewrite());
}

TEST_CASE("a bit flipped in the header loses the journal") {
  Written written;
  written.Flip(30);
  Journal reader(*written.device, kUuid, kRecordsMax);
  CHECK(SlotsOf(reader).empty());
  CHECK(reader.NeedsRewrite());
}

TEST_CASE("a truncated journal keeps the records before the cut") {
  Written written;
  REQUIRE(written.file->Truncate(sizeof(JournalHeader) + 3 * sizeof(JournalRecord) + 11).ok());
  Journal reader(*written.device, kUuid, kRecordsMax);
  CHECK(SlotsOf(reader) == std::vector<std::uint64_t>{0, 1, 2});
}

TEST_CASE("a journal shorter than its header is empty") {
  Written written;
  REQUIRE(written.file->Truncate(13).ok());
  Journal reader(*written.device, kUuid, kRecordsMax);
  CHECK(SlotsOf(reader).empty());
}

TEST_CASE("another store's journal is empty") {
  Written written;
  Journal reader(*written.device, Uuid{9}, kRecordsMax);
  CHECK(SlotsOf(reader).empty());
}

TEST_CASE("records of an older generation do not come back") {
  Written written;
  std::vector<std::byte> old(10 * sizeof(JournalRecord));
  REQUIRE(ReadAll(*written.file, old, sizeof(JournalHeader)).ok());
  auto fresh = Records(50, 52);
  REQUIRE(written.journal.Rewrite(fresh).ok());
  REQUIRE(written.device->Open(kJournalName, Access::kBuffered, false, written.file).ok());
  const auto tail = std::span(old).subspan(2 * sizeof(JournalRecord));
  REQUIRE(WriteAll(*written.file, tail, sizeof(JournalHeader) + 2 * sizeof(JournalRecord)).ok());
  Journal reader(*written.device, kUuid, kRecordsMax);
  CHECK(SlotsOf(reader) == std::vector<std::uint64_t>{50, 51});
}

TEST_CASE("a journal holds its most records and not one more") {
  MemoryDisk disk(1);
  const auto device = disk.Open();
  Journal journal(*device, kUuid, kRecordsMax);
  auto most = Records(0, kRecordsMax), one = Records(0, 1), many = Records(0, kRecordsMax + 1);
  REQUIRE(journal.Rewrite(most).ok());
  CHECK_FALSE(journal.HasRoomFor(1));
  CHECK_FALSE(journal.Append(one).ok());
  CHECK_FALSE(journal.Rewrite(many).ok());
}

}  // namespace
}  // namespace kvtier
