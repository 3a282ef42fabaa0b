#include "binding.h"
#include "inspect.h"
#include "store.h"

namespace py = pybind11;

namespace kvtier::binding {
namespace {

py::bytes NamespaceBytes(const DirectoryInfo& info) {
  return {reinterpret_cast<const char*>(info.name_space.bytes.data()),
          std::min<std::size_t>(info.name_space.size, Namespace::kBytesMax)};
}

py::bytes UuidBytes(const DirectoryInfo& info) {
  return {reinterpret_cast<const char*>(info.uuid.data()), info.uuid.size()};
}

// Calls back with the GIL, so that Ctrl-C and whatever `progress` raises end the scrub.
ScrubReport Scrub(Store& store, const py::object& progress, std::uint64_t bytes_per_s) {
  WithoutGil released;
  const auto call = [&](const ScrubReport& so_far) {
    const WithoutGil::Meanwhile with_gil(released);
    if (PyErr_CheckSignals() != 0) throw py::error_already_set();
    if (progress.is_none()) return true;
    const py::object answer = progress(so_far);
    return answer.is_none() || py::cast<bool>(answer);
  };
  return store.Scrub(call, {bytes_per_s});
}

void BindDirectoryInfo(py::module_& module) {
  py::class_<PageInfo>(module, "PageInfo")
      .def_property_readonly("key", [](const PageInfo& page) { return FromKey(page.key); })
      .def_property_readonly("parent", [](const PageInfo& page) { return FromKey(page.parent); })
      .def_readonly("slot", &PageInfo::slot)
      .def_readonly("sequence", &PageInfo::sequence)
      .def_readonly("written_by_unix_s", &PageInfo::written_by_unix_s);
  py::class_<Wear>(module, "Wear")
      .def_readonly("payload_written_bytes", &Wear::payload_written_bytes)
      .def_readonly("disk_written_bytes", &Wear::disk_written_bytes)
      .def_readonly("hit_bytes", &Wear::hit_bytes)
      .def_readonly("disk_read_bytes", &Wear::disk_read_bytes);
  py::class_<Mark>(module, "Mark")
      .def_readonly("unix_s", &Mark::unix_s)
      .def_readonly("sequence", &Mark::sequence)
      .def_readonly("wear", &Mark::wear);
  py::class_<DirectoryInfo>(module, "DirectoryInfo")
      .def_readonly("problems", &DirectoryInfo::problems)
      .def_readonly("is_store", &DirectoryInfo::is_store)
      .def_readonly("version", &DirectoryInfo::version)
      .def_readonly("holder", &DirectoryInfo::holder)
      .def_property_readonly("uuid", &UuidBytes)
      .def_property_readonly("namespace", &NamespaceBytes)
      .def_readonly("page_bytes", &DirectoryInfo::page_bytes)
      .def_readonly("created_unix_s", &DirectoryInfo::created_unix_s)
      .def_readonly("slots", &DirectoryInfo::slots)
      .def_readonly("allocated_bytes", &DirectoryInfo::allocated_bytes)
      .def_readonly("journal_records", &DirectoryInfo::journal_records)
      .def_readonly("damaged_records", &DirectoryInfo::damaged_records)
      .def_readonly("journal_generation", &DirectoryInfo::journal_generation)
      .def_readonly("pages", &DirectoryInfo::pages)
      .def_readonly("fitting_capacity_bytes", &DirectoryInfo::fitting_capacity_bytes)
      .def_property_readonly("marks", [](const DirectoryInfo& info) {
        const auto marks = info.timeline.marks();
        return std::vector<Mark>(marks.begin(), marks.end());
      });
}

}  // namespace

void BindInspect(py::module_& module) {
  BindDirectoryInfo(module);
  module.def("inspect", &InspectDirectory, py::arg("path"), Released());
  py::class_<ScrubReport>(module, "ScrubReport")
      .def_readonly("pages_total", &ScrubReport::pages_total)
      .def_readonly("pages", &ScrubReport::pages)
      .def_readonly("bytes", &ScrubReport::bytes)
      .def_readonly("skipped", &ScrubReport::skipped)
      .def_readonly("unreadable", &ScrubReport::unreadable)
      .def_readonly("bad", &ScrubReport::bad)
      .def_readonly("stopped", &ScrubReport::stopped);
}

void BindScrub(py::class_<Store, std::shared_ptr<Store>>& store) {
  store.def("verify", &Scrub, py::arg("progress") = py::none(), py::arg("bytes_per_s") = 0);
}

}  // namespace kvtier::binding
