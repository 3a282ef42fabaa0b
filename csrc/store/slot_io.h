#pragma once

#include <cstdint>
#include <cstdlib>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "arena.h"
#include "format.h"
#include "payload_walk.h"
#include "segments.h"
#include "status.h"

namespace kvtier {

// Memory aligned for direct I/O, kept and reused: the first touch of fresh memory is dear.
class BlockBuffer {
 public:
  // At least `bytes` long; the contents are whatever they were.
  std::span<std::byte> Get(std::size_t bytes);

 private:
  struct Free {
    void operator()(std::byte* memory) const { std::free(memory); }
  };
  std::unique_ptr<std::byte[], Free> memory_;
  std::size_t bytes_ = 0;
};

struct ReadOutcome {
  IoStatus io;
  std::optional<Corruption> corruption;  // set only if io.ok() or the file was short

  bool ok() const { return io.ok() && !corruption; }
};

// Reads and writes whole slots: header and payload in one transfer, the payload scattered over
// the caller's pieces, and checksummed while it moves. What direct I/O cannot take goes through a
// buffer. For one thread at a time; several of them work on the same Segments.
class SlotIo {
 public:
  SlotIo(Segments& segments, const Uuid& uuid) : segments_(segments), uuid_(uuid) {}

  // Writes `pieces`, whose lengths add up to header.payload_bytes. Fills in the header's uuid and
  // checksums. The header goes last: before that the slot holds what vouches for other bytes.
  IoStatus Write(std::uint64_t slot, SlotHeader header, std::span<const Piece> pieces);

  // Fills `pieces` if the slot holds just what `wanted` says (key, namespace, sequence, length).
  // What they hold after any other outcome is undefined.
  ReadOutcome Read(std::uint64_t slot, const SlotHeader& wanted, std::span<const Piece> pieces);

 private:
  // Lays out one transfer over header block, pieces and padding.
  void Arrange(std::span<const Piece> pieces, std::uint64_t payload_bytes);

  Segments& segments_;
  const Uuid uuid_;
  BlockBuffer header_block_;
  BlockBuffer shadow_blocks_;
  Shadow shadow_;
  std::vector<iovec> transfer_;
};

}  // namespace kvtier
