#pragma once

#include <string>

#include "device.h"
#include "format.h"

namespace kvtier {

// What the caller of Store::Open says its pages are.
struct PageGeometry {
  std::uint64_t page_bytes = 0;
  Namespace name_space;
};

// Throws StoreError for a directory that is no store and holds what others wrote.
void RefuseForeign(Device& device, const std::string& path);

// Reads the superblock of the directory at `path`, or writes a first one into an empty directory.
// Throws StoreError when the directory is foreign, damaged, of another version or for other
// pages: nothing in it is touched then, and the sentence names the command that clears it.
Superblock OpenSuperblock(Device& device, const std::string& path, const PageGeometry& pages,
                          std::uint64_t capacity_bytes);

}  // namespace kvtier
