#include "posix_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

namespace kvtier {
namespace {

#if defined(__linux__)
constexpr int kDirectFlag = O_DIRECT;
#else
constexpr int kDirectFlag = 0;  // macOS: F_NOCACHE, set once the file is open
#endif

using Transfer = ssize_t (*)(int, const iovec*, int, off_t);

// Drops `bytes` from the front of `pieces`.
std::span<iovec> Advance(std::span<iovec> pieces, std::size_t bytes) {
  while (!pieces.empty() && bytes >= pieces.front().iov_len) {
    bytes -= pieces.front().iov_len;
    pieces = pieces.subspan(1);
  }
  if (bytes > 0) {
    pieces.front().iov_base = static_cast<char*>(pieces.front().iov_base) + bytes;
    pieces.front().iov_len -= bytes;
  }
  return pieces;
}

// Repeats `transfer` until every byte has moved. A transfer may end anywhere (a signal, the
// kernel's 2 GiB limit); what is left then may no longer be aligned, which direct I/O answers with
// EINVAL: an error, never silence.
IoStatus MoveAll(Transfer transfer, int fd, std::span<iovec> pieces, std::uint64_t offset) {
  pieces = Advance(pieces, 0);
  while (!pieces.empty()) {
    const ssize_t moved =
        transfer(fd, pieces.data(), static_cast<int>(pieces.size()), static_cast<off_t>(offset));
    if (moved < 0 && errno == EINTR) continue;
    if (moved < 0) return IoStatus(errno);
    if (moved == 0) return IoStatus(IoStatus::kShort);
    offset += static_cast<std::uint64_t>(moved);
    pieces = Advance(pieces, static_cast<std::size_t>(moved));
  }
  return {};
}

std::uint64_t TotalBytes(std::span<const iovec> pieces) {
  std::uint64_t total = 0;
  for (const iovec& piece : pieces) total += piece.iov_len;
  return total;
}

class PosixFile : public File {
 public:
  PosixFile(int fd, bool drops_behind) : fd_(fd), drops_behind_(drops_behind) {}
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

  IoStatus Sync() override {
#if defined(__APPLE__)
    return IoStatus(::fcntl(fd_, F_FULLFSYNC) == 0 ? 0 : errno);
#else
    return IoStatus(::fdatasync(fd_) == 0 ? 0 : errno);
#endif
  }

  IoStatus Grow(std::uint64_t bytes) override {
    const std::uint64_t size = SizeBytes();
    if (size >= bytes) return {};
#if defined(__linux__)
    while (::fallocate(fd_, 0, static_cast<off_t>(size), static_cast<off_t>(bytes - size)) != 0) {
      if (errno == EINTR) continue;
      if (errno != EOPNOTSUPP) return IoStatus(errno);
      return Truncate(bytes);  // no preallocation here: a write may still find the disk full
    }
    return {};
#else
    return Truncate(bytes);
#endif
  }

  IoStatus Truncate(std::uint64_t bytes) override {
    return IoStatus(::ftruncate(fd_, static_cast<off_t>(bytes)) == 0 ? 0 : errno);
  }

  std::uint64_t SizeBytes() override {
    struct stat status{};
    return ::fstat(fd_, &status) == 0 ? static_cast<std::uint64_t>(status.st_size) : 0;
  }

 private:
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
};

}  // namespace

IoStatus OpenPosixFile(int directory_fd, const std::string& name, Access access, bool create,
                       std::unique_ptr<File>& file) {
  const int flags = O_RDWR | O_CLOEXEC | O_NOFOLLOW | (create ? O_CREAT : 0);
  bool drops_behind = false;
  int fd = -1;
  if (access == Access::kDirect) {
    fd = ::openat(directory_fd, name.c_str(), flags | kDirectFlag, 0600);
    drops_behind = fd < 0 && errno == EINVAL;
  }
  if (access == Access::kBuffered || drops_behind) {
    fd = ::openat(directory_fd, name.c_str(), flags, 0600);
  }
  if (fd < 0) return IoStatus(errno);
#if defined(__APPLE__)
  if (access == Access::kDirect) ::fcntl(fd, F_NOCACHE, 1);
#endif
  file = std::make_unique<PosixFile>(fd, drops_behind);
  return {};
}

}  // namespace kvtier
