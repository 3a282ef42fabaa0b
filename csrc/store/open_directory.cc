#include "open_directory.h"

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

namespace {

// A mount that is gone leaves an empty directory of the file system below it: nothing is to be
// written there.
void RequireSame(Device& device, const std::string& path, const Uuid& expected) {
  Superblock found{};
  std::unique_ptr<File> file;
  IoStatus status = device.Open(kSuperblockName, Access::kBuffered, false, file);
  if (status.ok()) status = ReadAll(*file, std::as_writable_bytes(std::span(&found, 1)), 0);
  if (status.ok() && found.uuid == expected) return;
  throw DiskFailed("the directory that was at " + path + " is gone: mount its disk there again");
}

}  // namespace

OpenedDirectory OpenDirectory(const DirectorySpec& spec, const PageGeometry& pages,
                              const StoreOptions& options, const std::optional<Uuid>& expected) {
  if (!expected) MakeDirectory(spec.path);
  auto device = options.open_device ? options.open_device(spec.path)
                                    : OpenPosixDevice(spec.path, options.EngineInUse());
  if (expected) RequireSame(*device, spec.path, *expected);
  auto lock = std::make_unique<OwnerLock>(spec.path);
  OpenedDirectory opened;
  opened.volume =
      std::make_unique<Volume>(spec, pages, std::move(device), std::move(lock), options.unix_now);
  opened.pages = opened.volume->Recover();
  return opened;
}

}  // namespace kvtier
