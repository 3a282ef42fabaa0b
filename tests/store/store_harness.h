#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "store.h"

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

// Waits for the one completion that is on its way.
Status WaitOne(Store& store);
// Puts or gets one page and waits for the end.
Status PutPage(Store& store, std::uint64_t i, std::uint64_t parent = 0);
// Fails the test if the status is kOk and the bytes are not the key's page.
Status GetPage(Store& store, std::uint64_t i);

// Polls until `holds` or a generous deadline; whether it came to hold.
bool Eventually(const std::function<bool()>& holds);

}  // namespace kvtier::testing
