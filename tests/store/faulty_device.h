#pragma once

#include <condition_variable>
#include <memory>
#include <mutex>

#include "device.h"

namespace kvtier::testing {

// What goes wrong, set by the test while a store runs. Thread-safe. An errno value of 0: nothing.
class Faults {
 public:
  void FailReads(int error) { Set(read_error_, error); }
  void FailWrites(int error) { Set(write_error_, error); }
  void FailGrowth(int error) { Set(grow_error_, error); }
  void FailSyncs(int error) { Set(sync_error_, error); }
  // Only files that are not segments: superblock and journal.
  void FailMetadataWrites(int error) { Set(metadata_write_error_, error); }

  // The path leads elsewhere for this many looks at it.
  void GoAway(int looks) { Set(gone_, looks); }
  // Syncs wait until Release.
  void StallSyncs();
  // Reads and writes of slots wait until Release. WaitForStalled: until so many of them wait.
  void Stall();
  void Release();
  void WaitForStalled(int count);

  int OnRead();
  int OnWrite(bool is_segment);
  int OnGrow();
  int OnSync();
  bool OnLook();

 private:
  void Set(int& field, int error);
  void WaitWhile(const bool& stalled, std::unique_lock<std::mutex>& lock);

  std::mutex mutex_;
  std::condition_variable changed_;
  int read_error_ = 0, write_error_ = 0, grow_error_ = 0, sync_error_ = 0;
  int metadata_write_error_ = 0;
  int gone_ = 0;
  bool stalled_ = false;
  bool syncs_stalled_ = false;
  int waiting_ = 0;
};

// A device that has `faults` on top of `inner`.
std::unique_ptr<Device> MakeFaulty(std::unique_ptr<Device> inner, std::shared_ptr<Faults> faults);

}  // namespace kvtier::testing
