#pragma once

#include <atomic>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <shared_mutex>
#include <span>
#include <string>
#include <thread>
#include <vector>

#include "arena.h"
#include "completions.h"
#include "key.h"
#include "options.h"
#include "scrub.h"
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

// Counters since open, and gauges. Bytes are payload bytes unless named otherwise.
struct StoreStats {
  IoEngine io_engine = IoEngine::kAuto;  // in use: never kAuto
  std::uint64_t pages = 0;
  std::uint64_t capacity_pages = 0;
  std::uint64_t capacity_bytes = 0;  // on disk, as given
  std::uint64_t used_bytes = 0;      // on disk
  std::uint64_t recovered_pages = 0;
  double recovery_s = 0;
  std::uint64_t hits = 0;
  std::uint64_t misses = 0;
  std::map<std::string, std::uint64_t> corrupt;  // by cause; only causes that occurred
  std::uint64_t read_bytes = 0;
  std::uint64_t written_bytes = 0;
  // Everything that crossed to and from the disks: headers, padding and journals as well.
  std::uint64_t disk_read_bytes = 0;
  std::uint64_t disk_written_bytes = 0;
  std::uint64_t disk_written_bytes_last_day = 0;  // in 24 hours, whichever process wrote them
  // In the directories' whole lives.
  std::uint64_t lifetime_written_bytes = 0;
  std::uint64_t lifetime_disk_written_bytes = 0;
  std::uint64_t lifetime_hit_bytes = 0;
  std::uint64_t evicted = 0;
  std::uint64_t dropped_writes = 0;
  std::uint64_t not_admitted = 0;
  std::uint64_t timed_out_reads = 0;
  std::uint64_t io_errors = 0;
  bool degraded = false;        // a directory is out of use
  std::string degraded_reason;  // a sentence; empty when it is not
  std::uint64_t reads_queued = 0;
  std::uint64_t writes_queued = 0;
};

class Lane;
class ProcessStores;
struct StoreShared;

// Pages on disk (L3), in one or several directories. Thread-safe. Engine-neutral: it knows keys,
// addresses and lengths only. Belongs to the process that opened it: after a fork every call in
// the child throws.
class Store {
 public:
  // Throws StoreError with a sentence for an operator.
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
  // Drops every page, pinned or not; how many. Durable when it returns.
  std::size_t Clear();

  // Reads every page and compares it as a get does; bad ones are dropped and counted. For any
  // thread, beside other work, which goes first. In directories that hang it hangs as well.
  ScrubReport Scrub(const ScrubProgress& progress, const ScrubOptions& options);

  // Returns when everything reported kOk before the call survives power loss. Throws StoreError
  // when a disk failed at that.
  void Flush();
  StoreStats Stats() const;

  // Flushes, ends what is queued as kCancelled, lets go of the directories. Idempotent. After it
  // only completions(), Stats() and Close() may be used; the rest throws StoreError.
  void Close();
  // Closes every open store of this process. For the interpreter's exit.
  static void CloseAll();

  // Throws std::logic_error when the store disagrees with itself. For tests.
  void CheckIntegrity() const;

 private:
  friend class ProcessStores;

  Store(const std::vector<DirectorySpec>& directories, const PageGeometry& pages,
        const StoreOptions& options);

  void Recover(std::span<const std::unique_ptr<Volume>> volumes);
  void Monitor();
  // Throws unless this process opened the store and has not closed it.
  void RequireUsable() const;
  void RequireWholePage(std::span<const Piece> pieces) const;
  void SubmitOne(PutRequest request);
  bool ScrubNext(std::size_t directory, std::uint64_t& slot, std::span<const Piece> memory,
                 ScrubReport& report);
  std::optional<std::size_t> ChooseDirectory();
  double RoutedShare(std::size_t directory) const;
  void ForgetInChild();

  const int process_;
  const std::size_t directories_;
  std::unique_ptr<StoreShared> shared_;
  std::uint64_t recovered_pages_ = 0;
  double recovery_s_ = 0;
  std::mutex route_mutex_;
  std::vector<std::uint64_t> routed_;  // pages sent to each directory; guarded by route_mutex_

  std::mutex close_mutex_;  // held by Close from beginning to end
  std::atomic<bool> closed_{false};
  mutable std::shared_mutex lanes_mutex_;
  std::vector<std::unique_ptr<Lane>> lanes_;  // guarded by lanes_mutex_

  std::mutex monitor_mutex_;
  std::condition_variable monitor_wake_;
  bool monitor_stopping_ = false;  // guarded by monitor_mutex_
  std::unique_ptr<std::thread> monitor_;
};

}  // namespace kvtier
