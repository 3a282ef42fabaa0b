#include "store.h"

#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <stdexcept>
#include <unordered_map>
#include <utility>

#include "error.h"
#include "lanes.h"
#include "open_directory.h"
#include "openings.h"
#include "process_stores.h"
#include "router.h"
#include "store_shared.h"

namespace kvtier {
namespace {

constexpr std::size_t kPiecesMax = 512;  // with header and padding well below IOV_MAX

void ValidatePages(const PageGeometry& pages) {
  if (pages.page_bytes == 0 || pages.page_bytes > kPageBytesMax) {
    throw StoreError("a page has 1 byte to 4 GiB, not " + std::to_string(pages.page_bytes) +
                     " bytes");
  }
  if (pages.name_space.size == 0 || pages.name_space.size > Namespace::kBytesMax) {
    throw StoreError("a store's namespace has 1 to " + std::to_string(Namespace::kBytesMax) +
                     " bytes, not " + std::to_string(pages.name_space.size));
  }
}

std::vector<std::uint64_t> SlotsMax(const std::vector<DirectorySpec>& directories,
                                    const PageGeometry& pages, const StoreOptions& options) {
  options.Validate();
  ValidatePages(pages);
  if (directories.empty()) throw StoreError("a store needs one directory at least");
  std::vector<std::uint64_t> slots;
  for (const DirectorySpec& spec : directories) {
    ValidateDirectory(spec, pages);
    slots.push_back(SlotsFor(spec.capacity_bytes, SlotBytes(pages.page_bytes)));
  }
  return slots;
}

// What a path means must not change with the working directory.
std::vector<DirectorySpec> WithFullPaths(std::vector<DirectorySpec> directories) {
  for (DirectorySpec& spec : directories) {
    std::error_code error;
    if (!spec.path.empty()) spec.path = std::filesystem::absolute(spec.path, error).string();
  }
  return directories;
}

void Append(std::string& list, const char* separator, const std::string& item) {
  if (!list.empty()) list += separator;
  list += item;
}

}  // namespace

std::shared_ptr<Store> Store::Open(const std::vector<DirectorySpec>& directories,
                                   const PageGeometry& pages, const StoreOptions& options) {
  // A forked child leaks its copy: the threads are not there, but the locks that they held and the
  // conditions that they waited on are, and to destroy one of those is to wait for them for ever.
  std::shared_ptr<Store> store(new Store(directories, pages, options), [](Store* each) {
    if (each->process_ == ::getpid()) delete each;
  });
  ProcessStores::Get().Add(store);
  return store;
}

Store::Store(const std::vector<DirectorySpec>& directories, const PageGeometry& pages,
             const StoreOptions& options)
    : process_(::getpid()),
      directories_(WithFullPaths(directories)),
      lanes_(std::make_shared<Lanes>(directories.size())),
      slots_max_(SlotsMax(directories, pages, options)),
      shared_(std::make_shared<StoreShared>(options, pages, slots_max_)),
      openings_(std::make_unique<Openings>(directories_, shared_, lanes_)),
      router_(std::make_unique<Router>(slots_max_)) {
  const auto begun = Clock::now();
  openings_->Begin();
  recovered_pages_ = shared_->catalog.Counts().pages;
  recovery_s_ = std::chrono::duration<double>(Clock::now() - begun).count();
  monitor_ = std::make_unique<std::thread>([this] { Monitor(); });
}

Store::~Store() {
  try {
    Close();
  } catch (const StoreError&) {
    // A disk that hangs: nobody is left to be told.
  }
}

void Store::RequireUsable() const {
  if (process_ != ::getpid()) {
    throw StoreError("the store was opened by process " + std::to_string(process_) +
                     "; a forked child cannot use it");
  }
  if (closed_) throw StoreError("the store is closed");
}

void Store::RequireWholePage(std::span<const Piece> pieces) const {
  std::uint64_t total = 0;
  for (const Piece& piece : pieces) total += piece.bytes;
  if (total != page_bytes() || pieces.size() > kPiecesMax) {
    throw std::invalid_argument("a page is " + std::to_string(page_bytes()) + " bytes in up to " +
                                std::to_string(kPiecesMax) + " pieces, not " +
                                std::to_string(total) + " bytes in " +
                                std::to_string(pieces.size()));
  }
}

std::uint64_t Store::page_bytes() const { return shared_->pages.page_bytes; }

Completions& Store::completions() { return shared_->completions; }

std::vector<bool> Store::Contains(std::span<const Key> keys) const {
  RequireUsable();
  return shared_->catalog.Contains(keys);
}

std::size_t Store::LongestPrefix(std::span<const Key> keys) const {
  RequireUsable();
  return shared_->catalog.LongestPrefix(keys);
}

void Store::Submit(std::vector<GetRequest> batch) {
  RequireUsable();
  for (const GetRequest& request : batch) RequireWholePage(request.pieces);
  const auto deadline = Clock::now() + Seconds(shared_->options.read_timeout_s);
  const auto lanes = lanes_->All();
  std::unordered_map<std::size_t, std::vector<ReadTask>> by_directory;
  for (GetRequest& request : batch) {
    const auto placement = shared_->catalog.BeginRead(request.key);
    if (!placement) {
      ++shared_->counters.misses;
      shared_->completions.Push(request.ticket, Status::kMiss);
    } else if (!lanes[placement->directory]) {  // closed or lost this moment
      shared_->catalog.EndRead(*placement, false);
      shared_->completions.Push(request.ticket, closed_ ? Status::kCancelled : Status::kMiss);
    } else {
      by_directory[placement->directory].push_back(
          {request.ticket, request.key, std::move(request.pieces), *placement, deadline});
    }
  }
  for (auto& [directory, tasks] : by_directory) lanes[directory]->Submit(std::move(tasks));
}

void Store::Submit(std::vector<PutRequest> batch) {
  RequireUsable();
  for (const PutRequest& request : batch) RequireWholePage(request.pieces);
  const auto lanes = lanes_->All();
  for (PutRequest& request : batch) SubmitOne(std::move(request), lanes);
}

void Store::SubmitOne(PutRequest request, std::span<const std::shared_ptr<Lane>> lanes) {
  if (!shared_->catalog.BeginWrite(request.key)) {
    shared_->completions.Push(request.ticket, Status::kAlreadyPresent);
    return;
  }
  if (!shared_->admission.Admits(request.key, request.chain_pages)) {
    shared_->catalog.AbandonWrite(request.key);
    ++shared_->counters.not_admitted;
    shared_->completions.Push(request.ticket, Status::kNotAdmitted);
    return;
  }
  const bool has_room = shared_->writes_waiting.fetch_add(1) < shared_->options.write_queue;
  const auto directory = has_room ? router_->Choose(lanes, shared_->catalog) : std::nullopt;
  if (!directory) {
    --shared_->writes_waiting;
    shared_->catalog.AbandonWrite(request.key);
    ++shared_->counters.dropped_writes;
    shared_->completions.Push(request.ticket, Status::kDropped);
    return;
  }
  lanes[*directory]->Submit(
      WriteTask{request.ticket, request.key, request.parent, std::move(request.pieces)});
}

void Store::Touch(std::span<const Key> keys) {
  RequireUsable();
  shared_->catalog.Touch(keys);
}

void Store::Pin(std::span<const Key> keys) {
  RequireUsable();
  shared_->catalog.Pin(keys);
}

void Store::Unpin(std::span<const Key> keys) {
  RequireUsable();
  shared_->catalog.Unpin(keys);
}

std::size_t Store::Evict(std::span<const Key> keys) {
  RequireUsable();
  return shared_->catalog.Evict(keys);
}

std::size_t Store::Clear() {
  RequireUsable();
  const std::size_t count = shared_->catalog.Clear();
  Flush();
  for (std::size_t i = 0; i < directories_.size(); ++i) {
    if (lanes_->At(i)) continue;
    throw StoreError(directories_[i].path + " keeps its pages: " + openings_->WhyNotOpen(i));
  }
  return count;
}

void Store::Flush() {
  RequireUsable();
  std::string failures;
  for (const auto& lane : lanes_->All()) {
    const auto failure = lane ? lane->Flush() : std::nullopt;
    if (failure) Append(failures, "; ", *failure);
  }
  for (const std::size_t lost : lanes_->Lost()) {
    Append(failures, "; ",
           directories_[lost].path + " is gone, and with it what was not durable there");
  }
  if (!failures.empty()) throw StoreError(failures);
}

StoreStats Store::Stats() const {
  StoreStats stats;
  const CatalogCounts counts = shared_->catalog.Counts();
  const Counters& counters = shared_->counters;
  stats.io_engine = shared_->options.EngineInUse();
  stats.pages = counts.pages;
  stats.evicted = counts.evicted;
  stats.recovered_pages = recovered_pages_;
  stats.recovery_s = recovery_s_;
  stats.hits = counters.hits;
  stats.misses = counters.misses;
  for (std::size_t i = 0; i < kCorruptions; ++i) {
    if (counters.corrupt[i] == 0) continue;
    stats.corrupt[CorruptionName(static_cast<Corruption>(i))] = counters.corrupt[i];
  }
  stats.read_bytes = counters.read_bytes;
  stats.written_bytes = counters.written_bytes;
  stats.dropped_writes = counters.dropped_writes;
  stats.not_admitted = counters.not_admitted;
  stats.timed_out_reads = counters.timed_out_reads;
  stats.io_errors = counters.io_errors;
  for (std::size_t i = 0; i < directories_.size(); ++i) stats.Add(StatsOf(i));
  return stats;
}

DirectoryStats Store::StatsOf(std::size_t directory) const {
  if (const auto lane = lanes_->At(directory)) return lane->Stats();
  DirectoryStats stats;
  stats.path = directories_[directory].path;
  stats.capacity_pages = slots_max_[directory];
  stats.capacity_bytes = directories_[directory].capacity_bytes;
  if (!closed_) {
    stats.out_of_use_reason = stats.path + " is not open: " + openings_->WhyNotOpen(directory);
  }
  return stats;
}

void Store::Close() {
  if (process_ != ::getpid()) return;
  const std::lock_guard closing(close_mutex_);
  std::string failures;
  if (!closed_.exchange(true)) failures = StopAll();
  std::string hanging;
  for (std::size_t i = 0; i < directories_.size(); ++i) {
    if (!openings_->IsAtWork(i) && !lanes_->HasLeft(i)) continue;
    Append(hanging, ", ", directories_[i].path);
  }
  if (!hanging.empty()) {
    Append(failures, "; ",
           "the disk of " + hanging +
               " does not answer: requests that run there keep their memory, and this process "
               "the directory, until it does");
  }
  if (!failures.empty()) throw StoreError(failures);
}

// What could not be made durable, in words.
std::string Store::StopAll() {
  const auto deadline = Clock::now() + Seconds(shared_->options.close_timeout_s);
  StopMonitor();
  auto lanes = lanes_->TakeAll();
  for (const auto& lane : lanes) {
    if (lane) lane->BeginStop();
  }
  openings_->Stop(deadline);
  std::string failures;
  for (std::size_t i = 0; i < lanes.size(); ++i) {
    if (!lanes[i]) continue;
    if (!lanes[i]->WaitStopped(deadline)) {
      lanes_->Leave(i, *lanes[i]);
    } else if (const auto failure = lanes[i]->last_failure()) {
      Append(failures, "; ", *failure);
    }
  }
  return failures;
}

void Store::StopMonitor() {
  if (!monitor_) return;
  {
    const std::lock_guard lock(monitor_mutex_);
    monitor_stopping_ = true;
  }
  monitor_wake_.notify_all();
  monitor_->join();
}

void Store::CloseAll() { ProcessStores::Get().CloseAll(); }

// A fraction of the shortest limit: deadlines and stalls are noticed that much late at most.
void Store::Monitor() {
  const StoreOptions& options = shared_->options;
  const std::chrono::duration<double> shortest(
      std::min(options.read_timeout_s, options.stall_timeout_s));
  const auto period = std::chrono::duration_cast<Clock::duration>(shortest / 8);
  std::unique_lock lock(monitor_mutex_);
  while (!monitor_wake_.wait_for(lock, period, [this] { return monitor_stopping_; })) {
    lock.unlock();
    for (std::size_t i = 0; i < directories_.size(); ++i) {
      const auto lane = lanes_->At(i);
      if (lane) lane->Watch(Clock::now());
      if (lane && lane->is_lost()) WaitFor(i);
    }
    lock.lock();
  }
}

void Store::WaitFor(std::size_t directory) {
  const auto lane = lanes_->TakeLost(directory);
  try {
    if (lane) openings_->Again(directory, lane);
  } catch (const std::exception&) {  // no memory or no thread: at the next look
    lanes_->Add(directory, lane);
  }
}

void Store::CheckIntegrity() const { shared_->catalog.CheckIntegrity(); }

}  // namespace kvtier
