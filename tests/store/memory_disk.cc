#include "memory_disk.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <set>

namespace kvtier::testing {

constexpr std::size_t kSectorBytes = 512;

class MemoryFile : public File {
 public:
  MemoryFile(MemoryDisk& disk, std::shared_ptr<MemoryDisk::Content> content)
      : disk_(disk), content_(std::move(content)) {}

  IoStatus Read(std::span<iovec> pieces, std::uint64_t offset) override {
    const std::lock_guard lock(disk_.mutex_);
    if (!disk_.has_power_) return IoStatus(EIO);
    for (const iovec& piece : pieces) {
      if (offset + piece.iov_len > content_->current.size()) return IoStatus(IoStatus::kShort);
      std::memcpy(piece.iov_base, content_->current.data() + offset, piece.iov_len);
      offset += piece.iov_len;
    }
    return {};
  }

  IoStatus Write(std::span<iovec> pieces, std::uint64_t offset) override {
    MemoryDisk::Change change{.is_resize = false, .offset = offset, .data = {}};
    for (const iovec& piece : pieces) {
      const auto* from = static_cast<const std::byte*>(piece.iov_base);
      change.data.insert(change.data.end(), from, from + piece.iov_len);
    }
    return Make(std::move(change));
  }

  // In two writes, as a ring does it: the power may fail between them.
  IoStatus WriteInParts(std::span<iovec> pieces, std::uint64_t offset,
                        const Progress& prepare) override {
    std::span<iovec> first = pieces.first(1), rest = pieces.subspan(1);
    prepare(first.front().iov_len);
    prepare(TotalBytes(pieces));
    const IoStatus status = Write(rest, offset + first.front().iov_len);
    return status.ok() ? Write(first, offset) : status;
  }

  IoStatus Allocate(std::uint64_t offset, std::uint64_t bytes) override {
    return SizeBytes() >= offset + bytes ? IoStatus() : Truncate(offset + bytes);
  }

  std::uint64_t AllocatedBytes() override { return SizeBytes(); }

  IoStatus Punch(std::uint64_t offset, std::uint64_t bytes) override {
    const std::uint64_t size = SizeBytes();
    if (offset >= size) return {};
    std::vector<std::byte> zeroes(std::min(bytes, size - offset));
    return WriteAll(*this, zeroes, offset);
  }

  IoStatus Truncate(std::uint64_t bytes) override {
    return Make({.is_resize = true, .offset = bytes, .data = {}});
  }

  IoStatus Sync() override {
    const std::lock_guard lock(disk_.mutex_);
    if (!disk_.Count()) return IoStatus(EIO);
    content_->durable = content_->current;
    content_->unsynced.clear();
    return {};
  }

  std::uint64_t SizeBytes() override {
    const std::lock_guard lock(disk_.mutex_);
    return content_->current.size();
  }

 private:
  IoStatus Make(MemoryDisk::Change change) {
    const std::lock_guard lock(disk_.mutex_);
    const bool had_power = disk_.has_power_;
    const bool ends = disk_.Count();
    if (!had_power) return IoStatus(EIO);
    MemoryDisk::Apply(change, content_->current);
    content_->unsynced.push_back(std::move(change));
    return IoStatus(ends ? 0 : EIO);
  }

  MemoryDisk& disk_;
  const std::shared_ptr<MemoryDisk::Content> content_;
};

class MemoryDevice : public Device {
 public:
  explicit MemoryDevice(MemoryDisk& disk) : disk_(disk) {}

  IoStatus Open(const std::string& name, Access, bool create,
                std::unique_ptr<File>& file) override {
    const std::lock_guard lock(disk_.mutex_);
    if (!disk_.has_power_) return IoStatus(EIO);
    if (!disk_.names_.contains(name)) {
      if (!create) return IoStatus(ENOENT);
      if (!disk_.Count()) return IoStatus(EIO);
      disk_.names_[name] = std::make_shared<MemoryDisk::Content>();
      disk_.unsynced_names_.push_back(disk_.names_);
    }
    file = std::make_unique<MemoryFile>(disk_, disk_.names_[name]);
    return {};
  }

  IoStatus Rename(const std::string& from, const std::string& to) override {
    const std::lock_guard lock(disk_.mutex_);
    if (!disk_.Count()) return IoStatus(EIO);
    if (!disk_.names_.contains(from)) return IoStatus(ENOENT);
    disk_.names_[to] = disk_.names_[from];
    disk_.names_.erase(from);
    disk_.unsynced_names_.push_back(disk_.names_);
    return {};
  }

