#include "crc32c.h"

#include <catch2/catch.hpp>
#include <random>
#include <string_view>
#include <vector>

namespace kvtier {
namespace {

std::vector<std::byte> Bytes(std::string_view text) {
  const auto bytes = std::as_bytes(std::span(text));
  return {bytes.begin(), bytes.end()};
}

std::vector<std::byte> Ramp(int from, int step) {
  std::vector<std::byte> bytes;
  for (int i = 0; i < 32; ++i) bytes.push_back(static_cast<std::byte>(from + i * step));
  return bytes;
}

TEST_CASE("crc32c gives the values of RFC 3720 B.4") {
  std::vector<std::byte> read_command(48);  // B.4's SCSI Read (10) command
  const std::pair<std::size_t, int> fields[] = {{0, 0x01},  {1, 0xC0},  {16, 0x14}, {22, 0x04},
                                                {27, 0x14}, {31, 0x18}, {32, 0x28}, {40, 0x02}};
  for (const auto& [at, value] : fields) read_command[at] = static_cast<std::byte>(value);
  const std::pair<std::vector<std::byte>, std::uint32_t> vectors[] = {
      {std::vector<std::byte>(32), 0x8A9136AA},
      {std::vector<std::byte>(32, std::byte{0xFF}), 0x62A8AB43},
      {Ramp(0, 1), 0x46DD794E},
      {Ramp(31, -1), 0x113FDB5C},
      {read_command, 0xD9963A56},
      {Bytes("123456789"), 0xE3069283},
      {{}, 0},
  };
  for (const auto& [data, expected] : vectors) {
    CHECK(Crc32c(data) == expected);
    CHECK(Crc32cPortable(data) == expected);
  }
}

TEST_CASE("the accelerated crc32c equals the portable one at every length and alignment") {
  std::mt19937_64 random(7);
  std::vector<std::byte> data(64 << 10);
  for (auto& byte : data) byte = static_cast<std::byte>(random());
  for (int round = 0; round < 3000; ++round) {
    const std::size_t offset = random() % 64;
    const std::size_t size = random() % (round % 10 == 0 ? data.size() - offset : 2000);
    const auto seed = static_cast<std::uint32_t>(random());
    const auto part = std::span(data).subspan(offset, size);
    REQUIRE(Crc32c(part, seed) == Crc32cPortable(part, seed));
  }
}

TEST_CASE("crc32c of two pieces goes on from the first") {
  std::vector<std::byte> data(50000);
  for (std::size_t i = 0; i < data.size(); ++i) data[i] = static_cast<std::byte>(i * 31);
  const auto whole = std::span(data);
  for (const std::size_t cut : {0, 1, 7, 4096, 12288, 49999, 50000}) {
    CHECK(Crc32c(whole.subspan(cut), Crc32c(whole.first(cut))) == Crc32c(whole));
  }
}

}  // namespace
}  // namespace kvtier
