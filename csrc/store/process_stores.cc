#include "process_stores.h"

#include <pthread.h>

#include "error.h"
#include "store.h"

namespace kvtier {

ProcessStores& ProcessStores::Get() {
  // Never destroyed: stores may outlive the static objects of this library.
  static ProcessStores& stores = *new ProcessStores;
  return stores;
}

ProcessStores::ProcessStores() {
  ::pthread_atfork([] { Get().mutex_.lock(); }, [] { Get().mutex_.unlock(); },
                   [] {
                     Get().stores_.clear();
                     Get().mutex_.unlock();
                   });
}

void ProcessStores::Add(const std::shared_ptr<Store>& store) {
  const std::lock_guard lock(mutex_);
  std::erase_if(stores_, [](const auto& weak) { return weak.expired(); });
  stores_.push_back(store);
}

void ProcessStores::CloseAll() {
  std::vector<std::weak_ptr<Store>> stores;
  {
    const std::lock_guard lock(mutex_);
    stores = stores_;
  }
  for (const auto& weak : stores) {
    const auto store = weak.lock();
    if (!store) continue;
    try {
      store->Close();
    } catch (const StoreError&) {
      // A disk that hangs: the others are closed all the same.
    }
  }
}

}  // namespace kvtier
