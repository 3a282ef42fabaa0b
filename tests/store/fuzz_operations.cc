// A store used at will, with power that fails and bits that turn, against a model of it. Whatever
// is done: no wrong bytes, nothing lost that was durable, nothing pinned evicted, capacity kept.

#include "fuzz_operations.h"

#include <algorithm>
#include <array>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "error.h"
#include "format.h"
#include "fuzz_input.h"
#include "memory_disk.h"
#include "store.h"
#include "test_pages.h"

namespace kvtier::testing {
namespace {

constexpr std::size_t kDisksMax = 3;
constexpr std::uint64_t kKeys = 24;
constexpr std::uint64_t kCapacityMax = 12;  // pages of a directory
constexpr int kOperationsMax = 400;

// The directories have real locks, the files are in memory.
const std::array<TempDirectory, kDisksMax>& Directories() {
  static const std::array<TempDirectory, kDisksMax> directories;
  return directories;
}

class Run {
 public:
  explicit Run(FuzzInput& input) : input_(input), count_(1 + input.Number(1) % kDisksMax) {
    const std::uint64_t seed = input.Number(2);
    for (std::size_t i = 0; i < count_; ++i) {
      disks_.push_back(std::make_unique<MemoryDisk>(seed + i));
      capacities_.push_back(1 + input.Number(1) % kCapacityMax);
    }
    Open();
  }
  Run(const Run&) = delete;
  Run& operator=(const Run&) = delete;

  void Do() {
    const std::uint64_t i = 1 + input_.Below(kKeys);
    switch (input_.Number(1) % 20) {
      case 0:
        return Flush();
      case 1:
        return Evict(i);
      case 2:
        return Pin(i);
      case 3:
        return UnpinAll();
      case 4:
        return Touch(i);
      case 5:
        return Clear();
      case 6:
        return Reopen();
      case 7:
        return Resize();
      case 8:
        return disks_[i % count_]->FailPowerAfter(1 + input_.Number(1) % 32);
      case 9:
        return FailPower();
      case 10:
        return TurnABit();
      case 11:
        return Scrub();
      case 12:
      case 13:
      case 14:
        return Get(i);
      default:
        return Put(i);
    }
  }

  void End() {
    Reopen();
    for (std::uint64_t i = 1; i <= kKeys; ++i) Get(i);
    for (std::uint64_t i = 1; i <= kKeys && pinned_.empty(); ++i) Put(i);
    CloseStore();
  }

 private:
  void Open() {
    StoreOptions options;
    options.read_depth = 1;
    options.write_depth = 1;
    options.commit_interval_s = 3600;
    options.probe_interval_s = 3600;
    options.reserve_bytes = 0;
    options.open_device = [this](const std::string& path) {
      const auto& all = Directories();
      const auto which = std::ranges::find(all, path, &TempDirectory::path) - all.begin();
      return disks_[static_cast<std::size_t>(which)]->Open();
    };
    std::vector<DirectorySpec> specs;
    for (std::size_t i = 0; i < count_; ++i) {
      specs.push_back({Directories()[i].path(), CapacityFor(capacities_[i])});
    }
    store_ = Store::Open(specs, TestPages(), options);
  }

  bool HasPower() const {
    return std::ranges::all_of(disks_, [](const auto& disk) { return disk->has_power(); });
  }

  bool Has(std::uint64_t i) const {
    const Key key = MakeKey(i);
    return store_->Contains({&key, 1})[0];
  }

  std::set<std::uint64_t> Present() const {
    std::set<std::uint64_t> present;
    for (std::uint64_t i = 1; i <= kKeys; ++i) {
      if (Has(i)) present.insert(i);
    }
    return present;
  }

  void KeepPresent(std::set<std::uint64_t>& keys) const {
    std::erase_if(keys, [this](std::uint64_t i) { return !Has(i); });
  }

