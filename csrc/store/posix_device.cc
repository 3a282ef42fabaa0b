#include "posix_device.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <filesystem>
#include <system_error>

#include "error.h"
#include "posix_file.h"

namespace kvtier {
namespace {

class PosixDevice : public Device {
 public:
  PosixDevice(std::string path, int fd, bool uses_uring, bool is_read_only)
      : path_(std::move(path)), fd_(fd), opener_(fd, uses_uring, is_read_only) {}
  ~PosixDevice() override { ::close(fd_); }

  IoStatus Open(const std::string& name, Access access, bool create,
                std::unique_ptr<File>& file) override {
    return opener_.Open(name, access, create, file);
  }

  IoStatus Rename(const std::string& from, const std::string& to) override {
    return IoStatus(::renameat(fd_, from.c_str(), fd_, to.c_str()) == 0 ? 0 : errno);
  }

  IoStatus Remove(const std::string& name) override {
    return IoStatus(::unlinkat(fd_, name.c_str(), 0) == 0 ? 0 : errno);
  }

  IoStatus SyncNames() override { return IoStatus(::fsync(fd_) == 0 ? 0 : errno); }

  IoStatus List(std::vector<std::string>& names) override {
    const int fd = ::openat(fd_, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR* directory = fd < 0 ? nullptr : ::fdopendir(fd);
    if (directory == nullptr) {
      const int error = errno;
      if (fd >= 0) ::close(fd);
      return IoStatus(error);
    }
    errno = 0;
    while (const dirent* entry = ::readdir(directory)) {
      const std::string name = entry->d_name;
      if (name != "." && name != "..") names.push_back(name);
    }
    const int error = errno;
    ::closedir(directory);
    return IoStatus(error);
  }

  IoStatus FreeBytes(std::uint64_t& bytes) override {
    struct statvfs info{};
    if (::fstatvfs(fd_, &info) != 0) return IoStatus(errno);
    bytes = static_cast<std::uint64_t>(info.f_bavail) * info.f_frsize;
    return {};
  }

  bool IsDirect() const override { return opener_.is_direct(); }

  IoStatus CheckPresent() override {
    struct stat opened{}, named{};
    if (::fstat(fd_, &opened) != 0) return IoStatus(errno);
    if (::stat(path_.c_str(), &named) != 0) {
      return IoStatus(errno == ENOENT || errno == ENOTDIR ? IoStatus::kGone : errno);
    }
    const bool same = opened.st_dev == named.st_dev && opened.st_ino == named.st_ino;
    return IoStatus(same ? 0 : IoStatus::kGone);
  }

 private:
  const std::string path_;
  const int fd_;
  PosixOpener opener_;
};

}  // namespace

void MakeDirectory(const std::string& path) {
  namespace fs = std::filesystem;
  std::error_code error;
  const fs::file_status status = fs::symlink_status(path, error);
  if (fs::is_symlink(status)) {
    throw StoreError(path + " is a symbolic link; name the directory itself");
  }
  if (fs::is_directory(status)) return;
  if (fs::exists(status)) throw StoreError(path + " is not a directory");
  const fs::path parent = fs::path(path).parent_path();
  if (!parent.empty()) fs::create_directories(parent, error);
  if (::mkdir(path.c_str(), 0700) != 0 && errno != EEXIST) {
    IoStatus(errno).Throw("create " + path);
  }
}

namespace {

int OpenDirectory(const std::string& path) {
  const int fd = ::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
  if (fd < 0) IoStatus(errno).Throw("open the directory " + path);
  return fd;
}

}  // namespace

std::unique_ptr<Device> OpenPosixDevice(const std::string& path, IoEngine engine) {
  const int fd = OpenDirectory(path);
  auto device = std::make_unique<PosixDevice>(path, fd, engine == IoEngine::kIoUring, false);
  if (::faccessat(fd, ".", R_OK | W_OK | X_OK, AT_EACCESS) != 0) {
    IoStatus(errno).Throw("read and write " + path);
  }
  return device;
}

std::unique_ptr<Device> OpenReadOnlyDevice(const std::string& path) {
  return std::make_unique<PosixDevice>(path, OpenDirectory(path), false, true);
}

}  // namespace kvtier
