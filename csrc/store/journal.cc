#include "journal.h"

#include <algorithm>
#include <cerrno>
#include <string>

namespace kvtier {
namespace {

// Also the length of damage after which the rest is given up.
constexpr std::uint64_t kStretchRecords = 64 * 1024;

std::uint64_t OffsetOf(std::uint64_t record) {
  return sizeof(JournalHeader) + record * sizeof(JournalRecord);
}

}  // namespace

Journal::Journal(Device& device, const Uuid& uuid, std::uint64_t records_max)
    : device_(device), uuid_(uuid), records_max_(records_max) {}

IoStatus Journal::ReadHeader() {
  IoStatus status = device_.Open(kJournalName, Access::kBuffered, false, file_);
  if (!status.ok()) return status;
  status = ReadAll(*file_, std::as_writable_bytes(std::span(&header_, 1)), 0);
  if (!status.ok()) return status;
  const bool is_ours = Check(header_) == Wholeness::kWhole && header_.uuid == uuid_;
  return IoStatus(is_ours ? 0 : ENOENT);
}

IoStatus Journal::Recover(const std::function<void(const JournalRecord&)>& visit) {
  const IoStatus status = ReadHeader();
  if (!status.ok()) {
    file_.reset();
    header_ = {};
    const bool is_missing = status.error() == ENOENT || status.IsShort();
    return is_missing ? IoStatus() : status;
  }
  const std::uint64_t size = file_->SizeBytes();
  const std::uint64_t held = (size - sizeof(JournalHeader)) / sizeof(JournalRecord);
  std::vector<JournalRecord> stretch(std::min(held, kStretchRecords));
  for (std::uint64_t first = 0; first < held; first += kStretchRecords) {
    const std::uint64_t count = std::min(kStretchRecords, held - first);
    const auto records = std::span(stretch).first(count);
    const IoStatus read = ReadAll(*file_, std::as_writable_bytes(records), OffsetOf(first));
    if (!read.ok()) return read;
    if (VisitStretch(records, first, visit) == 0) break;
  }
  needs_rewrite_ = damaged_records_ > 0 || size > OffsetOf(records_max_);
  return {};
}

std::uint64_t Journal::VisitStretch(std::span<const JournalRecord> stretch, std::uint64_t first,
                                    const std::function<void(const JournalRecord&)>& visit) {
  std::uint64_t whole = 0;
  for (std::uint64_t i = 0; i < stretch.size(); ++i) {
    if (!IsWhole(stretch[i], header_.checksum)) continue;
    ++whole;
    damaged_records_ += first + i - tail_;
    tail_ = first + i + 1;
    visit(stretch[i]);
  }
  return whole;
}

IoStatus Journal::WriteFresh(std::span<JournalRecord> records, const JournalHeader& header,
                             std::unique_ptr<File>& file) {
  const std::string name = std::string(kJournalName) + kNewSuffix;
  IoStatus status = device_.Open(name, Access::kBuffered, true, file);
  if (status.ok()) status = file->Truncate(0);
  if (status.ok()) status = file->Grow(OffsetOf(records_max_));
  if (status.ok()) status = WriteAll(*file, std::as_bytes(std::span(&header, 1)), 0);
  for (JournalRecord& record : records) Seal(record, header.checksum);
  if (status.ok()) status = WriteAll(*file, std::as_bytes(records), OffsetOf(0));
  if (status.ok()) status = file->Sync();
  if (status.ok()) status = device_.Rename(name, kJournalName);
  if (!status.ok()) (void)device_.Remove(name);
  return status;
}

IoStatus Journal::Rewrite(std::span<JournalRecord> records) {
  if (records.size() > records_max_) return IoStatus(EFBIG);
  JournalHeader header{};
  header.uuid = uuid_;
  header.generation = header_.generation + 1;
  Seal(header);
  std::unique_ptr<File> file;
  const IoStatus status = WriteFresh(records, header, file);
  if (!status.ok()) return status;
  file_ = std::move(file);
  header_ = header;
  tail_ = records.size();
  needs_rewrite_ = false;
  return device_.SyncNames();
}

IoStatus Journal::Append(std::span<JournalRecord> records) {
  if (!HasRoomFor(records.size())) return IoStatus(EFBIG);
  for (JournalRecord& record : records) Seal(record, header_.checksum);
  IoStatus status = WriteAll(*file_, std::as_bytes(records), OffsetOf(tail_));
  if (status.ok()) status = file_->Sync();
  if (status.ok()) tail_ += records.size();
  return status;
}

}  // namespace kvtier
