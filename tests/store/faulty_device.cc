#include "faulty_device.h"

#include <string>
#include <utility>

#include "format.h"

namespace kvtier::testing {

void Faults::Set(int& field, int error) {
  const std::lock_guard lock(mutex_);
  field = error;
}

void Faults::Stall() {
  const std::lock_guard lock(mutex_);
  stalled_ = true;
}

void Faults::Release() {
  {
    const std::lock_guard lock(mutex_);
    stalled_ = false;
  }
  changed_.notify_all();
}

void Faults::WaitForStalled(int count) {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [&] { return waiting_ >= count; });
}

void Faults::WaitWhileStalled(std::unique_lock<std::mutex>& lock) {
  if (!stalled_) return;
  ++waiting_;
  changed_.notify_all();
  changed_.wait(lock, [this] { return !stalled_; });
  --waiting_;
}

int Faults::OnRead() {
  std::unique_lock lock(mutex_);
  WaitWhileStalled(lock);
  return read_error_;
}

int Faults::OnWrite(bool is_segment) {
  std::unique_lock lock(mutex_);
  if (!is_segment) return metadata_write_error_;
  WaitWhileStalled(lock);
  return write_error_;
}

int Faults::OnGrow() {
  const std::lock_guard lock(mutex_);
  return grow_error_;
}

int Faults::OnSync() {
  const std::lock_guard lock(mutex_);
  return sync_error_;
}

namespace {

class FaultyFile : public File {
 public:
  FaultyFile(std::unique_ptr<File> inner, std::shared_ptr<Faults> faults, bool is_segment)
      : inner_(std::move(inner)), faults_(std::move(faults)), is_segment_(is_segment) {}

  IoStatus Read(std::span<iovec> pieces, std::uint64_t offset) override {
    const int error = faults_->OnRead();
    return error != 0 ? IoStatus(error) : inner_->Read(pieces, offset);
  }
  IoStatus Write(std::span<iovec> pieces, std::uint64_t offset) override {
    const int error = faults_->OnWrite(is_segment_);
    return error != 0 ? IoStatus(error) : inner_->Write(pieces, offset);
  }
  IoStatus Sync() override {
    const int error = faults_->OnSync();
    return error != 0 ? IoStatus(error) : inner_->Sync();
  }
  IoStatus Grow(std::uint64_t bytes) override {
    const int error = faults_->OnGrow();
    return error != 0 ? IoStatus(error) : inner_->Grow(bytes);
  }
  IoStatus Truncate(std::uint64_t bytes) override { return inner_->Truncate(bytes); }
  std::uint64_t SizeBytes() override { return inner_->SizeBytes(); }

 private:
  const std::unique_ptr<File> inner_;
  const std::shared_ptr<Faults> faults_;
  const bool is_segment_;
};

class FaultyDevice : public Device {
 public:
  FaultyDevice(std::unique_ptr<Device> inner, std::shared_ptr<Faults> faults)
      : inner_(std::move(inner)), faults_(std::move(faults)) {}

  IoStatus Open(const std::string& name, Access access, bool create,
                std::unique_ptr<File>& file) override {
    const IoStatus status = inner_->Open(name, access, create, file);
    const bool is_segment = name.starts_with(kSegmentPrefix);
    if (status.ok()) file = std::make_unique<FaultyFile>(std::move(file), faults_, is_segment);
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
  const std::shared_ptr<Faults> faults_;
};

}  // namespace

std::unique_ptr<Device> MakeFaulty(std::unique_ptr<Device> inner, std::shared_ptr<Faults> faults) {
  return std::make_unique<FaultyDevice>(std::move(inner), std::move(faults));
}

}  // namespace kvtier::testing
