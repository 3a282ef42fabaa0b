#include "open_directory.h"

#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <utility>

#include "error.h"
#include "format.h"
#include "posix_device.h"

namespace kvtier {

void ValidateDirectory(const DirectorySpec& spec, const PageGeometry& pages) {
  if (spec.path.empty()) throw StoreError("a store's directory has no path");
  const std::uint64_t slot_bytes = SlotBytes(pages.page_bytes);
  if (SlotsFor(spec.capacity_bytes, slot_bytes) > 0) return;
  throw StoreError("a capacity of " + std::to_string(spec.capacity_bytes) + " bytes for " +
                   spec.path + " holds no page: it takes " +
                   std::to_string(CapacityFor(1, slot_bytes)) + " bytes at least");
}

DiskId DiskAt(const std::string& path) {
  std::filesystem::path at(path);
  struct stat found{};
  while (::stat(at.c_str(), &found) != 0) {
    const bool is_missing = errno == ENOENT || errno == ENOTDIR;
    if (!is_missing || at == at.parent_path()) IoStatus(errno).Throw("look at " + path);
    at = at.parent_path();
  }
  return found.st_dev;
}

namespace {

[[noreturn]] void ThrowGone(const std::string& path) {
  throw DiskFailed("the directory that was at " + path + " is gone: mount its disk there again");
}

// A mount that is gone leaves an empty directory of the file system below it: nothing is to be
// written there.
void RequireSame(Device& device, const std::string& path, const Uuid& expected) {
  Superblock found{};
  std::unique_ptr<File> file;
  IoStatus status = device.Open(kSuperblockName, Access::kBuffered, false, file);
  if (status.ok()) status = ReadAll(*file, std::as_writable_bytes(std::span(&found, 1)), 0);
  if (status.error() == ENOENT || (status.ok() && found.uuid != expected)) ThrowGone(path);
  if (!status.ok()) status.Throw("read " + path + "/" + kSuperblockName);
}

std::unique_ptr<Device> OpenDevice(const std::string& path, const StoreOptions& options) {
  if (options.open_device) return options.open_device(path);
  return OpenPosixDevice(path, options.EngineInUse());
}

void KeepToOwner(const std::string& path) {
  constexpr mode_t kOwner = S_IRWXU, kOthers = S_IRWXG | S_IRWXO;
  struct stat found{};
  if (::lstat(path.c_str(), &found) != 0 || found.st_uid != ::geteuid()) return;
  if (S_ISLNK(found.st_mode) || (found.st_mode & kOthers) == 0) return;
  (void)::chmod(path.c_str(), found.st_mode & kOwner);  // `kvtier doctor` says what is left
}

bool IsOurs(const std::string& name) {
  std::uint64_t segment;
  return name == kLockName || name == kSuperblockName || name == kJournalName ||
         ParseSegmentName(name, segment);
}

// Pages hold what users wrote: also in a directory that was prepared or copied with modes as they
// come. What belongs to somebody else is left as it is.
void MakePrivate(const std::string& path) {
  KeepToOwner(path);
  std::error_code error;
  std::filesystem::directory_iterator entry(path, error);
  for (; !error && entry != std::filesystem::directory_iterator(); entry.increment(error)) {
    if (IsOurs(entry->path().filename().string())) KeepToOwner(entry->path().string());
  }
}

OpenedDirectory OpenOn(std::unique_ptr<Device> device, const DirectorySpec& spec,
                       const PageGeometry& pages, const StoreOptions& options) {
  RefuseForeign(*device, spec.path);  // before the lock leaves a file there
  auto lock = std::make_unique<OwnerLock>(spec.path);
  // The lock was taken by path: it has to be that of what was opened.
  if (device->CheckPresent().error() == IoStatus::kGone) ThrowGone(spec.path);
  OpenedDirectory opened;
  opened.volume =
      std::make_unique<Volume>(spec, pages, std::move(device), std::move(lock), options.unix_now);
  if (!options.open_device) MakePrivate(spec.path);
  opened.pages = opened.volume->Recover();
  return opened;
}

}  // namespace

OpenedDirectory OpenDirectory(const DirectorySpec& spec, const PageGeometry& pages,
                              const StoreOptions& options, const OnDisk& where) {
  if (DiskAt(spec.path) != where.disk) {
    throw DiskFailed("at " + spec.path +
                     " there is another file system than at first: mount its disk there again");
  }
  MakeDirectory(spec.path);
  return OpenOn(OpenDevice(spec.path, options), spec, pages, options);
}

OpenedDirectory OpenDirectory(const DirectorySpec& spec, const PageGeometry& pages,
                              const StoreOptions& options, const Uuid& expected) {
  auto device = OpenDevice(spec.path, options);
  RequireSame(*device, spec.path, expected);
  return OpenOn(std::move(device), spec, pages, options);
}

}  // namespace kvtier
