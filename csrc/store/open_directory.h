#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "options.h"
#include "superblock.h"
#include "volume.h"

namespace kvtier {

// A directory ready for work, and what its journal says that it holds.
struct OpenedDirectory {
  std::unique_ptr<Volume> volume;
  RecoveredPages pages;
};

// Throws StoreError when no store of such pages can be there at all.
void ValidateDirectory(const DirectorySpec& spec, const PageGeometry& pages);

// The file system that a path is on, or will be.
using DiskId = std::uint64_t;
// Throws as OpenDirectory does.
DiskId DiskAt(const std::string& path);

struct OnDisk {
  DiskId disk;
};

// Opens or creates one directory of a store, on just this disk; or opens just the one of this uuid.
// Throws DiskFailed when its disk is at fault, else StoreError: somebody has to choose or mend
// something.
OpenedDirectory OpenDirectory(const DirectorySpec& spec, const PageGeometry& pages,
                              const StoreOptions& options, const OnDisk& where);
OpenedDirectory OpenDirectory(const DirectorySpec& spec, const PageGeometry& pages,
                              const StoreOptions& options, const Uuid& expected);

}  // namespace kvtier
