#include "store.h"

#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <set>
#include <stdexcept>
#include <unordered_map>

#include "error.h"
#include "lane.h"
#include "posix_device.h"
#include "process_stores.h"

namespace kvtier {
namespace {

constexpr std::size_t kPiecesMax = 512;  // with header and padding well below IOV_MAX

constexpr std::size_t kLagMax = 8;  // pages that a directory may lag behind another

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

std::unique_ptr<Volume> OpenVolume(const DirectorySpec& spec, const PageGeometry& pages,
                                   const StoreOptions& options) {
  if (spec.path.empty()) throw StoreError("a store's directory has no path");
  MakeDirectory(spec.path);
  auto device = options.open_device ? options.open_device(spec.path)
                                    : OpenPosixDevice(spec.path, options.EngineInUse());
  auto lock = std::make_unique<OwnerLock>(spec.path);
  return std::make_unique<Volume>(spec, pages, std::move(device), std::move(lock));
}

std::vector<std::unique_ptr<Volume>> OpenVolumes(const std::vector<DirectorySpec>& directories,
                                                 const PageGeometry& pages,
                                                 const StoreOptions& options) {
  options.Validate();
  ValidatePages(pages);
  if (directories.empty()) throw StoreError("a store needs one directory at least");
  std::vector<std::unique_ptr<Volume>> volumes;
  for (const DirectorySpec& spec : directories) {
    volumes.push_back(OpenVolume(spec, pages, options));
  }
  return volumes;
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
    : process_(::getpid()), directories_(directories.size()) {
  auto volumes = OpenVolumes(directories, pages, options);
  std::vector<std::uint64_t> slots_max;
  for (const auto& volume : volumes) slots_max.push_back(volume->segments().slots_max());
  shared_ = std::make_unique<StoreShared>(options, pages, slots_max);
  Recover(volumes);
  for (std::size_t i = 0; i < volumes.size(); ++i) {
    routed_.push_back(0);
    lanes_.push_back(std::make_unique<Lane>(*shared_, i, std::move(volumes[i])));
  }
  monitor_ = std::make_unique<std::thread>([this] { Monitor(); });
}

Store::~Store() { Close(); }

void Store::Recover(std::span<const std::unique_ptr<Volume>> volumes) {
  const auto begun = Clock::now();
  std::uint64_t sequence = 0;
  for (std::size_t i = 0; i < volumes.size(); ++i) {
    const std::vector<JournalRecord> records = volumes[i]->Recover();
    for (const JournalRecord& record : records) sequence = std::max(sequence, record.sequence);
    shared_->catalog.Restore(i, volumes[i]->segments().slots_allocated(), records);
  }
  shared_->catalog.FinishRestore();
  // Writes that a crash kept from the journal had numbers as well; none of them comes again.
  constexpr std::uint64_t kSequenceGap = 1 << 24;
  shared_->next_sequence = sequence + kSequenceGap;
  for (std::size_t i = 0; i < volumes.size(); ++i) {
    if (!volumes[i]->NeedsCompaction()) continue;
    const IoStatus status = volumes[i]->Compact(shared_->catalog, i, shared_->next_sequence);
    if (!status.ok()) {
      throw StoreError("cannot write the journal in " + volumes[i]->spec().path + ": " +
                       status.Text());
    }
  }
  recovered_pages_ = shared_->catalog.Counts().pages;
  recovery_s_ = std::chrono::duration<double>(Clock::now() - begun).count();
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
  const std::shared_lock lock(lanes_mutex_);
  RequireUsable();
  for (const GetRequest& request : batch) RequireWholePage(request.pieces);
  const auto timeout = std::chrono::duration<double>(shared_->options.read_timeout_s);
  const auto deadline = Clock::now() + std::chrono::duration_cast<Clock::duration>(timeout);
  std::unordered_map<std::size_t, std::vector<ReadTask>> by_directory;
  for (GetRequest& request : batch) {
    const auto placement = shared_->catalog.BeginRead(request.key);
    if (!placement) {
      ++shared_->counters.misses;
      shared_->completions.Push(request.ticket, Status::kMiss);
      continue;
    }
    by_directory[placement->directory].push_back(
        {request.ticket, request.key, std::move(request.pieces), *placement, deadline});
  }
  for (auto& [directory, tasks] : by_directory) lanes_[directory]->Submit(std::move(tasks));
}

void Store::Submit(std::vector<PutRequest> batch) {
  const std::shared_lock lock(lanes_mutex_);
  RequireUsable();
  for (const PutRequest& request : batch) RequireWholePage(request.pieces);
  for (PutRequest& request : batch) SubmitOne(std::move(request));
}

void Store::SubmitOne(PutRequest request) {
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
  const auto directory = has_room ? ChooseDirectory() : std::nullopt;
  if (!directory) {
    --shared_->writes_waiting;
    shared_->catalog.AbandonWrite(request.key);
    ++shared_->counters.dropped_writes;
    shared_->completions.Push(request.ticket, Status::kDropped);
    return;
  }
  lanes_[*directory]->Submit(
      WriteTask{request.ticket, request.key, request.parent, std::move(request.pieces)});
}

// By capacity, so that pages stay as long in one directory as in another; once all are full, where
// the page lies that should go. Another one if that lags behind. Nothing when none takes writes.
std::optional<std::size_t> Store::ChooseDirectory() {
  std::optional<std::size_t> next, shortest;
  std::vector<std::size_t> in_use;
  const std::lock_guard lock(route_mutex_);
  for (std::size_t i = 0; i < lanes_.size(); ++i) {
    if (!lanes_[i]->writes_in_use()) continue;
    in_use.push_back(i);
    if (!next || RoutedShare(i) < RoutedShare(*next)) next = i;
    if (!shortest || lanes_[i]->writes_queued() < lanes_[*shortest]->writes_queued()) shortest = i;
  }
  if (!next) return std::nullopt;
  if (const auto victims = shared_->catalog.BestVictim(in_use)) next = victims;
  const std::size_t lag = lanes_[*next]->writes_queued() - lanes_[*shortest]->writes_queued();
  if (lag > kLagMax) next = shortest;
  ++routed_[*next];
  return next;
}

double Store::RoutedShare(std::size_t directory) const {
  const auto slots = lanes_[directory]->volume().segments().slots_max();
  return static_cast<double>(routed_[directory]) / static_cast<double>(slots);
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
  return count;
}

void Store::Flush() {
  const std::shared_lock lock(lanes_mutex_);
  RequireUsable();
  std::string failures;
  for (const auto& lane : lanes_) {
    if (const auto failure = lane->Flush()) failures += (failures.empty() ? "" : "; ") + *failure;
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
  const std::shared_lock lock(lanes_mutex_);
  for (const auto& lane : lanes_) {
    Volume& volume = lane->volume();
    stats.capacity_pages += volume.segments().slots_max();
    stats.capacity_bytes += volume.spec().capacity_bytes;
    stats.used_bytes += volume.UsedBytes();
    stats.disk_written_bytes += volume.traffic().written_bytes;
    stats.disk_read_bytes += volume.traffic().read_bytes;
    const Wear wear = volume.LifetimeWear();
    stats.lifetime_written_bytes += wear.payload_written_bytes;
    stats.lifetime_disk_written_bytes += wear.disk_written_bytes;
    stats.lifetime_hit_bytes += wear.hit_bytes;
    stats.disk_written_bytes_last_day += volume.WrittenLastDay();
    if (stats.degraded_reason.empty()) stats.degraded_reason = lane->OutOfUseReason();
    stats.reads_queued += lane->reads_queued();
    stats.writes_queued += lane->writes_queued();
  }
  stats.degraded = !stats.degraded_reason.empty();
  return stats;
}

void Store::Close() {
  if (process_ != ::getpid()) return;
  const std::lock_guard closing(close_mutex_);
  if (closed_.exchange(true)) return;
  if (monitor_) {
    {
      const std::lock_guard lock(monitor_mutex_);
      monitor_stopping_ = true;
    }
    monitor_wake_.notify_all();
    monitor_->join();
  }
  for (const auto& lane : lanes_) lane->Stop();
  const std::unique_lock lock(lanes_mutex_);
  lanes_.clear();
}

void Store::CloseAll() { ProcessStores::Get().CloseAll(); }

void Store::ForgetInChild() {
  for (const auto& lane : lanes_) {
    if (OwnerLock* lock = lane->volume().lock()) lock->ForgetInChild();
  }
}

// A fraction of the shortest limit: deadlines and stalls are noticed that much late at most.
void Store::Monitor() {
  const StoreOptions& options = shared_->options;
  const std::chrono::duration<double> shortest(
      std::min(options.read_timeout_s, options.stall_timeout_s));
  const auto period = std::chrono::duration_cast<Clock::duration>(shortest / 8);
  std::unique_lock lock(monitor_mutex_);
  while (!monitor_wake_.wait_for(lock, period, [this] { return monitor_stopping_; })) {
    lock.unlock();
    for (const auto& lane : lanes_) lane->Watch(Clock::now());
    lock.lock();
  }
}

void Store::CheckIntegrity() const { shared_->catalog.CheckIntegrity(); }

}  // namespace kvtier
