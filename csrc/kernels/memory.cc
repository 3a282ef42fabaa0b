#include "memory.h"

#include <sys/mman.h>

#include <new>

namespace kvtier::kernels {
namespace {

constexpr std::size_t kHugePageBytes = std::size_t{2} << 20;

std::size_t RoundUp(std::size_t bytes, std::size_t step) {
  return (bytes + step - 1) / step * step;
}

}  // namespace

AlignedBytes AllocateAligned(std::size_t bytes) {
  const bool is_large = bytes >= kHugePageBytes;
  const std::size_t alignment = is_large ? kHugePageBytes : kCacheLineBytes;
  const std::size_t rounded = RoundUp(bytes == 0 ? 1 : bytes, kCacheLineBytes);
  void* memory = nullptr;
  if (posix_memalign(&memory, alignment, rounded) != 0) throw std::bad_alloc();
  if (is_large) madvise(memory, rounded, MADV_HUGEPAGE);  // a hint: refusal costs only speed
  return AlignedBytes(static_cast<std::byte*>(memory));
}

float* Workspace::Floats(std::size_t count) {
  const std::size_t bytes = count * sizeof(float);
  if (bytes > bytes_) {
    memory_ = AllocateAligned(bytes);
    bytes_ = bytes;
  }
  return reinterpret_cast<float*>(memory_.get());
}

Workspace& ThreadWorkspace() {
  thread_local Workspace workspace;
  return workspace;
}

}  // namespace kvtier::kernels