  Status Wait() {
    const auto ended = store_->completions().Wait(std::chrono::seconds(60), 1);
    Demand(!ended.empty(), "a request never ended");
    return ended.front().status;
  }

  void Put(std::uint64_t i) {
    const bool was_there = Has(i);
    const std::size_t before = Present().size();
    std::vector<std::byte> page = MakePage(i);
    const Key parent = i / 2 == 0 ? Key{} : MakeKey(i / 2);
    store_->Submit({PutRequest{i, MakeKey(i), parent, {{page.data(), page.size()}}}});
    const Status status = Wait();
    Demand((status == Status::kAlreadyPresent) == was_there, "what is there is put once");
    if (HasPower() && !degraded_ && !was_there) {
      Demand(status == Status::kOk || (status == Status::kNoRoom && !pinned_.empty()),
             "a sound store refused a page");
      Demand(status != Status::kOk || Has(i), "a page that was put is not there");
      Demand(Present().size() >= before, "a put evicted more than one page");
      for (const std::uint64_t pin : pinned_) Demand(Has(pin), "a pinned page was evicted");
    }
    NoteFaults();
    KeepPresent(durable_);
  }

  void Get(std::uint64_t i) {
    std::vector<std::byte> page(kTestPageBytes);
    const bool was_there = Has(i);
    store_->Submit({GetRequest{i, MakeKey(i), {{page.data(), page.size()}}}});
    const Status status = Wait();
    Demand(status != Status::kOk || page == MakePage(i), "a get brought wrong bytes");
    Demand(was_there || status == Status::kMiss, "a page came from nowhere");
    if (status == Status::kCorrupt) {
      // Only turned bits, or a power failure, make one; then it is gone.
      Demand(turned_bits_ > 0 || lost_power_, "a sound disk gave a bad page");
      Demand(!Has(i), "a bad page stays");
      pinned_.erase(i);
    }
    NoteFaults();
    KeepPresent(durable_);
  }

  void Flush() {
    try {
      store_->Flush();
    } catch (const StoreError&) {
      Demand(!HasPower() || degraded_, "a flush failed on sound disks");
      NoteFaults();
      KeepPresent(durable_);
      KeepPresent(pinned_);
      return;
    }
    // Pages of a disk out of use are out of sight: nothing is known of them.
    if (HasPower() && !degraded_) durable_ = Present();
  }

  void Evict(std::uint64_t i) {
    const bool expected = Has(i) && !pinned_.contains(i);
    const Key key = MakeKey(i);
    const std::size_t evicted = store_->Evict({&key, 1});
    if (!degraded_) Demand((evicted == 1) == expected, "evicted what was not there, or pinned");
    durable_.erase(i);
  }

  void Pin(std::uint64_t i) {
    if (!Has(i) || pinned_.size() >= 3) return;
    const Key key = MakeKey(i);
    if (pinned_.insert(i).second) store_->Pin({&key, 1});
  }

  void UnpinAll() {
    for (const std::uint64_t i : pinned_) {
      const Key key = MakeKey(i);
      store_->Unpin({&key, 1});
    }
    pinned_.clear();
  }

  void Touch(std::uint64_t i) {
    const std::array keys{MakeKey(i), MakeKey(1 + i / 2)};
    store_->Touch(keys);
  }

  void Clear() {
    durable_.clear();
    pinned_.clear();
    try {
      store_->Clear();
      Demand(Present().empty(), "a cleared store holds pages");
    } catch (const StoreError&) {
      Demand(!HasPower() || degraded_, "a sound store cannot be cleared");
      NoteFaults();
    }
  }

  void Scrub() {
    const ScrubReport report = store_->Scrub([](const ScrubReport&) { return true; }, {});
    Demand(report.bad.empty() || turned_bits_ > 0 || lost_power_, "a scrub found what is not bad");
    NoteFaults();
    KeepPresent(durable_);
    KeepPresent(pinned_);
  }

