#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "store.h"
#include "test_pages.h"

namespace kvtier::testing {

// Waits for the one completion that is on its way.
Status WaitOne(Store& store);
// Puts or gets one page and waits for the end.
Status PutPage(Store& store, std::uint64_t i, std::uint64_t parent = 0);
// Fails the test if the status is kOk and the bytes are not the key's page.
Status GetPage(Store& store, std::uint64_t i);

// Whether the call throws StoreError; Catch's own macros are for one thread.
bool FlushFails(Store& store);
bool CloseFails(Store& store);

// Polls until `holds` or a generous deadline; whether it came to hold.
bool Eventually(const std::function<bool()>& holds);

}  // namespace kvtier::testing
