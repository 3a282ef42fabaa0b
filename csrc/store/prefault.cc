#include "prefault.h"

#include <algorithm>

#include "align.h"
#include "error.h"

namespace kvtier {
namespace {
constexpr std::size_t kChunkBytes = std::size_t{32} << 20;  // some 10 ms of work: progress, stop
}

Prefault::Prefault(std::shared_ptr<SharedMapping> mapping, int threads)
    : mapping_(std::move(mapping)),
      chunk_bytes_(std::max(kChunkBytes, BackingAlignment(mapping_->backing()))) {
  for (int i = 0; i < std::max(1, threads); ++i) threads_.emplace_back([this] { Run(); });
}

Prefault::~Prefault() {
  stop_ = true;
  for (std::thread& thread : threads_) thread.join();
}

std::optional<std::string> Prefault::error() const {
  const std::lock_guard lock(mutex_);
  return error_;
}

void Prefault::Run() {
  while (!stop_) {
    const std::size_t offset = next_.fetch_add(chunk_bytes_);
    if (offset >= mapping_->size()) return;
    const std::size_t bytes = std::min(chunk_bytes_, mapping_->size() - offset);
    const int error = mapping_->Populate(offset, bytes);
    if (error != 0) {
      stop_ = true;
      const std::lock_guard lock(mutex_);
      error_ = "cannot populate the arena beyond " + std::to_string(populated_bytes_.load()) +
               " of " + std::to_string(mapping_->size()) + " bytes: " + ErrnoText(error) +
               "; make the arena smaller or free memory";
      return;
    }
    populated_bytes_ += bytes;
  }
}

}  // namespace kvtier
