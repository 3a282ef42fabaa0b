#include "prefault.h"

#include <algorithm>

#include "align.h"
#include "error.h"

namespace kvtier {
namespace {
constexpr std::size_t kChunkBytes = std::size_t{32} << 20;  // some 10 ms of work: progress, stop
}

Prefault::Prefault(std::shared_ptr<SharedMapping> mapping, const std::vector<Extent>& extents)
    : mapping_(std::move(mapping)),
      chunk_bytes_(std::max(kChunkBytes, BackingAlignment(mapping_->backing()))) {
  for (const Extent& extent : extents) {
    const std::size_t chunks = RoundUp(extent.bytes, chunk_bytes_) / chunk_bytes_;
    places_.push_back({extent.begin, extent.bytes, 0, std::vector<Chunk>(chunks)});
    rows_ = std::max(rows_, chunks);
  }
}

Prefault::~Prefault() {
  {
    const std::lock_guard lock(mutex_);
    is_stopping_ = true;
  }
  for (std::thread& thread : threads_) thread.join();
}

void Prefault::Grow(const std::vector<std::size_t>& wanted, int threads) {
  const std::lock_guard resizing(resizing_);
  const std::lock_guard lock(mutex_);
  for (std::size_t i = 0; i < places_.size(); ++i) {
    places_[i].wanted = std::max(places_[i].wanted, wanted[i]);
  }
  error_.reset();
  next_row_ = 0;
  if (running_ == 0) {
    for (std::thread& thread : threads_) thread.join();  // they never take mutex_ again
    threads_.clear();
  }
  for (; running_ < std::max(1, threads); ++running_) threads_.emplace_back([this] { Run(); });
}

int Prefault::Shrink(const std::vector<std::size_t>& wanted) {
  const std::lock_guard resizing(resizing_);
  {
    std::unique_lock lock(mutex_);
    for (std::size_t i = 0; i < places_.size(); ++i) {
      places_[i].wanted = std::min(places_[i].wanted, wanted[i]);
    }
    chunk_ended_.wait(lock, [&] { return !IsBusyBehind(wanted); });
    Forget(wanted);
    if (populated_bytes_ == WantedBytes()) error_.reset();
  }
  // Without mutex_: hundreds of gigabytes take seconds, and progress may be asked for meanwhile.
  for (std::size_t i = 0; i < places_.size(); ++i) {
    const std::size_t bytes = places_[i].bytes - wanted[i];
    if (bytes == 0) continue;
    if (const int error = mapping_->Release(places_[i].begin + wanted[i], bytes)) return error;
  }
  return 0;
}

std::size_t Prefault::populated_bytes() const {
  const std::lock_guard lock(mutex_);
  return populated_bytes_;
}

std::size_t Prefault::wanted_bytes() const {
  const std::lock_guard lock(mutex_);
  return WantedBytes();
}

std::optional<std::string> Prefault::error() const {
  const std::lock_guard lock(mutex_);
  return error_;
}

std::size_t Prefault::WantedBytes() const {
  std::size_t bytes = 0;
  for (const Place& place : places_) bytes += place.wanted;
  return bytes;
}

std::size_t Prefault::WantedOf(const Place& place, std::size_t chunk) const {
  const std::size_t begin = chunk * chunk_bytes_;
  return place.wanted > begin ? std::min(chunk_bytes_, place.wanted - begin) : 0;
}

std::optional<Prefault::Task> Prefault::NextTask() {
  for (; next_row_ < rows_; ++next_row_) {
    for (std::size_t i = 0; i < places_.size(); ++i) {
      if (next_row_ >= places_[i].chunks.size()) continue;
      Chunk& chunk = places_[i].chunks[next_row_];
      const std::size_t wanted = WantedOf(places_[i], next_row_);
      if (chunk.is_busy || chunk.populated >= wanted) continue;
      chunk.is_busy = true;
      return Task{i, next_row_, chunk.populated, wanted};
    }
  }
  return std::nullopt;
}

void Prefault::End(const Task& task, int error) {
  Chunk& chunk = places_[task.place].chunks[task.chunk];
  chunk.is_busy = false;
  if (error == 0) {
    populated_bytes_ += task.to - task.from;
    chunk.populated = task.to;
    // More of it may have become wanted meanwhile, when other threads had left it out.
    next_row_ = std::min(next_row_, task.chunk);
  } else if (!error_) {
    error_ = "cannot populate the arena beyond " + std::to_string(populated_bytes_) + " of " +
             std::to_string(WantedBytes()) + " bytes: " + ErrnoText(error) +
             "; make the arena smaller or free memory";
  }
  chunk_ended_.notify_all();
}

bool Prefault::IsBusyBehind(const std::vector<std::size_t>& wanted) const {
  for (std::size_t i = 0; i < places_.size(); ++i) {
    for (std::size_t j = wanted[i] / chunk_bytes_; j < places_[i].chunks.size(); ++j) {
      if (places_[i].chunks[j].is_busy) return true;
    }
  }
  return false;
}

void Prefault::Forget(const std::vector<std::size_t>& wanted) {
  for (std::size_t i = 0; i < places_.size(); ++i) {
    for (std::size_t j = wanted[i] / chunk_bytes_; j < places_[i].chunks.size(); ++j) {
      const std::size_t begin = j * chunk_bytes_;
      const std::size_t kept = wanted[i] > begin ? wanted[i] - begin : 0;
      std::size_t& populated = places_[i].chunks[j].populated;
      if (populated <= kept) continue;
      populated_bytes_ -= populated - kept;
      populated = kept;
    }
  }
}

void Prefault::Run() {
  std::unique_lock lock(mutex_);
  while (!is_stopping_ && !error_) {
    const auto task = NextTask();
    if (!task) break;
    const std::size_t begin = places_[task->place].begin + task->chunk * chunk_bytes_;
    lock.unlock();
    const int error = mapping_->Populate(begin + task->from, task->to - task->from);
    lock.lock();
    End(*task, error);
  }
  --running_;
}

}  // namespace kvtier
