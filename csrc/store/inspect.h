#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "format.h"
#include "timeline.h"

namespace kvtier {

// A page by its journal; whether its slot still holds it only a read can tell.
struct PageInfo {
  Key key;
  Key parent;  // zero for a chain's head
  std::uint64_t slot = 0;
  std::uint64_t sequence = 0;
  std::uint64_t written_by_unix_s = 0;  // at the latest
};

// A store's directory as it looks from outside.
struct DirectoryInfo {
  // What is wrong, a sentence each; empty when nothing is.
  std::vector<std::string> problems;
  // Whether its superblock is that of a store of this version; what follows is unset otherwise.
  bool is_store = false;
  std::uint32_t version = 0;  // also of a store of another version
  std::string holder;         // the process that has it, in words; empty when none has
  Uuid uuid{};
  Namespace name_space;
  std::uint64_t page_bytes = 0;
  std::uint64_t created_unix_s = 0;
  std::uint64_t slots = 0;            // allocated
  std::uint64_t allocated_bytes = 0;  // blocks on disk, of everything the store has there
  std::uint64_t journal_records = 0;
  std::uint64_t damaged_records = 0;
  std::uint64_t journal_generation = 0;
  Timeline timeline;
  std::vector<PageInfo> pages;  // the order of the journal: oldest first
  // A capacity with which Store::Open takes the directory just as it is.
  std::uint64_t fitting_capacity_bytes = 0;
};

// Looks at a directory that may be damaged, in use, or no store at all, without changing anything.
// What a process writes meanwhile may be missing. Throws StoreError only if `path` cannot be read
// as a directory.
DirectoryInfo InspectDirectory(const std::string& path);

}  // namespace kvtier
