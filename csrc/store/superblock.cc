#include "superblock.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <ctime>
#include <random>

#include "error.h"
#include "segments.h"

namespace kvtier {
namespace {

constexpr std::uint64_t kSegmentBytesMin = std::uint64_t{64} << 20;
constexpr std::uint64_t kSegmentsAtCreation = 64;  // keeps descriptors few on large disks

std::string Sentence(const std::string& path, const std::string& why) {
  return path + " " + why + "; to empty it: kvtier store clear " + path;
}

[[noreturn]] void Refuse(const std::string& path, const std::string& why) {
  throw StoreError(Sentence(path, why));
}

Uuid RandomUuid() {
  std::random_device source;
  Uuid uuid;
  for (std::size_t i = 0; i < uuid.size(); i += sizeof(std::uint32_t)) {
    const std::uint32_t word = source();
    std::memcpy(uuid.data() + i, &word, sizeof word);
  }
  return uuid;
}

void Require(const IoStatus& status, const std::string& what) {
  if (!status.ok()) status.Throw(what);
}

// A directory may be taken if nothing in it was written by anyone but an earlier, interrupted
// creation of ours, or by the file system itself.
bool MayBeTaken(const std::string& name) {
  return name == kLockName || name == std::string(kSuperblockName) + kNewSuffix ||
         name == "lost+found";
}

// As `kvtier store clear` sees it: segments, and nothing that no store writes.
bool IsLostStore(const std::vector<std::string>& names) {
  std::uint64_t segment;
  const auto is_segment = [&](const std::string& name) { return ParseSegmentName(name, segment); };
  return std::ranges::any_of(names, is_segment) &&
         std::ranges::all_of(names, [&](const std::string& name) {
           return MayBeTaken(name) || name == kJournalName ||
                  name == std::string(kJournalName) + kNewSuffix || is_segment(name);
         });
}

Superblock Create(Device& device, const std::string& path, const PageGeometry& pages,
                  std::uint64_t capacity_bytes) {
  RefuseForeign(device, path);
  Superblock superblock{};
  superblock.uuid = RandomUuid();
  superblock.name_space = pages.name_space;
  superblock.page_bytes = pages.page_bytes;
  superblock.slot_bytes = SlotBytes(pages.page_bytes);
  const std::uint64_t segment_bytes =
      std::max(kSegmentBytesMin, capacity_bytes / kSegmentsAtCreation);
  superblock.slots_per_segment = std::max<std::uint64_t>(1, segment_bytes / superblock.slot_bytes);
  superblock.created_unix_s = static_cast<std::uint64_t>(std::time(nullptr));
  Seal(superblock);

  const std::string name = std::string(kSuperblockName) + kNewSuffix;
  std::vector<std::byte> blocks(kSuperblockFileBytes);
  std::memcpy(blocks.data(), &superblock, sizeof superblock);
  std::unique_ptr<File> file;
  Require(device.Open(name, Access::kBuffered, true, file), "create " + path + "/" + name);
  Require(WriteAll(*file, blocks, 0), "write " + path + "/" + name);
  Require(file->Sync(), "write " + path + "/" + name);
  Require(device.Rename(name, kSuperblockName), "name " + path + "/" + kSuperblockName);
  Require(device.SyncNames(), "write " + path);
  return superblock;
}

void Compare(const Superblock& found, const std::string& path, const PageGeometry& pages) {
  switch (Check(found)) {
    case Wholeness::kForeign:
    case Wholeness::kDamaged:
      throw DiskFailed(Sentence(path, "has a damaged superblock, or one of another program"));
    case Wholeness::kOtherVersion:
      Refuse(path, "has format version " + std::to_string(found.version) +
                       ", this kvtier reads version " + std::to_string(kFormatVersion));
    case Wholeness::kWhole:
      break;
  }
  if (found.page_bytes != pages.page_bytes) {
    Refuse(path, "holds pages of " + std::to_string(found.page_bytes) + " bytes, not " +
                     std::to_string(pages.page_bytes));
  }
  if (found.name_space != pages.name_space) {
    Refuse(path, "holds pages of another namespace (other weights, dtype or page layout)");
  }
}

}  // namespace

void RefuseForeign(Device& device, const std::string& path) {
  std::vector<std::string> names;
  Require(device.List(names), "list " + path);
  if (std::ranges::find(names, kSuperblockName) != names.end()) return;
  const auto foreign = std::ranges::find_if_not(names, MayBeTaken);
  if (foreign == names.end()) return;
  if (IsLostStore(names)) Refuse(path, "is a store without its superblock");
  throw StoreError(path + " is not a kvtier store and not empty (it holds `" + *foreign +
                   "`); choose another directory, or empty this one");
}

Superblock OpenSuperblock(Device& device, const std::string& path, const PageGeometry& pages,
                          std::uint64_t capacity_bytes) {
  std::unique_ptr<File> file;
  IoStatus status = device.Open(kSuperblockName, Access::kBuffered, false, file);
  if (status.error() == ENOENT) return Create(device, path, pages, capacity_bytes);
  Superblock superblock{};
  if (status.ok()) {
    status = ReadAll(*file, std::as_writable_bytes(std::span(&superblock, 1)), 0);
  }
  if (status.IsShort()) throw DiskFailed(Sentence(path, "has a truncated superblock"));
  Require(status, "read " + path + "/" + kSuperblockName);
  Compare(superblock, path, pages);
  return superblock;
}

}  // namespace kvtier
