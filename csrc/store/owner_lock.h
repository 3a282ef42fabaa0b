#pragma once

#include <string>

namespace kvtier {

// Ownership of a directory, held for the life of this object: one process at a time. Let go of by
// the kernel when the process dies, however it dies. A forked child does not have it.
class OwnerLock {
 public:
  // Throws StoreError that names the holder when another store has the directory.
  explicit OwnerLock(const std::string& directory);
  ~OwnerLock();
  OwnerLock(const OwnerLock&) = delete;
  OwnerLock& operator=(const OwnerLock&) = delete;

  // The process that has the directory, in words; empty when none has. Takes the lock for a moment.
  static std::string HolderOf(const std::string& directory);

 private:
  class Registry;

  void Close();

  int fd_ = -1;
};

}  // namespace kvtier
