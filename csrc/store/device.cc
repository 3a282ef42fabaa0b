#include "device.h"

#include <cerrno>

#include "error.h"

namespace kvtier {

bool IoStatus::IsNoSpace() const { return error_ == ENOSPC || error_ == EDQUOT; }

std::string IoStatus::Text() const {
  return IsShort() ? "the file is shorter than it should be" : ErrnoText(error_);
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
