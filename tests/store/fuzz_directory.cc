// A directory damaged at will, checksums mended where the input says so, and then used. Whatever
// it holds: no crash, no wrong bytes, capacity kept, and a store that works on.

#include "fuzz_directory.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <set>

#include "crc32c.h"
#include "error.h"
#include "format.h"
#include "fuzz_input.h"
#include "memory_disk.h"
#include "store.h"
#include "test_pages.h"

namespace kvtier::testing {
namespace {

using Bytes = std::vector<std::byte>;
using Image = MemoryDisk::Image;

constexpr std::uint64_t kPages = 6;     // in the directory at first
constexpr std::uint64_t kCapacity = 8;  // pages
constexpr std::uint64_t kKeys = 12;     // tried in all
constexpr std::size_t kMutationsMax = 24;
constexpr std::size_t kFileBytesMax = 256 << 10;
const std::uint64_t kSlotBytes = SlotBytes(kTestPageBytes);

std::shared_ptr<Store> OpenOn(MemoryDisk& disk, std::uint64_t pages) {
  static const TempDirectory directory;  // for the lock alone
  StoreOptions options;
  options.read_depth = 1;
  options.write_depth = 1;
  options.commit_interval_s = 3600;
  options.reserve_bytes = 0;
  options.open_device = [&](const std::string&) { return disk.Open(); };
  return Store::Open({{directory.path(), CapacityFor(pages)}}, TestPages(), options);
}

Status WaitForOne(Store& store) {
  const auto ended = store.completions().Wait(std::chrono::seconds(60), 1);
  Demand(!ended.empty(), "a request never ended");
  return ended.front().status;
}

Status Put(Store& store, std::uint64_t i, std::uint64_t parent) {
  Bytes page = MakePage(i);
  store.Submit(
      {PutRequest{i, MakeKey(i), parent ? MakeKey(parent) : Key{}, {{page.data(), page.size()}}}});
  return WaitForOne(store);
}

// Right, or no page at all.
void Get(Store& store, std::uint64_t i, const std::set<std::uint64_t>& forged) {
  Bytes page(kTestPageBytes);
  store.Submit({GetRequest{i, MakeKey(i), {{page.data(), page.size()}}}});
  if (WaitForOne(store) != Status::kOk || forged.contains(i)) return;
  Demand(page == MakePage(i), "a get brought wrong bytes");
}

const Image& SoundImage() {
  static const Image image = [] {
    MemoryDisk disk(1);
    const auto store = OpenOn(disk, kCapacity);
    for (std::uint64_t i = 1; i <= kPages; ++i) {
      Demand(Put(*store, i, i / 2) == Status::kOk, "the first pages cannot be put");
    }
    store->Close();
    return disk.image();
  }();
  return image;
}

class Damage {
 public:
  Damage(Image& image, FuzzInput& input) : image_(image), input_(input) {}

  void Do() {
    switch (input_.Number(1) % 9) {
      case 0:
        return Overwrite(Any(), input_.Number(1) % 16);
      case 1:
        return Any().resize(input_.Below(kFileBytesMax));
      case 2:
        return CopySlot();
      case 3:
        image_.erase(AnyName());
        return;
      case 4:
        image_[AnyName()] = Any();
        return;
      case 5:
        return Change<Superblock>(image_[kSuperblockName], 0);
      case 6:
        return Change<SlotHeader>(Segment(), AnySlot() * kSlotBytes);
      case 7:
        return Change<JournalHeader>(image_[kJournalName], 0);
      default:
        return ChangeRecord();
    }
  }

 private:
  Bytes& Segment() { return image_["segment-00000"]; }
  std::uint64_t AnySlot() { return input_.Below(Segment().size() / kSlotBytes); }

  std::string AnyName() {
    if (image_.empty()) return kJournalName;
    return std::next(image_.begin(), static_cast<std::ptrdiff_t>(input_.Below(image_.size())))
        ->first;
  }
  Bytes& Any() { return image_[AnyName()]; }

  void Overwrite(Bytes& bytes, std::size_t count) {
    if (bytes.empty()) return;
    const std::size_t at = input_.Below(bytes.size());
    for (std::size_t i = at; i < std::min(bytes.size(), at + count); ++i) {
      bytes[i] = static_cast<std::byte>(input_.Number(1));
    }
  }

  void CopySlot() {
    Bytes& segment = Segment();
    const std::uint64_t from = AnySlot() * kSlotBytes, to = AnySlot() * kSlotBytes;
    if (std::max(from, to) + kSlotBytes > segment.size()) return;
    std::memmove(segment.data() + to, segment.data() + from, kSlotBytes);
  }

