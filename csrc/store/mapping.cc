#include "mapping.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>

#include "align.h"
#include "error.h"
#include "memory_kind.h"

namespace kvtier {
namespace {

constexpr std::size_t kHuge2MBytes = std::size_t{2} << 20;
constexpr std::size_t kHuge1GBytes = std::size_t{1} << 30;
// At a multiple of `alignment`, so that whole huge pages fit. Null on failure, with errno.
std::byte* MapAligned(int fd, std::size_t bytes, std::size_t alignment) {
  void* reserved = ::mmap(nullptr, bytes + alignment, PROT_NONE, MAP_PRIVATE | MAP_ANON, -1, 0);
  if (reserved == MAP_FAILED) return nullptr;
  auto* const begin = static_cast<std::byte*>(reserved);
  const auto address = reinterpret_cast<std::uintptr_t>(begin);
  std::byte* const aligned = begin + (RoundUp(address, alignment) - address);
  void* const mapped =
      ::mmap(aligned, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, 0);
  if (mapped == MAP_FAILED) {
    const int error = errno;
    ::munmap(begin, bytes + alignment);
    errno = error;
    return nullptr;
  }
  // The mapping ends on a page of its own kind; what was reserved around it goes back.
  const std::size_t page_bytes = static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
  std::byte* const end = aligned + RoundUp(bytes, page_bytes);
  if (aligned > begin) ::munmap(begin, static_cast<std::size_t>(aligned - begin));
  if (end < begin + bytes + alignment) {
    ::munmap(end, static_cast<std::size_t>(begin + bytes + alignment - end));
  }
  return aligned;
}

std::string MapFailure(std::size_t bytes, std::size_t huge_page_bytes, int error) {
  std::string text = "cannot map " + std::to_string(bytes) + " bytes: " + ErrnoText(error);
  if (error == ENOMEM && huge_page_bytes > 0) {
    text += "; it needs " + std::to_string((bytes + huge_page_bytes - 1) / huge_page_bytes) +
            " free huge pages of " + std::to_string(huge_page_bytes >> 20) +
            " MiB: raise vm.nr_hugepages, or choose another backing";
  }
  return text;
}

// Throws ArenaError unless `fd` is a file.
struct stat StatusOf(int fd) {
  struct stat status{};
  if (::fstat(fd, &status) != 0) {
    throw ArenaError("file descriptor " + std::to_string(fd) +
                     " is not an arena's memory: " + ErrnoText(errno));
  }
  return status;
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
  (void)StatusOf(fd);
  const std::size_t huge_page_bytes = HugePageBytes(fd);
  data_ = MapAligned(fd, bytes, std::max(huge_page_bytes, kHuge2MBytes));
  if (data_ == nullptr) throw ArenaError(MapFailure(bytes, huge_page_bytes, errno));
  fd_ = ::fcntl(fd, F_DUPFD_CLOEXEC, 0);
  if (fd_ < 0) {
    const int error = errno;
    ::munmap(data_, size_);
    throw ArenaError("cannot duplicate the arena's file descriptor: " + ErrnoText(error));
  }
  if (huge_page_bytes > 0) {
    backing_ = huge_page_bytes >= kHuge1GBytes ? Backing::kHuge1G : Backing::kHuge2M;
  } else if (wanted != Backing::kPlain) {
    MakeHuge();
  }
}

// Where the system gives shared memory no huge pages by itself, the first 2 MiB show whether it
// gathers them when asked to.
void SharedMapping::MakeHuge() {
  if (AdviseHuge(data_, size_) != 0) return;
  if (!SharedMemoryMayBeHuge()) {
    if (size_ < kHuge2MBytes || Populate(0, kHuge2MBytes) != 0) return;
    if (CollapseToHuge(data_, kHuge2MBytes) != 0) return;
    collapses_ = true;
  }
  backing_ = Backing::kTransparent;
}

SharedMapping::~SharedMapping() {
  ::munmap(data_, size_);
  ::close(fd_);
}

int SharedMapping::Bind(std::size_t offset, std::size_t bytes, int node) const {
  return BindToNode(data_ + offset, bytes, node);
}

int SharedMapping::Populate(std::size_t offset, std::size_t bytes) const {
  const int error = kvtier::Populate(data_ + offset, bytes, fd_, offset);
  if (error != 0 || !collapses_) return error;
  const std::size_t begin = RoundUp(offset, kHuge2MBytes);
  const std::size_t end = (offset + bytes) / kHuge2MBytes * kHuge2MBytes;
  // Memory too scattered for it stays as it is: slower for the disk, no worse otherwise.
  if (begin < end) (void)CollapseToHuge(data_ + begin, end - begin);
  return 0;
}

int SharedMapping::Release(std::size_t offset, std::size_t bytes) const {
  return kvtier::Release(fd_, offset, bytes);
}

std::size_t MemoryPageBytes(int fd) {
  (void)StatusOf(fd);
  const std::size_t huge_page_bytes = HugePageBytes(fd);
  if (huge_page_bytes > 0) return huge_page_bytes;
  return static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
}

std::size_t FileBytes(int fd) { return static_cast<std::size_t>(StatusOf(fd).st_size); }

void ResizeFile(int fd, std::size_t bytes) {
  if (::ftruncate(fd, static_cast<off_t>(bytes)) != 0) {
    throw ArenaError("cannot make the arena's memory " + std::to_string(bytes) +
                     " bytes: " + ErrnoText(errno));
  }
}

}  // namespace kvtier
