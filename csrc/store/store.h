#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <thread>
#include <vector>

#include "arena.h"
#include "completions.h"
#include "key.h"
#include "options.h"
#include "scrub.h"
#include "stats.h"
#include "status.h"
#include "volume.h"

namespace kvtier {

struct GetRequest {
  std::uint64_t ticket;
  Key key;
  std::vector<Piece> pieces;
};

struct PutRequest {
  std::uint64_t ticket;
  Key key;
  Key parent;  // zero for a chain's head
  std::vector<Piece> pieces;
  std::uint64_t chain_pages = 0;  // of the chain that it is offered with; 0: not known
};

class Lane;
class Lanes;
class Openings;
class Router;
struct StoreShared;

// Pages on disk (L3), in one or several directories. Thread-safe. Engine-neutral: it knows keys,
// addresses and lengths only. A directory whose disk fails, or could not be opened for that, is out
// of use with its pages until it works; the others go on. Belongs to the process that opened it:
// after a fork every call in the child throws.
class Store {
 public:
  // Throws StoreError with a sentence for an operator: when something about a directory has to be
  // chosen or mended, or when the disks of all of them fail. One that hangs joins when it answers.
  static std::shared_ptr<Store> Open(const std::vector<DirectorySpec>& directories,
                                     const PageGeometry& pages, const StoreOptions& options);
  ~Store();
  Store(const Store&) = delete;
  Store& operator=(const Store&) = delete;

  std::uint64_t page_bytes() const;

  std::vector<bool> Contains(std::span<const Key> keys) const;
  // How many leading keys of a chain are there.
  std::size_t LongestPrefix(std::span<const Key> keys) const;

  // Each request ends with one completion. The memory of its pieces, whose lengths add up to
  // page_bytes, stays valid until then (and unchanged, for a put). Throw std::invalid_argument
  // when they do not; then nothing of the batch was begun.
  void Submit(std::vector<GetRequest> batch);
  void Submit(std::vector<PutRequest> batch);

  Completions& completions();

  // Marks as just used, in the order given: the last is the most recent.
  void Touch(std::span<const Key> keys);
  // A pinned page is not evicted. Pins are counted, and forgotten when the store is closed.
  void Pin(std::span<const Key> keys);
  void Unpin(std::span<const Key> keys);
  // Drops those that are there and not pinned; how many. Durable after Flush.
  std::size_t Evict(std::span<const Key> keys);
  // Drops every page, pinned or not; how many. Durable when it returns. Throws StoreError when a
  // directory out of use keeps its pages.
  std::size_t Clear();

  // Reads every page and compares it as a get does; bad ones are dropped and counted. For any
  // thread, beside other work, which goes first. In directories that hang it hangs as well.
  ScrubReport Scrub(const ScrubProgress& progress, const ScrubOptions& options);

  // Returns when everything reported kOk before the call survives power loss. Throws StoreError
  // when a disk failed at that.
  void Flush();
  StoreStats Stats() const;

  // Flushes, ends what is queued as kCancelled, lets go of the directories. After it only
  // completions(), Stats() and Close() may be used; the rest throws StoreError. Throws StoreError
  // when what was written last is not durable, and, also when it is called again, while a disk
  // does not answer that had close_timeout_s for it: requests that run there keep their memory, and
  // this process the directory, until it does.
  void Close();
  // Closes every open store of this process, whatever comes of it. For the interpreter's exit.
  static void CloseAll();

  // Throws std::logic_error when the store disagrees with itself. For tests.
  void CheckIntegrity() const;

 private:
  Store(const std::vector<DirectorySpec>& directories, const PageGeometry& pages,
        const StoreOptions& options);

  void Monitor();
  void StopMonitor();
  // Of a directory that is gone.
  void WaitFor(std::size_t directory);
  std::string StopAll();
  // Throws unless this process opened the store and has not closed it.
  void RequireUsable() const;
  void RequireWholePage(std::span<const Piece> pieces) const;
  void SubmitOne(PutRequest request, std::span<const std::shared_ptr<Lane>> lanes);
  DirectoryStats StatsOf(std::size_t directory) const;

  const int process_;
  const std::vector<DirectorySpec> directories_;
  const std::shared_ptr<Lanes> lanes_;
  const std::vector<std::uint64_t> slots_max_;  // by directory
  const std::shared_ptr<StoreShared> shared_;
  const std::unique_ptr<Openings> openings_;
  const std::unique_ptr<Router> router_;
  std::uint64_t recovered_pages_ = 0;
  double recovery_s_ = 0;

  std::mutex close_mutex_;  // held by Close from beginning to end
  std::atomic<bool> closed_{false};

  std::mutex monitor_mutex_;
  std::condition_variable monitor_wake_;
  bool monitor_stopping_ = false;  // guarded by monitor_mutex_
  std::unique_ptr<std::thread> monitor_;
};

}  // namespace kvtier
