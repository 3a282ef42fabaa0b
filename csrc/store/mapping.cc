#include "mapping.h"

#include <fcntl.h>
#include <linux/magic.h>
#include <linux/mempolicy.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <climits>
#include <fstream>

#include "error.h"

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif

namespace kvtier {
namespace {

constexpr std::size_t kHuge2MBytes = std::size_t{2} << 20;
constexpr std::size_t kHuge1GBytes = std::size_t{1} << 30;
constexpr int kNumaNodesMax = 1024;

struct statfs FileSystemOf(int fd) {
  struct statfs info{};
  if (::fstatfs(fd, &info) != 0) {
    throw ArenaError("file descriptor " + std::to_string(fd) +
                     " is not an arena's memory: " + ErrnoText(errno));
  }
  return info;
}

bool IsHugetlb(const struct statfs& info) {
  return static_cast<unsigned long>(info.f_type) == HUGETLBFS_MAGIC;
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

std::string MapFailure(std::size_t bytes, const struct statfs& info, int error) {
  std::string text = "cannot map " + std::to_string(bytes) + " bytes: " + ErrnoText(error);
  if (error == ENOMEM && IsHugetlb(info)) {
    const auto page_bytes = static_cast<std::size_t>(info.f_bsize);
    text += "; it needs " + std::to_string((bytes + page_bytes - 1) / page_bytes) +
            " free huge pages of " + std::to_string(page_bytes >> 20) +
            " MiB: raise vm.nr_hugepages, or choose another backing";
  }
  return text;
}

}  // namespace

std::size_t BackingAlignment(Backing backing) {
  switch (backing) {
    case Backing::kHuge1G:
      return kHuge1GBytes;
    case Backing::kHuge2M:
    case Backing::kTransparent:
      return kHuge2MBytes;
    case Backing::kPlain:
      return static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
  }
  return kHuge2MBytes;
}

SharedMapping::SharedMapping(int fd, std::size_t bytes, Backing wanted) : size_(bytes) {
  const struct statfs info = FileSystemOf(fd);
  void* address = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  if (address == MAP_FAILED) throw ArenaError(MapFailure(bytes, info, errno));
  data_ = static_cast<std::byte*>(address);
  fd_ = ::fcntl(fd, F_DUPFD_CLOEXEC, 0);
  if (fd_ < 0) {
    const int error = errno;
    ::munmap(data_, size_);
    throw ArenaError("cannot duplicate the arena's file descriptor: " + ErrnoText(error));
  }
  if (IsHugetlb(info)) {
    const bool is_1g = static_cast<std::size_t>(info.f_bsize) >= kHuge1GBytes;
    backing_ = is_1g ? Backing::kHuge1G : Backing::kHuge2M;
  } else if (wanted != Backing::kPlain && SharedMemoryMayBeHuge() &&
             ::madvise(data_, size_, MADV_HUGEPAGE) == 0) {
    backing_ = Backing::kTransparent;
  }
}

SharedMapping::~SharedMapping() {
  ::munmap(data_, size_);
  ::close(fd_);
}

int SharedMapping::Bind(std::size_t offset, std::size_t bytes, int node) const {
  constexpr std::size_t kBitsPerWord = sizeof(unsigned long) * CHAR_BIT;
  if (node < 0 || node >= kNumaNodesMax) return EINVAL;
  std::array<unsigned long, kNumaNodesMax / kBitsPerWord> mask{};
  mask[node / kBitsPerWord] = 1ul << (node % kBitsPerWord);
  // The kernel reads one bit less than it is told.
  const long rc = ::syscall(SYS_mbind, data_ + offset, bytes, MPOL_BIND, mask.data(),
                            static_cast<unsigned long>(kNumaNodesMax), 0u);
  return rc == 0 ? 0 : errno;
}

int SharedMapping::Populate(std::size_t offset, std::size_t bytes) const {
  while (::madvise(data_ + offset, bytes, MADV_POPULATE_WRITE) != 0) {
    if (errno == EINTR || errno == EAGAIN) continue;
    if (errno != EINVAL) return errno;
    // A kernel before 5.14: allocating in the file leaves only cheap faults for later.
    const int rc = ::fallocate(fd_, 0, static_cast<off_t>(offset), static_cast<off_t>(bytes));
    return rc == 0 ? 0 : errno;
  }
  return 0;
}

std::size_t MemoryPageBytes(int fd) {
  const struct statfs info = FileSystemOf(fd);
  if (IsHugetlb(info)) return static_cast<std::size_t>(info.f_bsize);
  return static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
}

std::size_t FileBytes(int fd) {
  struct stat status{};
  if (::fstat(fd, &status) != 0) {
    throw ArenaError("file descriptor " + std::to_string(fd) +
                     " is not an arena's memory: " + ErrnoText(errno));
  }
  return static_cast<std::size_t>(status.st_size);
}

void ResizeFile(int fd, std::size_t bytes) {
  if (::ftruncate(fd, static_cast<off_t>(bytes)) != 0) {
    throw ArenaError("cannot make the arena's memory " + std::to_string(bytes) +
                     " bytes: " + ErrnoText(errno));
  }
}

}  // namespace kvtier
