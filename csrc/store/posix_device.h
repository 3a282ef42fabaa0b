#pragma once

#include <memory>
#include <string>

#include "device.h"
#include "options.h"

namespace kvtier {

// Opens an existing directory. Throws StoreError when it is none or may not be used.
std::unique_ptr<Device> OpenPosixDevice(const std::string& path, IoEngine engine = IoEngine::kAuto);

// One whose files can be read and nothing else.
std::unique_ptr<Device> OpenReadOnlyDevice(const std::string& path);

// Creates the directory (mode 0700, parents as well) unless it is there. Throws StoreError when
// that fails or the last component is a symbolic link, or no directory.
void MakeDirectory(const std::string& path);

}  // namespace kvtier
