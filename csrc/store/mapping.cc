#include "mapping.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>

#include "error.h"
#include "memory_kind.h"

namespace kvtier {
namespace {

constexpr std::size_t kHuge2MBytes = std::size_t{2} << 20;
constexpr std::size_t kHuge1GBytes = std::size_t{1} << 30;
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
  void* address = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  if (address == MAP_FAILED) throw ArenaError(MapFailure(bytes, huge_page_bytes, errno));
  data_ = static_cast<std::byte*>(address);
  fd_ = ::fcntl(fd, F_DUPFD_CLOEXEC, 0);
  if (fd_ < 0) {
    const int error = errno;
    ::munmap(data_, size_);
    throw ArenaError("cannot duplicate the arena's file descriptor: " + ErrnoText(error));
  }
  if (huge_page_bytes > 0) {
    backing_ = huge_page_bytes >= kHuge1GBytes ? Backing::kHuge1G : Backing::kHuge2M;
  } else if (wanted != Backing::kPlain && SharedMemoryMayBeHuge() &&
             AdviseHuge(data_, size_) == 0) {
    backing_ = Backing::kTransparent;
  }
}

SharedMapping::~SharedMapping() {
  ::munmap(data_, size_);
  ::close(fd_);
}

int SharedMapping::Bind(std::size_t offset, std::size_t bytes, int node) const {
  return BindToNode(data_ + offset, bytes, node);
}

int SharedMapping::Populate(std::size_t offset, std::size_t bytes) const {
  return kvtier::Populate(data_ + offset, bytes, fd_, offset);
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
