#pragma once

#include <memory>
#include <mutex>
#include <vector>

namespace kvtier {

class Store;

// The open stores of this process: closed at its exit. A forked child has none.
class ProcessStores {
 public:
  static ProcessStores& Get();

  void Add(const std::shared_ptr<Store>& store);
  void CloseAll();

 private:
  ProcessStores();

  std::mutex mutex_;
  std::vector<std::weak_ptr<Store>> stores_;  // guarded by mutex_
};

}  // namespace kvtier
