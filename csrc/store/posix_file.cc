#include "posix_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "align.h"
#include "parts.h"
#include "transfer.h"
#include "uring.h"

namespace kvtier {
namespace {

#if defined(__linux__)
constexpr int kDirectFlag = O_DIRECT;
#else
constexpr int kDirectFlag = 0;  // macOS: F_NOCACHE, set once the file is open
#endif

class PosixFile : public File {
 public:
  PosixFile(int fd, bool drops_behind, bool uses_uring)
      : fd_(fd), drops_behind_(drops_behind), uses_uring_(uses_uring && !drops_behind) {
#if defined(__linux__)
    // No reading ahead: what lies behind a slot is another page, which nobody would drop.
    if (drops_behind) ::posix_fadvise(fd, 0, 0, POSIX_FADV_RANDOM);
#endif
  }
  ~PosixFile() override { ::close(fd_); }

  IoStatus Read(std::span<iovec> pieces, std::uint64_t offset) override {
    const std::uint64_t bytes = TotalBytes(pieces);
    const IoStatus status = MoveAll(::preadv, fd_, pieces, offset);
    if (drops_behind_) DropBehind(offset, bytes);
    return status;
  }

  IoStatus Write(std::span<iovec> pieces, std::uint64_t offset) override {
    const std::uint64_t bytes = TotalBytes(pieces);
    const IoStatus status = MoveAll(::pwritev, fd_, pieces, offset);
    if (drops_behind_ && status.ok()) WriteBehind(offset, bytes);
    return status;
  }

  IoStatus ReadInParts(std::span<iovec> pieces, std::uint64_t offset,
                       const Progress& arrived) override {
    Uring* ring = uses_uring_ ? Uring::OfThisThread() : nullptr;
    if (ring == nullptr) return File::ReadInParts(pieces, offset, arrived);
    return kvtier::ReadInParts(*ring, fd_, pieces, offset, arrived);
  }

  IoStatus WriteInParts(std::span<iovec> pieces, std::uint64_t offset,
                        const Progress& prepare) override {
    Uring* ring = uses_uring_ ? Uring::OfThisThread() : nullptr;
    if (ring == nullptr) return File::WriteInParts(pieces, offset, prepare);
    return kvtier::WriteInParts(*ring, fd_, pieces, offset, prepare);
  }

  IoStatus Sync() override {
#if defined(__APPLE__)
    return IoStatus(::fcntl(fd_, F_FULLFSYNC) == 0 ? 0 : errno);
#else
    return IoStatus(::fdatasync(fd_) == 0 ? 0 : errno);
#endif
  }

  IoStatus Allocate(std::uint64_t offset, std::uint64_t bytes) override {
#if defined(__linux__)
    while (::fallocate(fd_, 0, static_cast<off_t>(offset), static_cast<off_t>(bytes)) != 0) {
      if (errno == EINTR) continue;
      if (errno != EOPNOTSUPP) return IoStatus(errno);
      return Lengthen(offset + bytes);  // a write may still find the disk full
    }
    return {};
#else
#if defined(__APPLE__)
    fstore_t room{};
    room.fst_flags = F_ALLOCATEALL;
    room.fst_posmode = F_PEOFPOSMODE;
    room.fst_length = static_cast<off_t>(bytes);
    const bool is_at_end = offset >= SizeBytes();
    if (is_at_end && ::fcntl(fd_, F_PREALLOCATE, &room) != 0 && errno != ENOTSUP) {
      return IoStatus(errno);
    }
#endif
    return Lengthen(offset + bytes);
#endif
  }

  IoStatus Punch(std::uint64_t offset, std::uint64_t bytes) override {
#if defined(__linux__)
    constexpr int kMode = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;
    while (::fallocate(fd_, kMode, static_cast<off_t>(offset), static_cast<off_t>(bytes)) != 0) {
      if (errno != EINTR) return IoStatus(errno);
    }
    return {};
#elif defined(__APPLE__)
    fpunchhole_t hole{};
    hole.fp_offset = static_cast<off_t>(offset);
    hole.fp_length = static_cast<off_t>(bytes);
    return IoStatus(::fcntl(fd_, F_PUNCHHOLE, &hole) == 0 ? 0 : EOPNOTSUPP);
#else
    (void)offset, (void)bytes;
    return IoStatus(EOPNOTSUPP);
#endif
  }

