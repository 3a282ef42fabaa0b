#pragma once

#include <memory>
#include <mutex>
#include <vector>

namespace kvtier {

class Store;

// The open stores of this process: closed at its exit, and told of a fork, whose child has none of
// their threads and must not keep their locks.
class ProcessStores {
 public:
  static ProcessStores& Get();

  void Add(const std::shared_ptr<Store>& store);
  void CloseAll();

 private:
  ProcessStores();
  void ForgetInChild();

  std::mutex mutex_;
  std::vector<std::weak_ptr<Store>> stores_;  // guarded by mutex_
};

}  // namespace kvtier
