#pragma once

#include <cstdint>
#include <mutex>
#include <vector>

#include "key.h"

namespace kvtier {

// Which pages are worth a write, to spare a disk that wears. Thread-safe.
struct AdmissionRule {
  // A page is written at its n-th offer; 1: at once.
  unsigned sightings_min = 1;
  // Chains of so many pages and more are written at once, whole; 0: none are.
  std::uint64_t chain_pages_min = 0;
};

// Counts offers in a table of fixed size: 2 bytes for each of twice as many keys as the store has
// pages. A key that it forgets is seen for the first time again, and one in a thousand is taken
// for another: a page written too late or too soon, and no more. Forgotten at close.
class Admission {
 public:
  static constexpr unsigned kSightingsMax = 15;

  Admission(const AdmissionRule& rule, std::uint64_t pages_max);

  // Whether the page is to be written; counts as an offer. `chain_pages`: of the chain that it was
  // offered with, 0 if that is not known.
  bool Admits(const Key& key, std::uint64_t chain_pages);

 private:
  unsigned CountSighting(const Key& key);

  const AdmissionRule rule_;
  std::mutex mutex_;
  std::vector<std::uint16_t> table_;  // guarded by mutex_: buckets of kWays; fingerprint, count
  std::size_t next_victim_ = 0;       // guarded by mutex_
};

}  // namespace kvtier