  IoStatus Truncate(std::uint64_t bytes) override {
    return IoStatus(::ftruncate(fd_, static_cast<off_t>(bytes)) == 0 ? 0 : errno);
  }

  std::uint64_t SizeBytes() override {
    struct stat status{};
    return ::fstat(fd_, &status) == 0 ? static_cast<std::uint64_t>(status.st_size) : 0;
  }

  std::uint64_t AllocatedBytes() override {
    constexpr std::uint64_t kStatBlockBytes = 512;
    struct stat status{};
    if (::fstat(fd_, &status) != 0) return 0;
    return std::min(static_cast<std::uint64_t>(status.st_blocks) * kStatBlockBytes,
                    static_cast<std::uint64_t>(status.st_size));
  }

 private:
  IoStatus Lengthen(std::uint64_t bytes) {
    return SizeBytes() >= bytes ? IoStatus() : Truncate(bytes);
  }

  void DropBehind(std::uint64_t offset, std::uint64_t bytes) const {
#if defined(__linux__)
    ::posix_fadvise(fd_, static_cast<off_t>(offset), static_cast<off_t>(bytes),
                    POSIX_FADV_DONTNEED);
#else
    (void)offset, (void)bytes;
#endif
  }

  void WriteBehind(std::uint64_t offset, std::uint64_t bytes) const {
#if defined(__linux__)
    constexpr unsigned kWriteAndWait =
        SYNC_FILE_RANGE_WAIT_BEFORE | SYNC_FILE_RANGE_WRITE | SYNC_FILE_RANGE_WAIT_AFTER;
    ::sync_file_range(fd_, static_cast<off_t>(offset), static_cast<off_t>(bytes), kWriteAndWait);
#endif
    DropBehind(offset, bytes);
  }

  const int fd_;
  const bool drops_behind_;
  const bool uses_uring_;
};

}  // namespace

int PosixOpener::OpenAt(const std::string& name, int flags) const {
  return ::openat(directory_fd_, name.c_str(), flags, 0600);
}

// -1 when the file cannot be opened like this. Some file systems take the flag and then refuse the
// transfers, or want blocks larger than ours: the first file that has a block tells.
int PosixOpener::OpenDirect(const std::string& name, int flags) {
  if (direct_ == Direct::kRefused) {
    errno = EINVAL;
    return -1;
  }
  const int fd = OpenAt(name, flags | kDirectFlag);
  if (fd < 0) {
    if (errno == EINVAL) direct_ = Direct::kRefused;
    return -1;
  }
  if (direct_ == Direct::kWorks) return fd;
  alignas(kBlockBytes) std::byte block[kBlockBytes];
  const ssize_t moved = ::pread(fd, block, sizeof block, 0);
  if (moved > 0) direct_ = Direct::kWorks;
  if (moved >= 0 || errno != EINVAL) return fd;
  direct_ = Direct::kRefused;
  ::close(fd);
  errno = EINVAL;
  return -1;
}

IoStatus PosixOpener::Open(const std::string& name, Access access, bool create,
                           std::unique_ptr<File>& file) {
  // Without O_NONBLOCK a FIFO in a file's place would keep us waiting for its other end.
  const int flags = (is_read_only_ ? O_RDONLY : O_RDWR) | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK |
                    (create ? O_CREAT : 0);
  int fd = access == Access::kDirect ? OpenDirect(name, flags) : OpenAt(name, flags);
  const bool drops_behind = access == Access::kDirect && fd < 0 && errno == EINVAL;
  if (drops_behind) fd = OpenAt(name, flags);
  if (fd < 0) return IoStatus(errno);
  struct stat status{};
  if (::fstat(fd, &status) != 0 || !S_ISREG(status.st_mode)) {
    ::close(fd);
    return IoStatus(IoStatus::kNotAFile);
  }
#if defined(__APPLE__)
  if (access == Access::kDirect) ::fcntl(fd, F_NOCACHE, 1);
#endif
  file = std::make_unique<PosixFile>(fd, drops_behind, access == Access::kDirect && uses_uring_);
  return {};
}

}  // namespace kvtier
