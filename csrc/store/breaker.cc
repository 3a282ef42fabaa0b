#include "breaker.h"

namespace kvtier {

bool Breaker::Failed(const std::string& why) { return ++failures_ >= kFailuresMax && Open(why); }

bool Breaker::Open(const std::string& why) {
  const std::lock_guard lock(mutex_);
  if (open_.exchange(true)) return false;
  reason_ = why;
  return true;
}

void Breaker::Close() {
  const std::lock_guard lock(mutex_);
  failures_ = 0;
  reason_.clear();
  open_ = false;
}

std::string Breaker::reason() const {
  const std::lock_guard lock(mutex_);
  return reason_;
}

}  // namespace kvtier
