#pragma once

#include <cstdint>
#include <memory>
#include <optional>
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

// Opens or creates one directory of a store; with `expected`, opens just that one. Throws
// DiskFailed when its disk is at fault, else StoreError: somebody has to choose or mend something.
OpenedDirectory OpenDirectory(const DirectorySpec& spec, const PageGeometry& pages,
                              const StoreOptions& options,
                              const std::optional<Uuid>& expected = std::nullopt);

}  // namespace kvtier
