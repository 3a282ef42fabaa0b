#include "memory_kind.h"

#include <cerrno>

#if defined(__linux__)
#include <fcntl.h>
#include <linux/magic.h>
#include <linux/mempolicy.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <array>
#include <climits>
#include <fstream>
#include <string>

#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25
#endif
#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif
#endif

namespace kvtier {

#if defined(__linux__)

std::size_t HugePageBytes(int fd) {
  struct statfs info{};
  if (::fstatfs(fd, &info) != 0) return 0;
  const bool is_huge = static_cast<unsigned long>(info.f_type) == HUGETLBFS_MAGIC;
  return is_huge ? static_cast<std::size_t>(info.f_bsize) : 0;
}

// The kernel takes MADV_HUGEPAGE for shared memory and then ignores it unless this file says
// `advise`, `within_size` or `always`.
bool SharedMemoryMayBeHuge() {
  std::ifstream file("/sys/kernel/mm/transparent_hugepage/shmem_enabled");
  std::string word;
  while (file >> word) {
    if (word.front() == '[') return word != "[never]" && word != "[deny]";
  }
  return false;
}

int AdviseHuge(std::byte* begin, std::size_t bytes) {
  return ::madvise(begin, bytes, MADV_HUGEPAGE) == 0 ? 0 : errno;
}

int CollapseToHuge(std::byte* begin, std::size_t bytes) {
  return ::madvise(begin, bytes, MADV_COLLAPSE) == 0 ? 0 : errno;
}

int BindToNode(std::byte* begin, std::size_t bytes, int node) {
  constexpr int kNodesMax = 1024;
  constexpr std::size_t kBitsPerWord = sizeof(unsigned long) * CHAR_BIT;
  if (node < 0 || node >= kNodesMax) return EINVAL;
  std::array<unsigned long, kNodesMax / kBitsPerWord> mask{};
  mask[node / kBitsPerWord] = 1ul << (node % kBitsPerWord);
  // The kernel reads one bit less than it is told.
  const long rc = ::syscall(SYS_mbind, begin, bytes, MPOL_BIND, mask.data(),
                            static_cast<unsigned long>(kNodesMax), 0u);
  return rc == 0 ? 0 : errno;
}

int Populate(std::byte* begin, std::size_t bytes, int fd, std::size_t offset) {
  while (::madvise(begin, bytes, MADV_POPULATE_WRITE) != 0) {
    if (errno == EINTR || errno == EAGAIN) continue;
    if (errno != EINVAL) return errno;
    // A kernel before 5.14: allocating in the file leaves only cheap faults for later.
    const int rc = ::fallocate(fd, 0, static_cast<off_t>(offset), static_cast<off_t>(bytes));
    return rc == 0 ? 0 : errno;
  }
  return 0;
}

int Release(int fd, std::size_t offset, std::size_t bytes) {
  constexpr int kMode = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;
  while (::fallocate(fd, kMode, static_cast<off_t>(offset), static_cast<off_t>(bytes)) != 0) {
    if (errno != EINTR) return errno;
  }
  return 0;
}

#else

std::size_t HugePageBytes(int) { return 0; }

bool SharedMemoryMayBeHuge() { return false; }

int AdviseHuge(std::byte*, std::size_t) { return ENOTSUP; }

int CollapseToHuge(std::byte*, std::size_t) { return ENOTSUP; }

int BindToNode(std::byte*, std::size_t, int) { return ENOTSUP; }

// Touches every page without changing it.
int Populate(std::byte* begin, std::size_t bytes, int, std::size_t) {
  constexpr std::size_t kPageBytesMin = 4096;
  for (std::size_t at = 0; at < bytes; at += kPageBytesMin) {
    volatile std::byte* byte = begin + at;
    *byte = *byte;
  }
  return 0;
}

int Release(int, std::size_t, std::size_t) { return ENOTSUP; }

#endif

}  // namespace kvtier
