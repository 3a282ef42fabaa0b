#pragma once

#include <atomic>
#include <cstddef>
#include <mutex>
#include <string>

#include "breaker.h"
#include "catalog.h"

namespace kvtier {

// Whether one directory's reads and writes are in use, and with its reads its pages in sight.
// Thread-safe: the two never disagree for longer than a call.
class Health {
 public:
  Health(Catalog& catalog, std::size_t directory, std::string path)
      : catalog_(catalog), self_(directory), path_(std::move(path)) {}

  bool reads_in_use() const { return !reads_.is_open(); }
  // Also false while reads are out of use.
  bool writes_in_use() const { return reads_in_use() && !writes_.is_open(); }
  // Writes wait to be seen to work by themselves.
  bool writes_are_out() const { return writes_.is_open(); }
  // Why reads or writes are out of use; empty when both are in use.
  std::string OutOfUseReason() const;

  void ReadSucceeded() { reads_.Succeeded(); }
  void WriteSucceeded() { writes_.Succeeded(); }
  void CommitSucceeded() { failed_commits_ = 0; }

  // True if it went out of use by this: the caller deals with what is queued.
  bool ReadFailed(const std::string& why);
  bool WriteFailed(const std::string& why);
  // Counted by itself: that slots can be written says nothing about making them durable.
  bool CommitFailed(const std::string& why);
  // At once.
  bool TakeOut(const std::string& why);

  void ReadsWork();
  void WritesWork() { writes_.Close(); }

 private:
  std::string Describe(const char* what, const std::string& why) const;

  Catalog& catalog_;
  const std::size_t self_;
  const std::string path_;
  std::mutex mutex_;  // held from a change of `reads_` to that of what is in sight
  Breaker reads_;
  Breaker writes_;
  std::atomic<int> failed_commits_{0};  // in a row
};

}  // namespace kvtier
