#pragma once

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "device.h"

namespace kvtier {

// A file and a device that do what another one does: bases for those that change something of it.
class ForwardingFile : public File {
 public:
  explicit ForwardingFile(std::unique_ptr<File> inner) : inner_(std::move(inner)) {}

  IoStatus Read(std::span<iovec> pieces, std::uint64_t offset) override {
    return inner_->Read(pieces, offset);
  }
  IoStatus Write(std::span<iovec> pieces, std::uint64_t offset) override {
    return inner_->Write(pieces, offset);
  }
  IoStatus ReadInParts(std::span<iovec> pieces, std::uint64_t offset,
                       const Progress& arrived) override {
    return inner_->ReadInParts(pieces, offset, arrived);
  }
  IoStatus WriteInParts(std::span<iovec> pieces, std::uint64_t offset,
                        const Progress& prepare) override {
    return inner_->WriteInParts(pieces, offset, prepare);
  }
  IoStatus Sync() override { return inner_->Sync(); }
  IoStatus Allocate(std::uint64_t offset, std::uint64_t bytes) override {
    return inner_->Allocate(offset, bytes);
  }
  IoStatus Punch(std::uint64_t offset, std::uint64_t bytes) override {
    return inner_->Punch(offset, bytes);
  }
  IoStatus Truncate(std::uint64_t bytes) override { return inner_->Truncate(bytes); }
  std::uint64_t SizeBytes() override { return inner_->SizeBytes(); }
  std::uint64_t AllocatedBytes() override { return inner_->AllocatedBytes(); }

 private:
  const std::unique_ptr<File> inner_;
};

class ForwardingDevice : public Device {
 public:
  explicit ForwardingDevice(std::unique_ptr<Device> inner) : inner_(std::move(inner)) {}

  IoStatus Open(const std::string& name, Access access, bool create,
                std::unique_ptr<File>& file) override {
    return inner_->Open(name, access, create, file);
  }
  IoStatus Rename(const std::string& from, const std::string& to) override {
    return inner_->Rename(from, to);
  }
  IoStatus Remove(const std::string& name) override { return inner_->Remove(name); }
  IoStatus SyncNames() override { return inner_->SyncNames(); }
  IoStatus List(std::vector<std::string>& names) override { return inner_->List(names); }
  IoStatus FreeBytes(std::uint64_t& bytes) override { return inner_->FreeBytes(bytes); }
  bool IsDirect() const override { return inner_->IsDirect(); }
  IoStatus CheckPresent() override { return inner_->CheckPresent(); }

 private:
  const std::unique_ptr<Device> inner_;
};

}  // namespace kvtier
