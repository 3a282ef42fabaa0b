#include "inspect.h"

#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <map>

#include "error.h"
#include "owner_lock.h"
#include "posix_device.h"
#include "replay.h"
#include "segments.h"
#include "volume.h"

namespace kvtier {
namespace {

class Inspection {
 public:
  explicit Inspection(const std::string& path) : path_(path), device_(OpenReadOnlyDevice(path)) {}

  DirectoryInfo Run() {
    info_.holder = OwnerLock::HolderOf(path_);
    LookAtSuperblock();
    LookAtNames();
    if (!info_.is_store) return std::move(info_);
    LookAtSegments();
    LookAtJournal();
    return std::move(info_);
  }

 private:
  void Report(const std::string& problem) { info_.problems.push_back(problem); }
  void ReportFile(const std::string& name, const std::string& what) {
    std::string problem("`");
    info_.problems.push_back(problem.append(name).append("` ").append(what));
  }

  static bool IsTransient(const std::string& name) { return name.ends_with(kNewSuffix); }

  void LookAtNames() {
    std::vector<std::string> names;
    if (const IoStatus status = device_->List(names); !status.ok()) {
      throw StoreError("cannot list " + path_ + ": " + status.Text());
    }
    std::ranges::sort(names);
    for (const std::string& name : names) {
      std::uint64_t segment;
      const bool is_segment = ParseSegmentName(name, segment);
      const std::string plain =
          IsTransient(name) ? name.substr(0, name.size() - sizeof kNewSuffix + 1) : name;
      if (!is_segment && plain != kSuperblockName && plain != kJournalName && name != kLockName) {
        if (name != "lost+found") ReportFile(name, "is none of the store's files");
        continue;
      }
      LookAtFile(name, is_segment ? &segment : nullptr);
    }
  }

  void LookAtFile(const std::string& name, const std::uint64_t* segment) {
    struct stat status{};
    if (::lstat((path_ + "/" + name).c_str(), &status) != 0) return;  // gone meanwhile
    if (!S_ISREG(status.st_mode)) {
      ReportFile(name, "is not a regular file");
      return;
    }
    if ((status.st_mode & 077) != 0) ReportFile(name, "can be read or written by others");
    constexpr std::uint64_t kStatBlockBytes = 512;
    info_.allocated_bytes += static_cast<std::uint64_t>(status.st_blocks) * kStatBlockBytes;
    const auto bytes = static_cast<std::uint64_t>(status.st_size);
    if (segment != nullptr) segment_bytes_[*segment] = bytes;
    if (name == kJournalName) journal_bytes_ = bytes;
  }

  void LookAtSuperblock() {
    std::unique_ptr<File> file;
    IoStatus status = device_->Open(kSuperblockName, Access::kBuffered, false, file);
    Superblock superblock{};
    if (status.ok()) {
      status = ReadAll(*file, std::as_writable_bytes(std::span(&superblock, 1)), 0);
    }
    if (!status.ok()) return Report("no superblock can be read: " + status.Text());
    switch (Check(superblock)) {
      case Wholeness::kForeign:
        return Report("`superblock` is not one of kvtier");
      case Wholeness::kOtherVersion:
        info_.version = superblock.version;
        return Report("the format is version " + std::to_string(superblock.version) +
                      ", this kvtier reads version " + std::to_string(kFormatVersion));
      case Wholeness::kDamaged:
        return Report("the superblock is damaged");
      case Wholeness::kWhole:
        break;
    }
    info_.is_store = true;
    info_.version = superblock.version;
    info_.uuid = superblock.uuid;
    info_.name_space = superblock.name_space;
    info_.page_bytes = superblock.page_bytes;
    info_.created_unix_s = superblock.created_unix_s;
    slot_bytes_ = superblock.slot_bytes;
    slots_per_segment_ = superblock.slots_per_segment;
  }

  void LookAtSegments() {
    std::uint64_t next = 0;
    for (const auto& [segment, bytes] : segment_bytes_) {
      for (; next < segment; ++next) ReportFile(SegmentName(next), "is missing");
      const bool is_last = segment == segment_bytes_.rbegin()->first;
      if (bytes % slot_bytes_ != 0 || (!is_last && bytes < slots_per_segment_ * slot_bytes_)) {
        ReportFile(SegmentName(segment), "is cut off at " + std::to_string(bytes) + " bytes");
      }
      info_.slots =
          segment * slots_per_segment_ + std::min(bytes / slot_bytes_, slots_per_segment_);
      next = segment + 1;
    }
  }

  void LookAtJournal() {
    const std::uint64_t records =
        journal_bytes_ > sizeof(JournalHeader)
            ? (journal_bytes_ - sizeof(JournalHeader)) / sizeof(JournalRecord)
            : 0;
    info_.fitting_capacity_bytes =
        CapacityFor(std::max(info_.slots, SlotsOfJournal(records)), slot_bytes_);
    Journal journal(*device_, info_.uuid, records);
    Replay replay;
    const IoStatus status = ReplayJournal(journal, info_.slots, replay);
    if (!status.ok()) return Report("the journal cannot be read: " + status.Text());
    if (!journal.HasHeader()) return Report("the journal is missing or damaged: no page is known");
    info_.journal_records = journal.records();
    info_.damaged_records = journal.damaged_records();
    info_.journal_generation = journal.generation();
    if (info_.damaged_records > 0) {
      Report(std::to_string(info_.damaged_records) + " records of the journal are damaged");
    }
    info_.timeline = std::move(replay.timeline);
    const std::uint64_t now = UnixNow();
    for (const JournalRecord& put : replay.puts) {
      info_.pages.push_back({put.key, put.parent, put.slot, put.sequence,
                             info_.timeline.WrittenBy(put.sequence, now)});
    }
  }

  const std::string path_;
  const std::unique_ptr<Device> device_;
  DirectoryInfo info_;
  std::map<std::uint64_t, std::uint64_t> segment_bytes_;
  std::uint64_t journal_bytes_ = 0;
  std::uint64_t slot_bytes_ = 0;
  std::uint64_t slots_per_segment_ = 0;
};

}  // namespace

DirectoryInfo InspectDirectory(const std::string& path) { return Inspection(path).Run(); }

}  // namespace kvtier
