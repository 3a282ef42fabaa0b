#include "admission.h"

#include <algorithm>
#include <cstring>
#include <span>

namespace kvtier {
namespace {

constexpr std::size_t kWays = 4;
constexpr std::uint64_t kKeysPerPage = 2;
constexpr unsigned kCountBits = 4;
constexpr std::uint16_t kCountMask = (1u << kCountBits) - 1;

std::size_t TableSize(const AdmissionRule& rule, std::uint64_t pages_max) {
  if (rule.sightings_min <= 1) return 0;
  const std::uint64_t keys = std::max<std::uint64_t>(kKeysPerPage * pages_max, kWays);
  return (keys + kWays - 1) / kWays * kWays;
}

}  // namespace

Admission::Admission(const AdmissionRule& rule, std::uint64_t pages_max)
    : rule_(rule), table_(TableSize(rule, pages_max)) {}

bool Admission::Admits(const Key& key, std::uint64_t chain_pages) {
  if (rule_.sightings_min <= 1) return true;
  if (rule_.chain_pages_min != 0 && chain_pages >= rule_.chain_pages_min) return true;
  return CountSighting(key) >= rule_.sightings_min;
}

unsigned Admission::CountSighting(const Key& key) {
  std::uint64_t words[2];
  static_assert(sizeof words == sizeof key.bytes);
  std::memcpy(words, key.bytes.data(), sizeof words);
  const auto fingerprint = static_cast<std::uint16_t>(words[1] << kCountBits);
  const std::lock_guard lock(mutex_);
  const std::span bucket(&table_[words[0] % (table_.size() / kWays) * kWays], kWays);
  std::uint16_t* free = nullptr;
  for (std::uint16_t& entry : bucket) {
    const unsigned count = entry & kCountMask;
    if (count == 0) {
      free = &entry;
    } else if ((entry & ~kCountMask) == fingerprint) {
      if (count < kSightingsMax) ++entry;
      return std::min(count + 1, kSightingsMax);
    }
  }
  if (free == nullptr) free = &bucket[next_victim_++ % kWays];
  *free = static_cast<std::uint16_t>(fingerprint | 1);
  return 1;
}

}  // namespace kvtier
