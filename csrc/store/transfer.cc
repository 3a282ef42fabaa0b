#include "transfer.h"

#include <cerrno>

namespace kvtier {

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

}  // namespace kvtier