  // What the store knows of its disks: a fault that it met may have cost pages.
  void NoteFaults() { degraded_ = degraded_ || !HasPower() || store_->Stats().io_errors > 0; }

  void Reopen() {
    const std::set<std::uint64_t> present = Present();
    CloseStore();
    if (HasPower() && !degraded_) durable_ = present;  // closing flushes
    ComeBack();
  }

  void FailPower() {
    for (const auto& disk : disks_) disk->FailPowerAfter(0);
    CloseStore();
    ComeBack();
  }

  void ComeBack() {
    degraded_ = false;
    pinned_.clear();
    while (!OpenWithPower()) {
    }
    Demand(!store_->Stats().degraded, "a store on sound disks opened without one of them");
    store_->CheckIntegrity();
    for (const std::uint64_t i : durable_) Demand(Has(i), "a durable page is lost");
    const std::set<std::uint64_t> durable = durable_;
    std::uint64_t missing = 0;
    for (const std::uint64_t i : durable) {
      Get(i);
      missing += Has(i) ? 0 : 1;
    }
    Demand(missing <= turned_bits_, "a durable page cannot be read");
    // What a crash left in the journal and not in its slot is a miss, now and not later.
    for (std::uint64_t i = 1; i <= kKeys; ++i) Get(i);
    const StoreStats stats = store_->Stats();
    Demand(stats.pages <= stats.capacity_pages, "more pages than the capacity has room for");
  }

  void CloseStore() {
    try {
      store_->Close();
    } catch (const StoreError&) {
      Demand(lost_power_ || !HasPower(), "a store on sound disks does not close");
    }
  }

  // False if a power failure that was on its way came while the store was opened.
  bool OpenWithPower() {
    lost_power_ = lost_power_ || !HasPower();
    for (const auto& disk : disks_) {
      if (!disk->has_power()) disk->RestorePower();
    }
    try {
      Open();
    } catch (const StoreError&) {
      Demand(!HasPower(), "a store on sound disks does not open");
      return false;
    }
    if (HasPower()) return true;
    CloseStore();
    return false;
  }

  void Resize() {
    CloseStore();
    bool shrinks = false;
    for (std::uint64_t& capacity : capacities_) {
      const std::uint64_t before = capacity;
      capacity = 1 + input_.Number(1) % kCapacityMax;
      shrinks = shrinks || capacity < before;
    }
    if (shrinks || degraded_ || !HasPower()) durable_.clear();
    ComeBack();
    durable_ = Present();
  }

  // One of a slot's bits, while nobody has it open.
  void TurnABit() {
    Reopen();
    CloseStore();
    MemoryDisk& disk = *disks_[input_.Number(1) % count_];
    MemoryDisk::Image image = disk.image();
    const auto segment = image.find("segment-00000");
    if (segment != image.end() && !segment->second.empty()) {
      const std::uint64_t at = input_.Below(segment->second.size());
      segment->second[at] ^= std::byte{1} << input_.Number(1) % 8;
      disk.Load(image);
      ++turned_bits_;
    }
    ComeBack();
  }

  FuzzInput& input_;
  const std::size_t count_;
  std::vector<std::unique_ptr<MemoryDisk>> disks_;
  std::vector<std::uint64_t> capacities_;
  std::shared_ptr<Store> store_;
  std::set<std::uint64_t> durable_;  // there after any power failure, but for turned bits
  std::set<std::uint64_t> pinned_;
  std::uint64_t turned_bits_ = 0;
  bool lost_power_ = false;
  bool degraded_ = false;  // since it was opened
};

}  // namespace

void FuzzOperations(std::span<const std::uint8_t> data) {
  FuzzInput input(data);
  Run run(input);
  for (int i = 0; i < kOperationsMax && !input.is_empty(); ++i) run.Do();
  run.End();
}

}  // namespace kvtier::testing

#if defined(KVTIER_LIBFUZZER)
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  kvtier::testing::FuzzOperations({data, size});
  return 0;
}
#endif
