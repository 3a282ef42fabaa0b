#include "metered_device.h"

#include <utility>

namespace kvtier {
namespace {

class MeteredFile : public File {
 public:
  MeteredFile(std::unique_ptr<File> inner, DiskTraffic& traffic)
      : inner_(std::move(inner)), traffic_(traffic) {}

  IoStatus Read(std::span<iovec> pieces, std::uint64_t offset) override {
    traffic_.read_bytes += TotalBytes(pieces);
    return inner_->Read(pieces, offset);
  }
  IoStatus Write(std::span<iovec> pieces, std::uint64_t offset) override {
    traffic_.written_bytes += TotalBytes(pieces);
    return inner_->Write(pieces, offset);
  }
  IoStatus ReadInParts(std::span<iovec> pieces, std::uint64_t offset,
                       const Progress& arrived) override {
    traffic_.read_bytes += TotalBytes(pieces);
    return inner_->ReadInParts(pieces, offset, arrived);
  }
  IoStatus WriteInParts(std::span<iovec> pieces, std::uint64_t offset,
                        const Progress& prepare) override {
    traffic_.written_bytes += TotalBytes(pieces);
    return inner_->WriteInParts(pieces, offset, prepare);
  }

  IoStatus Sync() override { return inner_->Sync(); }
  IoStatus Grow(std::uint64_t bytes) override { return inner_->Grow(bytes); }
  IoStatus Truncate(std::uint64_t bytes) override { return inner_->Truncate(bytes); }
  std::uint64_t SizeBytes() override { return inner_->SizeBytes(); }

 private:
  const std::unique_ptr<File> inner_;
  DiskTraffic& traffic_;
};

class MeteredDevice : public Device {
 public:
  MeteredDevice(std::unique_ptr<Device> inner, DiskTraffic& traffic)
      : inner_(std::move(inner)), traffic_(traffic) {}

  IoStatus Open(const std::string& name, Access access, bool create,
                std::unique_ptr<File>& file) override {
    std::unique_ptr<File> opened;
    const IoStatus status = inner_->Open(name, access, create, opened);
    if (status.ok()) file = std::make_unique<MeteredFile>(std::move(opened), traffic_);
    return status;
  }
  IoStatus Rename(const std::string& from, const std::string& to) override {
    return inner_->Rename(from, to);
  }
  IoStatus Remove(const std::string& name) override { return inner_->Remove(name); }
  IoStatus SyncNames() override { return inner_->SyncNames(); }
  IoStatus List(std::vector<std::string>& names) override { return inner_->List(names); }
  IoStatus FreeBytes(std::uint64_t& bytes) override { return inner_->FreeBytes(bytes); }
  IoStatus CheckPresent() override { return inner_->CheckPresent(); }

 private:
  const std::unique_ptr<Device> inner_;
  DiskTraffic& traffic_;
};

}  // namespace

std::unique_ptr<Device> MakeMetered(std::unique_ptr<Device> inner, DiskTraffic& traffic) {
  return std::make_unique<MeteredDevice>(std::move(inner), traffic);
}

}  // namespace kvtier
