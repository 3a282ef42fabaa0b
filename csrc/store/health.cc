#include "health.h"

namespace kvtier {

std::string Health::Describe(const char* what, const std::string& why) const {
  return std::string(what) + " of " + path_ + " are out of use: " + why;
}

std::string Health::OutOfUseReason() const {
  const std::string reason = reads_.reason();
  return reason.empty() ? writes_.reason() : reason;
}

bool Health::ReadFailed(const std::string& why) {
  const std::lock_guard lock(mutex_);
  if (!reads_.Failed(Describe("reads and writes", why))) return false;
  catalog_.SetAvailable(self_, false);
  return true;
}

bool Health::WriteFailed(const std::string& why) { return writes_.Failed(Describe("writes", why)); }

bool Health::CommitFailed(const std::string& why) {
  return ++failed_commits_ >= Breaker::kFailuresMax && writes_.Open(Describe("writes", why));
}

bool Health::TakeOut(const std::string& why) {
  const std::lock_guard lock(mutex_);
  if (!reads_.Open(Describe("reads and writes", why))) return false;
  catalog_.SetAvailable(self_, false);
  return true;
}

void Health::ReadsWork() {
  const std::lock_guard lock(mutex_);
  reads_.Close();
  catalog_.SetAvailable(self_, true);
}

}  // namespace kvtier
