#include <pybind11/native_enum.h>

#include <chrono>

#include "binding.h"
#include "error.h"
#include "store.h"

namespace py = pybind11;

namespace kvtier::binding {
namespace {

std::vector<Key> ToKeys(const std::vector<py::bytes>& list) {
  std::vector<Key> keys;
  keys.reserve(list.size());
  for (const py::bytes& bytes : list) keys.push_back(ToKey(bytes));
  return keys;
}

// A method of keys, called without the GIL.
template <typename Result>
auto WithKeys(Result (Store::*method)(std::span<const Key>)) {
  return [method](Store& store, const std::vector<py::bytes>& list) {
    const std::vector<Key> keys = ToKeys(list);
    const WithoutGil released;
    return (store.*method)(keys);
  };
}

template <typename Result>
auto WithKeys(Result (Store::*method)(std::span<const Key>) const) {
  return [method](const Store& store, const std::vector<py::bytes>& list) {
    const std::vector<Key> keys = ToKeys(list);
    const WithoutGil released;
    return (store.*method)(keys);
  };
}

std::shared_ptr<Store> Open(const std::vector<DirectorySpec>& directories, std::uint64_t page_bytes,
                            const std::string& name_space, const StoreOptions* options) {
  if (name_space.empty() || name_space.size() > Namespace::kBytesMax) {
    throw StoreError("a store's namespace has 1 to " + std::to_string(Namespace::kBytesMax) +
                     " bytes, not " + std::to_string(name_space.size()));
  }
  PageGeometry pages{.page_bytes = page_bytes, .name_space = {}};
  std::memcpy(pages.name_space.bytes.data(), name_space.data(), name_space.size());
  pages.name_space.size = name_space.size();
  const WithoutGil released;
  return Store::Open(directories, pages, options ? *options : StoreOptions{});
}

std::vector<Completion> Wait(Store& store, double timeout_s, std::size_t limit) {
  const WithoutGil released;
  const std::chrono::duration<double> timeout(std::clamp(timeout_s, 0.0, 1e6));
  return store.completions().Wait(std::chrono::duration_cast<std::chrono::nanoseconds>(timeout),
                                  limit);
}

void BindValues(py::module_& module) {
  py::native_enum<Status>(module, "Status", "enum.Enum")
      .value("OK", Status::kOk)
      .value("MISS", Status::kMiss)
      .value("CORRUPT", Status::kCorrupt)
      .value("IO_ERROR", Status::kIoError)
      .value("TIMED_OUT", Status::kTimedOut)
      .value("ALREADY_PRESENT", Status::kAlreadyPresent)
      .value("NO_ROOM", Status::kNoRoom)
      .value("DROPPED", Status::kDropped)
      .value("CANCELLED", Status::kCancelled)
      .value("NOT_ADMITTED", Status::kNotAdmitted)
      .finalize();
  py::native_enum<IoEngine>(module, "IoEngine", "enum.Enum")
      .value("AUTO", IoEngine::kAuto)
      .value("THREADS", IoEngine::kThreads)
      .value("IO_URING", IoEngine::kIoUring)
      .finalize();
  py::native_enum<Eviction>(module, "Eviction", "enum.Enum")
      .value("LRU", Eviction::kLru)
      .value("KEEP_REUSED", Eviction::kKeepReused)
      .finalize();
  py::class_<Completion>(module, "Completion")
      .def_readonly("ticket", &Completion::ticket)
      .def_readonly("status", &Completion::status);
  py::class_<GetRequest>(module, "Get")
      .def(py::init([](std::uint64_t ticket, const py::bytes& key, const PieceList& pieces) {
             return GetRequest{ticket, ToKey(key), ToPieces(pieces)};
           }),
           py::arg("ticket"), py::arg("key"), py::arg("pieces"))
      .def_readonly("ticket", &GetRequest::ticket)
      .def_property_readonly("key", [](const GetRequest& get) { return FromKey(get.key); })
      .def_property_readonly("pieces",
                             [](const GetRequest& get) { return FromPieces(get.pieces); });
  py::class_<PutRequest>(module, "Put")
      .def(py::init([](std::uint64_t ticket, const py::bytes& key, const py::bytes& parent,
                       const PieceList& pieces, std::uint64_t chain_pages) {
             return PutRequest{ticket, ToKey(key), ToKey(parent), ToPieces(pieces), chain_pages};
           }),
           py::arg("ticket"), py::arg("key"), py::arg("parent"), py::arg("pieces"),
           py::arg("chain_pages") = 0)
      .def_readonly("chain_pages", &PutRequest::chain_pages)
      .def_readonly("ticket", &PutRequest::ticket)
      .def_property_readonly("key", [](const PutRequest& put) { return FromKey(put.key); })
      .def_property_readonly("parent", [](const PutRequest& put) { return FromKey(put.parent); })
      .def_property_readonly("pieces",
                             [](const PutRequest& put) { return FromPieces(put.pieces); });
  py::class_<DirectorySpec>(module, "DirectorySpec")
      .def(py::init([](std::string path, std::uint64_t capacity_bytes) {
             return DirectorySpec{std::move(path), capacity_bytes};
           }),
           py::arg("path"), py::arg("capacity_bytes"))
      .def_readonly("path", &DirectorySpec::path)
      .def_readonly("capacity_bytes", &DirectorySpec::capacity_bytes);
}

void BindOptions(py::module_& module) {
  py::class_<StoreOptions>(module, "StoreOptions")
      .def(py::init([](const py::kwargs& fields) {
        const py::object options = py::cast(StoreOptions{});
        for (const auto& [name, value] : fields) {
          if (!py::hasattr(options, name)) {
            throw py::type_error("StoreOptions has no field `" + py::cast<std::string>(name) + "`");
          }
          py::setattr(options, name, value);
        }
        return py::cast<StoreOptions>(options);
      }))
      .def_readwrite("io_engine", &StoreOptions::io_engine)
      .def_readwrite("read_depth", &StoreOptions::read_depth)
      .def_readwrite("eviction", &StoreOptions::eviction)
      .def_property(
          "admit_sightings_min",
          [](const StoreOptions& options) { return options.admission.sightings_min; },
          [](StoreOptions& options, unsigned count) { options.admission.sightings_min = count; })
      .def_property(
          "admit_chain_pages_min",
          [](const StoreOptions& options) { return options.admission.chain_pages_min; },
          [](StoreOptions& options, std::uint64_t pages) {
            options.admission.chain_pages_min = pages;
          })
      .def_readwrite("write_depth", &StoreOptions::write_depth)
      .def_readwrite("write_queue", &StoreOptions::write_queue)
      .def_readwrite("read_timeout_s", &StoreOptions::read_timeout_s)
      .def_readwrite("stall_timeout_s", &StoreOptions::stall_timeout_s)
      .def_readwrite("probe_interval_s", &StoreOptions::probe_interval_s)
      .def_readwrite("open_timeout_s", &StoreOptions::open_timeout_s)
      .def_readwrite("close_timeout_s", &StoreOptions::close_timeout_s)
      .def_readwrite("commit_interval_s", &StoreOptions::commit_interval_s)
      .def_readwrite("reserve_bytes", &StoreOptions::reserve_bytes);
}

void BindDirectoryStats(py::module_& module) {
  py::class_<DirectoryStats>(module, "DirectoryStats")
      .def_readonly("path", &DirectoryStats::path)
      .def_readonly("is_open", &DirectoryStats::is_open)
      .def_readonly("reads_in_use", &DirectoryStats::reads_in_use)
      .def_readonly("writes_in_use", &DirectoryStats::writes_in_use)
      .def_readonly("out_of_use_reason", &DirectoryStats::out_of_use_reason)
      .def_readonly("direct_io", &DirectoryStats::direct_io)
      .def_readonly("pages", &DirectoryStats::pages)
      .def_readonly("capacity_pages", &DirectoryStats::capacity_pages)
      .def_readonly("capacity_bytes", &DirectoryStats::capacity_bytes)
      .def_readonly("used_bytes", &DirectoryStats::used_bytes)
      .def_readonly("read_bytes", &DirectoryStats::read_bytes)
      .def_readonly("written_bytes", &DirectoryStats::written_bytes)
      .def_readonly("disk_read_bytes", &DirectoryStats::disk_read_bytes)
      .def_readonly("disk_written_bytes", &DirectoryStats::disk_written_bytes)
      .def_readonly("disk_written_bytes_last_day", &DirectoryStats::disk_written_bytes_last_day)
      .def_readonly("lifetime_written_bytes", &DirectoryStats::lifetime_written_bytes)
      .def_readonly("lifetime_disk_written_bytes", &DirectoryStats::lifetime_disk_written_bytes)
      .def_readonly("lifetime_hit_bytes", &DirectoryStats::lifetime_hit_bytes)
      .def_readonly("io_errors", &DirectoryStats::io_errors)
      .def_readonly("reads_queued", &DirectoryStats::reads_queued)
      .def_readonly("writes_queued", &DirectoryStats::writes_queued)
      .def_readonly("reads_busy_s", &DirectoryStats::reads_busy_s)
      .def_readonly("writes_busy_s", &DirectoryStats::writes_busy_s);
}

void BindStats(py::module_& module) {
  py::class_<StoreStats>(module, "StoreStats")
      .def_readonly("io_engine", &StoreStats::io_engine)
      .def_readonly("pages", &StoreStats::pages)
      .def_readonly("capacity_pages", &StoreStats::capacity_pages)
      .def_readonly("capacity_bytes", &StoreStats::capacity_bytes)
      .def_readonly("used_bytes", &StoreStats::used_bytes)
      .def_readonly("recovered_pages", &StoreStats::recovered_pages)
      .def_readonly("recovery_s", &StoreStats::recovery_s)
      .def_readonly("hits", &StoreStats::hits)
      .def_readonly("misses", &StoreStats::misses)
      .def_readonly("corrupt", &StoreStats::corrupt)
      .def_readonly("read_bytes", &StoreStats::read_bytes)
      .def_readonly("written_bytes", &StoreStats::written_bytes)
      .def_readonly("disk_read_bytes", &StoreStats::disk_read_bytes)
      .def_readonly("disk_written_bytes", &StoreStats::disk_written_bytes)
      .def_readonly("disk_written_bytes_last_day", &StoreStats::disk_written_bytes_last_day)
      .def_readonly("lifetime_written_bytes", &StoreStats::lifetime_written_bytes)
      .def_readonly("lifetime_disk_written_bytes", &StoreStats::lifetime_disk_written_bytes)
      .def_readonly("lifetime_hit_bytes", &StoreStats::lifetime_hit_bytes)
      .def_readonly("evicted", &StoreStats::evicted)
      .def_readonly("dropped_writes", &StoreStats::dropped_writes)
      .def_readonly("not_admitted", &StoreStats::not_admitted)
      .def_readonly("timed_out_reads", &StoreStats::timed_out_reads)
      .def_readonly("io_errors", &StoreStats::io_errors)
      .def_readonly("degraded", &StoreStats::degraded)
      .def_readonly("degraded_reason", &StoreStats::degraded_reason)
      .def_readonly("reads_queued", &StoreStats::reads_queued)
      .def_readonly("writes_queued", &StoreStats::writes_queued)
      .def_readonly("directories", &StoreStats::directories);
}

template <typename Request>
void Submit(Store& store, std::vector<Request> batch) {
  store.Submit(std::move(batch));
}

void BindStoreClass(py::module_& module) {
  // A disk that hangs holds up whoever drops the last reference, for close_timeout_s: no one else.
  py::class_<Store, std::shared_ptr<Store>> store(module, "Store",
                                                  py::release_gil_before_calling_cpp_dtor());
  BindScrub(store);
  store
      .def_static("open", &Open, py::arg("directories"), py::kw_only(), py::arg("page_bytes"),
                  py::arg("namespace"), py::arg("options") = nullptr)
      .def_property_readonly("page_bytes", &Store::page_bytes)
      .def("contains", WithKeys(&Store::Contains), py::arg("keys"))
      .def("longest_prefix", WithKeys(&Store::LongestPrefix), py::arg("keys"))
      .def("submit_get", &Submit<GetRequest>, py::arg("batch"), Released())
      .def("submit_put", &Submit<PutRequest>, py::arg("batch"), Released())
      .def("event_fd", [](Store& store) { return store.completions().event_fd(); })
      .def(
          "poll", [](Store& store, std::size_t limit) { return store.completions().Poll(limit); },
          py::arg("limit") = 1024, Released())
      .def("wait", &Wait, py::arg("timeout_s"), py::arg("limit") = 1024)
      .def("touch", WithKeys(&Store::Touch), py::arg("keys"))
      .def("pin", WithKeys(&Store::Pin), py::arg("keys"))
      .def("unpin", WithKeys(&Store::Unpin), py::arg("keys"))
      .def("evict", WithKeys(&Store::Evict), py::arg("keys"))
      .def("clear", &Store::Clear, Released())
      .def("flush", &Store::Flush, Released())
      .def("stats", &Store::Stats, Released())
      .def("close", &Store::Close, Released());
}

}  // namespace

void BindStore(py::module_& module) {
  BindValues(module);
  BindOptions(module);
  BindDirectoryStats(module);
  BindStats(module);
  BindStoreClass(module);
  // Ends the threads before the memory that they may be writing to goes away.
  py::module_::import("atexit").attr("register")(py::cpp_function(&Store::CloseAll, Released()));
}

}  // namespace kvtier::binding
