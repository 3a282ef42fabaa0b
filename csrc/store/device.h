#pragma once

#include <sys/uio.h>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace kvtier {

// How an I/O ended: 0, an errno value, or one of ours. Success means that every byte moved.
class [[nodiscard]] IoStatus {
 public:
  static constexpr int kShort = -1;     // the file ended first
  static constexpr int kNotAFile = -2;  // a directory, a FIFO or a device in a file's place
  static constexpr int kGone = -3;      // the path leads to no directory, or to another one

  constexpr IoStatus() = default;
  constexpr explicit IoStatus(int error) : error_(error) {}

  bool ok() const { return error_ == 0; }
  int error() const { return error_; }
  bool IsShort() const { return error_ == kShort; }
  bool IsNoSpace() const;  // ENOSPC, EDQUOT
  std::string Text() const;
  // Throws DiskFailed if the disk or its file system is at fault, else StoreError: "cannot " +
  // `what` + the reason. For one that is not ok.
  [[noreturn]] void Throw(const std::string& what) const;

 private:
  int error_ = 0;
};

enum class Access {
  kDirect,    // past the page cache where the file system can: blocks, aligned in every way
  kBuffered,  // any offset and length
};

// How far a transfer in parts has come: its first `bytes` bytes. Called by the thread that makes
// the transfer, with growing values, the last of which is the whole.
using Progress = std::function<void(std::uint64_t bytes)>;

// One open file. Thread-safe. Offsets in bytes.
class File {
 public:
  virtual ~File() = default;

  // Fill or write all of `pieces`, resuming what the kernel cut short, or fail. With kDirect every
  // address, length and the offset are multiples of kBlockBytes. `pieces` may be changed.
  virtual IoStatus Read(std::span<iovec> pieces, std::uint64_t offset) = 0;
  virtual IoStatus Write(std::span<iovec> pieces, std::uint64_t offset) = 0;

  // As Read, and tells of the bytes as they arrive, so that work on them overlaps with the rest.
  virtual IoStatus ReadInParts(std::span<iovec> pieces, std::uint64_t offset,
                               const Progress& arrived);
  // As Write. Before bytes are handed to the disk `prepare` is called for them and may still
  // change them; the first block, which goes last, until `prepare` has been called for the whole.
  virtual IoStatus WriteInParts(std::span<iovec> pieces, std::uint64_t offset,
                                const Progress& prepare);

  // All that was written before the call survives power loss.
  virtual IoStatus Sync() = 0;

  // Sees to room on disk for a range, and makes the file as long as its end (new bytes read as
  // zeroes).
  virtual IoStatus Allocate(std::uint64_t offset, std::uint64_t bytes) = 0;
  // The same for what the file lacks to be `bytes` long.
  IoStatus Grow(std::uint64_t bytes);

  // Gives the blocks of a range back to the file system; it reads as zeroes then, and the file
  // keeps its length. EOPNOTSUPP where the file system cannot.
  virtual IoStatus Punch(std::uint64_t offset, std::uint64_t bytes) = 0;

  virtual IoStatus Truncate(std::uint64_t bytes) = 0;
  virtual std::uint64_t SizeBytes() = 0;
  // Of its length, what has room on disk.
  virtual std::uint64_t AllocatedBytes() = 0;
};

// A directory of files on one disk: all that the store wants of a file system. Tests wrap it to
// lose power, tear writes, fail and stall. Thread-safe.
class Device {
 public:
  virtual ~Device() = default;

  // `create`: makes the file when it is missing, readable by its owner only.
  virtual IoStatus Open(const std::string& name, Access access, bool create,
                        std::unique_ptr<File>& file) = 0;
  // Replaces `to`. Survives power loss after SyncNames.
  virtual IoStatus Rename(const std::string& from, const std::string& to) = 0;
  virtual IoStatus Remove(const std::string& name) = 0;
  virtual IoStatus SyncNames() = 0;
  // Names of all that lies there, but "." and "..".
  virtual IoStatus List(std::vector<std::string>& names) = 0;
  // Bytes that an ordinary user may still take from the file system.
  virtual IoStatus FreeBytes(std::uint64_t& bytes) = 0;
  // Whether files opened with kDirect do go past the page cache, as far as is known.
  virtual bool IsDirect() const { return true; }
  // kGone when the path no longer leads to the directory that was opened (mount or folder gone).
  virtual IoStatus CheckPresent() = 0;
};

std::uint64_t TotalBytes(std::span<const iovec> pieces);

// Reads or writes one contiguous run.
IoStatus ReadAll(File& file, std::span<std::byte> out, std::uint64_t offset);
IoStatus WriteAll(File& file, std::span<const std::byte> data, std::uint64_t offset);

}  // namespace kvtier
