#pragma once

#include <stdexcept>
#include <string>

namespace kvtier {

// A directory cannot be opened or used as a store. The message is a sentence for an operator.
class StoreError : public std::runtime_error {
  using std::runtime_error::runtime_error;
};

// The disk below a directory fails, which is nobody's mistake: a store of several directories goes
// on without it, and it may come back.
class DiskFailed : public StoreError {
  using StoreError::StoreError;
};

// The arena cannot be mapped or used. The message is a sentence for an operator.
class ArenaError : public std::runtime_error {
  using std::runtime_error::runtime_error;
};

// The text of an errno value ("No space left on device"). Thread-safe.
std::string ErrnoText(int error);

}  // namespace kvtier
