#pragma once

#include <memory>
#include <string>

#include "device.h"

namespace kvtier {

// Opens files in the directory behind `directory_fd`, which is the caller's. With Access::kDirect
// it tries O_DIRECT, and where the file system has none reads and writes buffered, dropping the
// cache behind itself.
struct PosixOpener {
  int directory_fd;
  bool uses_uring = false;  // for transfers in parts, where a thread can have one
  bool is_read_only = false;

  IoStatus Open(const std::string& name, Access access, bool create,
                std::unique_ptr<File>& file) const;
};

}  // namespace kvtier
