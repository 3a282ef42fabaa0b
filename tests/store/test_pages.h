#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "key.h"
#include "superblock.h"

namespace kvtier::testing {

// A directory under the system's temporary one, removed at the end.
class TempDirectory {
 public:
  TempDirectory();
  ~TempDirectory();
  TempDirectory(const TempDirectory&) = delete;
  TempDirectory& operator=(const TempDirectory&) = delete;
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

inline constexpr std::uint64_t kTestPageBytes = 4096;

// The i-th key, and the page that always belongs to it.
Key MakeKey(std::uint64_t i);
std::vector<std::byte> MakePage(std::uint64_t i);

// Capacity that holds just so many pages of kTestPageBytes.
std::uint64_t CapacityFor(std::uint64_t pages);

PageGeometry TestPages();

}  // namespace kvtier::testing
