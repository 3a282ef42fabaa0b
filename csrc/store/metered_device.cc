#include "metered_device.h"

#include <utility>

#include "forwarding_device.h"

namespace kvtier {
namespace {

class MeteredFile : public ForwardingFile {
 public:
  MeteredFile(std::unique_ptr<File> inner, DiskTraffic& traffic)
      : ForwardingFile(std::move(inner)), traffic_(traffic) {}

  IoStatus Read(std::span<iovec> pieces, std::uint64_t offset) override {
    traffic_.read_bytes += TotalBytes(pieces);
    return ForwardingFile::Read(pieces, offset);
  }
  IoStatus Write(std::span<iovec> pieces, std::uint64_t offset) override {
    traffic_.written_bytes += TotalBytes(pieces);
    return ForwardingFile::Write(pieces, offset);
  }
  IoStatus ReadInParts(std::span<iovec> pieces, std::uint64_t offset,
                       const Progress& arrived) override {
    traffic_.read_bytes += TotalBytes(pieces);
    return ForwardingFile::ReadInParts(pieces, offset, arrived);
  }
  IoStatus WriteInParts(std::span<iovec> pieces, std::uint64_t offset,
                        const Progress& prepare) override {
    traffic_.written_bytes += TotalBytes(pieces);
    return ForwardingFile::WriteInParts(pieces, offset, prepare);
  }

 private:
  DiskTraffic& traffic_;
};

class MeteredDevice : public ForwardingDevice {
 public:
  MeteredDevice(std::unique_ptr<Device> inner, DiskTraffic& traffic)
      : ForwardingDevice(std::move(inner)), traffic_(traffic) {}

  IoStatus Open(const std::string& name, Access access, bool create,
                std::unique_ptr<File>& file) override {
    std::unique_ptr<File> opened;
    const IoStatus status = ForwardingDevice::Open(name, access, create, opened);
    if (status.ok()) file = std::make_unique<MeteredFile>(std::move(opened), traffic_);
    return status;
  }

 private:
  DiskTraffic& traffic_;
};

}  // namespace

std::unique_ptr<Device> MakeMetered(std::unique_ptr<Device> inner, DiskTraffic& traffic) {
  return std::make_unique<MeteredDevice>(std::move(inner), traffic);
}

}  // namespace kvtier
