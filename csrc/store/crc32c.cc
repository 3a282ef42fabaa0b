#include "crc32c.h"

#include <array>
#include <cstring>

#if defined(__x86_64__)
#include <immintrin.h>
#elif defined(__aarch64__) && defined(__ARM_FEATURE_CRC32)
#include <arm_acle.h>
#endif

namespace kvtier {
namespace {

constexpr std::uint32_t kPolynomial = 0x82F63B78;  // bit-reversed Castagnoli

using Table = std::array<std::uint32_t, 256>;

// tables[k][b]: the register after byte b and k zero bytes.
constexpr std::array<Table, 8> MakeSlicingTables() {
  std::array<Table, 8> tables{};
  for (std::uint32_t b = 0; b < 256; ++b) {
    std::uint32_t crc = b;
    for (int bit = 0; bit < 8; ++bit) crc = (crc >> 1) ^ ((crc & 1) ? kPolynomial : 0);
    tables[0][b] = crc;
  }
  for (std::size_t k = 1; k < 8; ++k) {
    for (std::uint32_t b = 0; b < 256; ++b) {
      const std::uint32_t crc = tables[k - 1][b];
      tables[k][b] = (crc >> 8) ^ tables[0][crc & 0xFF];
    }
  }
  return tables;
}
constexpr auto kSlicing = MakeSlicingTables();

std::uint64_t Load64(const std::byte* from) {
  std::uint64_t word;
  std::memcpy(&word, from, sizeof word);
  return word;
}

std::uint32_t UpdatePortable(std::uint32_t crc, const std::byte* at, std::size_t size) {
  for (; size >= 8; at += 8, size -= 8) {
    const std::uint64_t word = Load64(at) ^ crc;
    crc = 0;
    for (int k = 0; k < 8; ++k) crc ^= kSlicing[7 - k][(word >> (8 * k)) & 0xFF];
  }
  for (; size > 0; ++at, --size) {
    crc = (crc >> 8) ^ kSlicing[0][(crc ^ std::to_integer<std::uint32_t>(*at)) & 0xFF];
  }
  return crc;
}

#if defined(__x86_64__)
#define KVTIER_CRC32C_HARDWARE __attribute__((target("sse4.2")))
inline KVTIER_CRC32C_HARDWARE std::uint64_t Step64(std::uint64_t crc, const std::byte* at) {
  return _mm_crc32_u64(crc, Load64(at));
}
inline KVTIER_CRC32C_HARDWARE std::uint32_t Step8(std::uint32_t crc, std::byte value) {
  return _mm_crc32_u8(crc, std::to_integer<std::uint8_t>(value));
}
bool HasInstruction() { return __builtin_cpu_supports("sse4.2") != 0; }
#elif defined(__aarch64__) && defined(__ARM_FEATURE_CRC32)
#define KVTIER_CRC32C_HARDWARE
inline std::uint64_t Step64(std::uint64_t crc, const std::byte* at) {
  return __crc32cd(static_cast<std::uint32_t>(crc), Load64(at));
}
inline std::uint32_t Step8(std::uint32_t crc, std::byte value) {
  return __crc32cb(crc, std::to_integer<std::uint8_t>(value));
}
bool HasInstruction() { return true; }
#endif

#if defined(KVTIER_CRC32C_HARDWARE)

// The instruction takes three cycles but one can start every cycle, so three lanes run side by
// side over neighbouring stretches; a lane's register is then moved past the stretches after it.
// Moving is linear in the register's bits, hence four table look-ups.
class Shift {
 public:
  // Moves a register past `bytes` zero bytes.
  explicit Shift(std::size_t bytes) {
    std::array<std::uint32_t, 32> image;
    for (int bit = 0; bit < 32; ++bit) {
      std::uint32_t crc = 1u << bit;
      for (std::size_t i = 0; i < bytes; ++i) crc = (crc >> 8) ^ kSlicing[0][crc & 0xFF];
      image[bit] = crc;
    }
    for (int k = 0; k < 4; ++k) {
      for (std::uint32_t b = 0; b < 256; ++b) {
        std::uint32_t sum = 0;
        for (int bit = 0; bit < 8; ++bit) sum ^= ((b >> bit) & 1) ? image[8 * k + bit] : 0;
        tables_[k][b] = sum;
      }
    }
  }

  std::uint32_t operator()(std::uint32_t crc) const {
    return tables_[0][crc & 0xFF] ^ tables_[1][(crc >> 8) & 0xFF] ^ tables_[2][(crc >> 16) & 0xFF] ^
           tables_[3][crc >> 24];
  }

 private:
  std::array<Table, 4> tables_;
};

constexpr std::size_t kLongStretch = 4096;
constexpr std::size_t kShortStretch = 256;

KVTIER_CRC32C_HARDWARE std::uint32_t ThreeLanes(std::uint32_t crc, const std::byte*& at,
                                                std::size_t& size, std::size_t stretch,
                                                const Shift& shift) {
  while (size >= 3 * stretch) {
    std::uint64_t first = crc, second = 0, third = 0;
    for (const std::byte* end = at + stretch; at < end; at += 8) {
      first = Step64(first, at);
      second = Step64(second, at + stretch);
      third = Step64(third, at + 2 * stretch);
    }
    const std::uint32_t two = shift(static_cast<std::uint32_t>(first)) ^ second;
    crc = shift(two) ^ static_cast<std::uint32_t>(third);
    at += 2 * stretch;
    size -= 3 * stretch;
  }
  return crc;
}

KVTIER_CRC32C_HARDWARE std::uint32_t UpdateHardware(std::uint32_t crc, const std::byte* at,
                                                    std::size_t size) {
  static const Shift long_shift(kLongStretch);
  static const Shift short_shift(kShortStretch);
  crc = ThreeLanes(crc, at, size, kLongStretch, long_shift);
  crc = ThreeLanes(crc, at, size, kShortStretch, short_shift);
  for (; size >= 8; at += 8, size -= 8) crc = static_cast<std::uint32_t>(Step64(crc, at));
  for (; size > 0; ++at, --size) crc = Step8(crc, *at);
  return crc;
}

#else
bool HasInstruction() { return false; }
std::uint32_t UpdateHardware(std::uint32_t crc, const std::byte* at, std::size_t size) {
  return UpdatePortable(crc, at, size);
}
#endif

const bool kAccelerated = HasInstruction();

}  // namespace

std::uint32_t Crc32c(std::span<const std::byte> data, std::uint32_t seed) {
  const auto update = kAccelerated ? UpdateHardware : UpdatePortable;
  return ~update(~seed, data.data(), data.size());
}

std::uint32_t Crc32cPortable(std::span<const std::byte> data, std::uint32_t seed) {
  return ~UpdatePortable(~seed, data.data(), data.size());
}

bool Crc32cIsAccelerated() { return kAccelerated; }

}  // namespace kvtier
