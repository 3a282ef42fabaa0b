#pragma once

#include <condition_variable>
#include <cstddef>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "arena_layout.h"
#include "mapping.h"

namespace kvtier {

// Populates a mapping from background threads, and gives memory back. The mapping consists of
// extents; of each, the first bytes are wanted and the rest is not. Extents are populated side by
// side, so that the first slots of all parts are there first. Thread-safe. The destructor stops
// the threads (within one chunk's time) and joins them.
class Prefault {
 public:
  Prefault(std::shared_ptr<SharedMapping> mapping, const std::vector<Extent>& extents);
  ~Prefault();

  // Populates `wanted[i]` bytes of each extent, what is there already left out. Never less than
  // was wanted before; after a failure it tries again.
  void Grow(const std::vector<std::size_t>& wanted, int threads);

  // Wants no more than `wanted[i]` bytes of each extent, and gives the memory behind them back to
  // the system, with its bytes. `wanted` in whole pages of the backing. An errno value, or 0.
  int Shrink(const std::vector<std::size_t>& wanted);

  std::size_t populated_bytes() const;
  std::size_t wanted_bytes() const;

  // The sentence that says why it stopped early, if it did.
  std::optional<std::string> error() const;

 private:
  struct Chunk {
    std::size_t populated = 0;
    bool is_busy = false;
  };
  struct Place {
    std::size_t begin;
    std::size_t bytes;
    std::size_t wanted = 0;
    std::vector<Chunk> chunks;
  };
  struct Task {
    std::size_t place;
    std::size_t chunk;
    std::size_t from;  // within the chunk
    std::size_t to;
  };

  void Run();

  // The caller holds mutex_ for these.
  std::size_t WantedOf(const Place& place, std::size_t chunk) const;
  std::size_t WantedBytes() const;
  std::optional<Task> NextTask();
  void End(const Task& task, int error);
  bool IsBusyBehind(const std::vector<std::size_t>& wanted) const;
  void Forget(const std::vector<std::size_t>& wanted);

  const std::shared_ptr<SharedMapping> mapping_;
  const std::size_t chunk_bytes_;
  std::mutex resizing_;  // one Grow or Shrink at a time; taken before mutex_
  mutable std::mutex mutex_;
  std::condition_variable chunk_ended_;
  std::vector<std::thread> threads_;  // guarded by resizing_
  std::vector<Place> places_;         // guarded by mutex_, as all that follows
  std::size_t rows_ = 0;              // chunks of the longest extent
  std::size_t next_row_ = 0;          // nothing is left to do in the rows before it
  std::size_t populated_bytes_ = 0;   // over all chunks
  std::optional<std::string> error_;
  int running_ = 0;  // threads that look for more to do
  bool is_stopping_ = false;
};

}  // namespace kvtier
