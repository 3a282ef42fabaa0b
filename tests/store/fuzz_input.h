#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <span>

namespace kvtier::testing {

// Draws numbers from the fuzzer's input; zeroes after its end.
class FuzzInput {
 public:
  explicit FuzzInput(std::span<const std::uint8_t> data) : data_(data) {}
  bool is_empty() const { return data_.empty(); }
  std::uint64_t Number(std::size_t bytes) {
    std::uint64_t number = 0;
    for (; bytes > 0 && !data_.empty(); --bytes, data_ = data_.subspan(1)) {
      number = number << 8 | data_.front();
    }
    return number;
  }
  std::uint64_t Below(std::uint64_t limit) { return limit == 0 ? 0 : Number(3) % limit; }

 private:
  std::span<const std::uint8_t> data_;
};

// Ends the process, which is what a fuzzer takes for a finding.
inline void Demand(bool holds, const char* what) {
  if (holds) return;
  std::fprintf(stderr, "broken promise: %s\n", what);
  std::abort();
}

}  // namespace kvtier::testing