  IoStatus Remove(const std::string& name) override {
    const std::lock_guard lock(disk_.mutex_);
    if (!disk_.Count()) return IoStatus(EIO);
    if (disk_.names_.erase(name) == 0) return IoStatus(ENOENT);
    disk_.unsynced_names_.push_back(disk_.names_);
    return {};
  }

  IoStatus SyncNames() override {
    const std::lock_guard lock(disk_.mutex_);
    if (!disk_.Count()) return IoStatus(EIO);
    disk_.durable_names_ = disk_.names_;
    disk_.unsynced_names_.clear();
    return {};
  }

  IoStatus List(std::vector<std::string>& names) override {
    const std::lock_guard lock(disk_.mutex_);
    if (!disk_.has_power_) return IoStatus(EIO);
    for (const auto& [name, content] : disk_.names_) names.push_back(name);
    return {};
  }

  IoStatus FreeBytes(std::uint64_t& bytes) override {
    bytes = std::uint64_t{1} << 40;
    return {};
  }

  IoStatus CheckPresent() override { return IoStatus(disk_.has_power() ? 0 : EIO); }

 private:
  MemoryDisk& disk_;
};

MemoryDisk::Image MemoryDisk::image() const {
  const std::lock_guard lock(mutex_);
  Image image;
  for (const auto& [name, content] : names_) image[name] = content->current;
  return image;
}

void MemoryDisk::Load(const Image& image) {
  const std::lock_guard lock(mutex_);
  names_.clear();
  for (const auto& [name, bytes] : image) {
    names_[name] = std::make_shared<Content>(Content{bytes, bytes, {}});
  }
  durable_names_ = names_;
  unsynced_names_.clear();
}

std::unique_ptr<Device> MemoryDisk::Open() { return std::make_unique<MemoryDevice>(*this); }

void MemoryDisk::FailPowerAfter(std::uint64_t changes) {
  const std::lock_guard lock(mutex_);
  power_fails_at_ = changes_ + changes;
  if (changes == 0) has_power_ = false;
}

bool MemoryDisk::has_power() const {
  const std::lock_guard lock(mutex_);
  return has_power_;
}

std::uint64_t MemoryDisk::changes() const {
  const std::lock_guard lock(mutex_);
  return changes_;
}

bool MemoryDisk::Count() {
  if (!has_power_) return false;
  if (++changes_ >= power_fails_at_) has_power_ = false;
  return has_power_;
}

void MemoryDisk::Apply(const Change& change, std::vector<std::byte>& bytes) {
  if (change.is_resize) {
    bytes.resize(change.offset);
    return;
  }
  bytes.resize(std::max<std::size_t>(bytes.size(), change.offset + change.data.size()));
  std::ranges::copy(change.data, bytes.begin() + static_cast<std::ptrdiff_t>(change.offset));
}

void MemoryDisk::Survive(Content& content) {
  for (const Change& change : content.unsynced) {
    const auto fate = random_() % 3;
    if (fate == 0) continue;
    if (fate == 1 || change.is_resize) {
      Apply(change, content.durable);
      continue;
    }
    for (std::size_t at = 0; at < change.data.size(); at += kSectorBytes) {
      if (random_() % 2 == 0) continue;
      const std::size_t end = std::min(at + kSectorBytes, change.data.size());
      const auto begin = change.data.begin();
      Apply({false,
             change.offset + at,
             {begin + static_cast<std::ptrdiff_t>(at), begin + static_cast<std::ptrdiff_t>(end)}},
            content.durable);
    }
  }
  content.unsynced.clear();
  content.current = content.durable;
}

void MemoryDisk::RestorePower() {
  const std::lock_guard lock(mutex_);
  std::set<std::shared_ptr<Content>> contents;
  const auto collect = [&](const Names& names) {
    for (const auto& [name, content] : names) contents.insert(content);
  };
  const std::size_t survivors = random_() % (unsynced_names_.size() + 1);
  if (survivors > 0) durable_names_ = unsynced_names_[survivors - 1];
  collect(names_);
  collect(durable_names_);
  for (const auto& content : contents) Survive(*content);
  names_ = durable_names_;
  unsynced_names_.clear();
  power_fails_at_ = UINT64_MAX;
  has_power_ = true;
}

}  // namespace kvtier::testing
