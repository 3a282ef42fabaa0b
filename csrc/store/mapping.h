#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

namespace kvtier {

// What kind of memory backs an arena; each but the first is also a fallback of the one before.
enum class Backing { kHuge1G, kHuge2M, kTransparent, kPlain };

// Bytes that every part of an arena with this backing begins at a multiple of.
std::size_t BackingAlignment(Backing backing);

// A shared, writable mapping of a whole memfd. Owns a duplicate of the descriptor. The mapping
// lives as long as this object; whoever hands out addresses into it holds a shared_ptr to it.
class SharedMapping {
 public:
  // Maps the first `bytes` of `fd`, which must be that large. Throws ArenaError.
  SharedMapping(int fd, std::size_t bytes, Backing wanted);
  ~SharedMapping();
  SharedMapping(const SharedMapping&) = delete;
  SharedMapping& operator=(const SharedMapping&) = delete;

  std::byte* data() const { return data_; }
  std::size_t size() const { return size_; }
  int fd() const { return fd_; }

  // What the memory really is, whatever was asked for.
  Backing backing() const { return backing_; }

  // Binds a range to a NUMA node: an errno value, or 0. Only pages not yet populated move.
  int Bind(std::size_t offset, std::size_t bytes, int node) const;

  // Allocates a range now: an errno value, or 0. Without it a full machine shows as SIGBUS or
  // the OOM killer at some later touch.
  int Populate(std::size_t offset, std::size_t bytes) const;

  // Gives the memory of a range back to the system: an errno value, or 0. The range stays mapped
  // and reads as zeroes.
  int Release(std::size_t offset, std::size_t bytes) const;

 private:
  void MakeHuge();

  int fd_ = -1;
  std::byte* data_ = nullptr;
  std::size_t size_ = 0;
  Backing backing_ = Backing::kPlain;
  bool collapses_ = false;  // huge pages come about by gathering, after populating
};

// Bytes of one page of the memory behind `fd`: hugetlbfs tells its own, else the system's.
// Throws ArenaError if `fd` is no file.
std::size_t MemoryPageBytes(int fd);

// Bytes of the file behind `fd`. Throws ArenaError.
std::size_t FileBytes(int fd);

// Makes the file `bytes` long. Throws ArenaError.
void ResizeFile(int fd, std::size_t bytes);

}  // namespace kvtier
