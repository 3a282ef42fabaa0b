#pragma once

#include <memory>
#include <string>

#include "device.h"

namespace kvtier {

// Opens `name` in the directory behind `directory_fd`. With Access::kDirect it tries O_DIRECT, and
// where the file system has none reads and writes buffered, dropping the cache behind itself.
IoStatus OpenPosixFile(int directory_fd, const std::string& name, Access access, bool create,
                       std::unique_ptr<File>& file);

}  // namespace kvtier