  // A field of a block gets any value, and the block a checksum that is right.
  template <typename Block>
  void Change(Bytes& bytes, std::size_t at) {
    if (at + sizeof(Block) > bytes.size()) return;
    Block block;
    std::memcpy(&block, bytes.data() + at, sizeof block);
    ChangeWord(block);
    Seal(block);
    std::memcpy(bytes.data() + at, &block, sizeof block);
  }

  void ChangeRecord() {
    Bytes& journal = image_[kJournalName];
    if (journal.size() < sizeof(JournalHeader) + sizeof(JournalRecord)) return;
    JournalHeader header;
    std::memcpy(&header, journal.data(), sizeof header);
    const std::uint64_t count = (journal.size() - sizeof header) / sizeof(JournalRecord);
    const std::uint64_t at =
        sizeof header +
        input_.Below(std::min<std::uint64_t>(count, 2 * kPages)) * sizeof(JournalRecord);
    JournalRecord record;
    std::memcpy(&record, journal.data() + at, sizeof record);
    ChangeWord(record);
    Seal(record, header.checksum);
    std::memcpy(journal.data() + at, &record, sizeof record);
  }

  template <typename Block>
  void ChangeWord(Block& block) {
    std::array<std::uint64_t, sizeof(Block) / 8> words;
    std::memcpy(words.data(), &block, sizeof words);
    const std::size_t word = input_.Below(words.size());
    switch (input_.Number(1) % 4) {
      case 0:
        words[word] = input_.Number(8);
        break;
      case 1:
        words[word] += input_.Number(1);
        break;
      case 2:
        words[word] = ~std::uint64_t{0} - input_.Number(1);
        break;
      default:
        words[word] = words[input_.Below(words.size())];
    }
    std::memcpy(static_cast<void*>(&block), words.data(), sizeof words);
  }

  Image& image_;
  FuzzInput& input_;
};

// Keys that a slot vouches for with other bytes than theirs: the input has mended the checksums, so
// that no store could tell.
std::set<std::uint64_t> ForgedKeys(const Image& image) {
  std::set<std::uint64_t> forged;
  for (const auto& [name, bytes] : image) {
    for (std::size_t at = 0; at + kSlotBytes <= bytes.size(); at += kSlotBytes) {
      SlotHeader header;
      std::memcpy(&header, bytes.data() + at, sizeof header);
      const std::span payload(bytes.data() + at + kBlockBytes, kTestPageBytes);
      if (Check(header) != Wholeness::kWhole || Crc32c(payload) != header.payload_checksum)
        continue;
      for (std::uint64_t i = 1; i <= kKeys; ++i) {
        if (header.key == MakeKey(i) && !std::ranges::equal(payload, MakePage(i))) forged.insert(i);
      }
    }
  }
  return forged;
}

std::uint64_t BytesOf(const Image& image) {
  std::uint64_t total = 0;
  for (const auto& [name, bytes] : image) total += bytes.size();
  return total;
}

void Use(Store& store, const std::set<std::uint64_t>& forged) {
  for (std::uint64_t i = 1; i <= kKeys; ++i) Get(store, i, forged);
  store.CheckIntegrity();
  for (std::uint64_t i = kPages; i <= kKeys; ++i) {
    const Status status = Put(store, i, i / 2);
    if (status != Status::kOk && status != Status::kAlreadyPresent) {
      std::fprintf(stderr, "status %d: ", static_cast<int>(status));
      Demand(false, "a put was refused");
    }
  }
  const Key key = MakeKey(kKeys);
  store.Evict({&key, 1});
  (void)store.Scrub([](const ScrubReport&) { return true; }, {});
  store.Flush();
  store.CheckIntegrity();
  for (std::uint64_t i = 1; i <= kKeys; ++i) Get(store, i, forged);
}

}  // namespace

void FuzzDirectory(std::span<const std::uint8_t> data) {
  Image image = SoundImage();
  FuzzInput input(data);
  const std::uint64_t capacity = 1 + input.Number(1) % (2 * kCapacity);
  Damage damage(image, input);
  for (std::size_t i = 0; i < kMutationsMax && !input.is_empty(); ++i) damage.Do();
  const std::set<std::uint64_t> forged = ForgedKeys(image);
  MemoryDisk disk(1);
  disk.Load(image);
  for (int round = 0; round < 2; ++round) {
    std::shared_ptr<Store> store;
    try {
      store = OpenOn(disk, capacity);
    } catch (const StoreError&) {
      Demand(round == 0, "a store that was open does not open again");
      Demand(disk.image() == image, "a directory that was refused has changed");
      return;
    }
    Use(*store, forged);
    store->Close();
    Image after = disk.image();
    Demand(BytesOf(after) <= CapacityFor(capacity) + BytesOf(image), "capacity was not kept");
  }
}

}  // namespace kvtier::testing

#if defined(KVTIER_LIBFUZZER)
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  kvtier::testing::FuzzDirectory({data, size});
  return 0;
}
#endif
