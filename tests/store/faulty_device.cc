#include "faulty_device.h"

#include <string>
#include <utility>

#include "format.h"
#include "forwarding_device.h"

namespace kvtier::testing {

void Faults::Set(int& field, int error) {
  const std::lock_guard lock(mutex_);
  field = error;
}

void Faults::Stall() {
  const std::lock_guard lock(mutex_);
  stalled_ = true;
}

void Faults::StallSyncs() {
  const std::lock_guard lock(mutex_);
  syncs_stalled_ = true;
}

void Faults::Release() {
  {
    const std::lock_guard lock(mutex_);
    stalled_ = false;
    syncs_stalled_ = false;
  }
  changed_.notify_all();
}

void Faults::WaitForStalled(int count) {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [&] { return waiting_ >= count; });
}

void Faults::WaitWhile(const bool& stalled, std::unique_lock<std::mutex>& lock) {
  if (!stalled) return;
  ++waiting_;
  changed_.notify_all();
  changed_.wait(lock, [&] { return !stalled; });
  --waiting_;
}

int Faults::OnRead() {
  std::unique_lock lock(mutex_);
  WaitWhile(stalled_, lock);
  return read_error_;
}

int Faults::OnWrite(bool is_segment) {
  std::unique_lock lock(mutex_);
  if (!is_segment) return metadata_write_error_;
  WaitWhile(stalled_, lock);
  return write_error_;
}

int Faults::OnGrow() {
  const std::lock_guard lock(mutex_);
  return grow_error_;
}

int Faults::OnSync() {
  std::unique_lock lock(mutex_);
  WaitWhile(syncs_stalled_, lock);
  return sync_error_;
}

bool Faults::OnLook() {
  const std::lock_guard lock(mutex_);
  return gone_ > 0 && gone_-- > 0;
}

namespace {

class FaultyFile : public ForwardingFile {
 public:
  FaultyFile(std::unique_ptr<File> inner, std::shared_ptr<Faults> faults, bool is_segment)
      : ForwardingFile(std::move(inner)), faults_(std::move(faults)), is_segment_(is_segment) {}

  IoStatus Read(std::span<iovec> pieces, std::uint64_t offset) override {
    const int error = faults_->OnRead();
    return error != 0 ? IoStatus(error) : ForwardingFile::Read(pieces, offset);
  }
  IoStatus Write(std::span<iovec> pieces, std::uint64_t offset) override {
    const int error = faults_->OnWrite(is_segment_);
    return error != 0 ? IoStatus(error) : ForwardingFile::Write(pieces, offset);
  }
  // By way of Read and Write above.
  IoStatus ReadInParts(std::span<iovec> pieces, std::uint64_t offset,
                       const Progress& arrived) override {
    return File::ReadInParts(pieces, offset, arrived);
  }
  IoStatus WriteInParts(std::span<iovec> pieces, std::uint64_t offset,
                        const Progress& prepare) override {
    return File::WriteInParts(pieces, offset, prepare);
  }
  IoStatus Sync() override {
    const int error = faults_->OnSync();
    return error != 0 ? IoStatus(error) : ForwardingFile::Sync();
  }
  IoStatus Allocate(std::uint64_t offset, std::uint64_t bytes) override {
    const int error = faults_->OnGrow();
    return error != 0 ? IoStatus(error) : ForwardingFile::Allocate(offset, bytes);
  }

 private:
  const std::shared_ptr<Faults> faults_;
  const bool is_segment_;
};

class FaultyDevice : public ForwardingDevice {
 public:
  FaultyDevice(std::unique_ptr<Device> inner, std::shared_ptr<Faults> faults)
      : ForwardingDevice(std::move(inner)), faults_(std::move(faults)) {}

  IoStatus Open(const std::string& name, Access access, bool create,
                std::unique_ptr<File>& file) override {
    const IoStatus status = ForwardingDevice::Open(name, access, create, file);
    const bool is_segment = name.starts_with(kSegmentPrefix);
    if (status.ok()) file = std::make_unique<FaultyFile>(std::move(file), faults_, is_segment);
    return status;
  }
  IoStatus CheckPresent() override {
    return faults_->OnLook() ? IoStatus(IoStatus::kGone) : ForwardingDevice::CheckPresent();
  }

 private:
  const std::shared_ptr<Faults> faults_;
};

}  // namespace

std::unique_ptr<Device> MakeFaulty(std::unique_ptr<Device> inner, std::shared_ptr<Faults> faults) {
  return std::make_unique<FaultyDevice>(std::move(inner), std::move(faults));
}

}  // namespace kvtier::testing
