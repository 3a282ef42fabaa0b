// Aligned memory for packed weights and for the threads' working space.
#pragma once

#include <cstddef>
#include <cstdlib>
#include <memory>

namespace kvtier::kernels {

inline constexpr std::size_t kCacheLineBytes = 64;

struct FreeDeleter {
  void operator()(void* memory) const { std::free(memory); }
};

using AlignedBytes = std::unique_ptr<std::byte[], FreeDeleter>;

// At least `bytes` bytes on a cache line boundary, uninitialised; on huge pages
// where the system grants them and the size is worth it. Throws std::bad_alloc.
AlignedBytes AllocateAligned(std::size_t bytes);

// Working space that grows and is kept. What it held is lost when it grows.
class Workspace {
 public:
  // Memory for `count` floats on a cache line boundary, valid until the next
  // call.
  float* Floats(std::size_t count);

 private:
  AlignedBytes memory_;
  std::size_t bytes_ = 0;
};

// The calling thread's own workspace.
Workspace& ThreadWorkspace();

}  // namespace kvtier::kernels
