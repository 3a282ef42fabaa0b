#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <random>
#include <string>
#include <vector>

#include "device.h"

namespace kvtier::testing {

// A disk in memory that can lose its power.
//
// Fault model: what a file's Sync covered survives; of what was written to the file since, each
// write on its own survives whole, survives as any subset of its 512-byte sectors, or is lost, as
// is each change of the file's length. Names (created, renamed, removed) survive up to the last
// SyncNames and then up to any later change, in order. This is what journaling file systems and
// disks with volatile caches promise at the least.
class MemoryDisk {
 public:
  explicit MemoryDisk(std::uint64_t seed) : random_(seed) {}

  // What lies on it: contents by name. All of it is durable.
  using Image = std::map<std::string, std::vector<std::byte>>;
  Image image() const;
  void Load(const Image& image);

  // A device on this disk; the disk outlives it.
  std::unique_ptr<Device> Open();

  // The power fails at the n-th change from now (0: at once). That change counts as unsynced; all
  // calls after it fail.
  void FailPowerAfter(std::uint64_t changes);
  bool has_power() const;
  // Changes since the disk was made.
  std::uint64_t changes() const;

  // The power comes back: decides by the seed what survived.
  void RestorePower();

 private:
  friend class MemoryDevice;
  friend class MemoryFile;

  struct Change {
    bool is_resize;
    std::uint64_t offset;  // or the new length
    std::vector<std::byte> data;
  };
  struct Content {
    std::vector<std::byte> durable;
    std::vector<std::byte> current;
    std::vector<Change> unsynced;
  };
  using Names = std::map<std::string, std::shared_ptr<Content>>;

  // Counts a change; false once the power is off.
  bool Count();
  void Survive(Content& content);
  static void Apply(const Change& change, std::vector<std::byte>& bytes);

  mutable std::mutex mutex_;  // guards all
  std::mt19937_64 random_;
  Names names_;
  std::vector<Names> unsynced_names_;  // the names after each change since SyncNames
  Names durable_names_;
  std::uint64_t changes_ = 0;
  std::uint64_t power_fails_at_ = UINT64_MAX;
  bool has_power_ = true;
};

}  // namespace kvtier::testing
