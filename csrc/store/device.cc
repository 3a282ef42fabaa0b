#include "device.h"

#include <algorithm>
#include <cerrno>
#include <iterator>

#include "error.h"

namespace kvtier {

bool IoStatus::IsNoSpace() const { return error_ == ENOSPC || error_ == EDQUOT; }

std::string IoStatus::Text() const {
  if (error_ == kNotAFile) return "it is not a regular file";
  if (error_ == kGone) return "it is gone, or another directory is in its place";
  return IsShort() ? "the file is shorter than it should be" : ErrnoText(error_);
}

namespace {

// Worn or gone, remounted read-only, full: not what a person got wrong in a profile.
bool IsOfTheDisk(int error) {
  constexpr int kErrors[] = {EIO,
                             EROFS,
                             ENOSPC,
                             EDQUOT,
                             ENXIO,
                             ENODEV,
                             ESTALE,
                             ENOTCONN,
                             ETIMEDOUT,
                             ESHUTDOWN,
                             EHOSTDOWN,
                             EHOSTUNREACH,
#if defined(__linux__)
                             EUCLEAN,
                             ENOMEDIUM,
                             EREMOTEIO,
#endif
                             IoStatus::kShort};
  return std::ranges::find(kErrors, error) != std::end(kErrors);
}

}  // namespace

void IoStatus::Throw(const std::string& what) const {
  const std::string sentence = "cannot " + what + ": " + Text();
  if (IsOfTheDisk(error_)) throw DiskFailed(sentence);
  throw StoreError(sentence);
}

IoStatus File::ReadInParts(std::span<iovec> pieces, std::uint64_t offset, const Progress& arrived) {
  const std::uint64_t bytes = TotalBytes(pieces);
  const IoStatus status = Read(pieces, offset);
  if (status.ok()) arrived(bytes);
  return status;
}

IoStatus File::WriteInParts(std::span<iovec> pieces, std::uint64_t offset,
                            const Progress& prepare) {
  prepare(TotalBytes(pieces));
  return Write(pieces, offset);
}

IoStatus File::Grow(std::uint64_t bytes) {
  const std::uint64_t size = SizeBytes();
  return size >= bytes ? IoStatus() : Allocate(size, bytes - size);
}

std::uint64_t TotalBytes(std::span<const iovec> pieces) {
  std::uint64_t total = 0;
  for (const iovec& piece : pieces) total += piece.iov_len;
  return total;
}

IoStatus ReadAll(File& file, std::span<std::byte> out, std::uint64_t offset) {
  iovec piece{out.data(), out.size()};
  return file.Read({&piece, 1}, offset);
}

IoStatus WriteAll(File& file, std::span<const std::byte> data, std::uint64_t offset) {
  iovec piece{const_cast<std::byte*>(data.data()), data.size()};
  return file.Write({&piece, 1}, offset);
}

}  // namespace kvtier
