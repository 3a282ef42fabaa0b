#include <pybind11/native_enum.h>

#include "binding.h"

namespace py = pybind11;

namespace kvtier::binding {
namespace {

// What a memoryview of a part refers to: keeps the mapping while any view of it lives.
struct PartBuffer {
  std::shared_ptr<std::span<std::byte>> view;
};

py::memoryview PartView(const Arena& arena, std::uint64_t part) {
  const py::object buffer = py::cast(PartBuffer{arena.PartView(part)});
  PyObject* view = PyMemoryView_FromObject(buffer.ptr());
  if (view == nullptr) throw py::error_already_set();
  return py::reinterpret_steal<py::memoryview>(view);
}

struct OpenFields {
  std::uint64_t slots;
  std::uint64_t parts;
  std::uint64_t part_bytes;
};

std::unique_ptr<Arena> Open(int fd, const OpenFields& fields, const std::string& name_space,
                            Backing backing, std::vector<int> numa_nodes) {
  ArenaOptions options;
  options.geometry =
      MakeArenaGeometry(fields.slots, fields.parts, fields.part_bytes, AsBytes(name_space));
  options.backing = backing;
  options.numa_nodes = std::move(numa_nodes);
  const WithoutGil released;
  return Arena::Open(fd, options);
}

std::uint64_t RequiredBytes(std::uint64_t slots, std::uint64_t parts, std::uint64_t part_bytes,
                            Backing backing) {
  const ArenaGeometry geometry{.slots = slots, .parts = parts, .part_bytes = part_bytes};
  return MakeArenaHeader(geometry, BackingAlignment(backing)).total_bytes;
}

void BindArenaClass(py::module_& module) {
  py::class_<Arena>(module, "Arena")
      .def_static(
          "open",
          [](int fd, std::uint64_t slots, std::uint64_t parts, std::uint64_t part_bytes,
             const py::bytes& name_space, Backing backing, std::vector<int> numa_nodes) {
            return Open(fd, {slots, parts, part_bytes}, name_space, backing, std::move(numa_nodes));
          },
          py::arg("fd"), py::kw_only(), py::arg("slots"), py::arg("parts"), py::arg("part_bytes"),
          py::arg("namespace"), py::arg("backing") = Backing::kTransparent,
          py::arg("numa_nodes") = std::vector<int>{})
      .def_static("attach", &Arena::Attach, py::arg("fd"), Released())
      .def_static("required_bytes", &RequiredBytes, py::arg("slots"), py::arg("parts"),
                  py::arg("part_bytes"), py::arg("backing") = Backing::kTransparent)
      .def_property_readonly("slots", [](const Arena& arena) { return arena.geometry().slots; })
      .def_property_readonly("parts", [](const Arena& arena) { return arena.geometry().parts; })
      .def_property_readonly("part_bytes",
                             [](const Arena& arena) { return arena.geometry().part_bytes; })
      .def_property_readonly("part_stride", &Arena::part_stride)
      .def_property_readonly("adopted", &Arena::adopted)
      .def_property_readonly("backing", &Arena::backing)
      .def_property_readonly("numa_error", [](const Arena& arena) { return arena.numa_error(); })
      .def("part_address",
           [](const Arena& arena, std::uint64_t part) {
             return reinterpret_cast<std::uintptr_t>(arena.PartAddress(part));
           })
      .def("part_view", &PartView, py::arg("part"))
      .def("pieces",
           [](const Arena& arena, std::uint64_t slot) { return FromPieces(arena.Pieces(slot)); })
      .def("prefault", &Arena::StartPrefault, py::arg("threads") = 2, py::arg("slots") = py::none(),
           Released())
      .def("release", &Arena::Release, py::arg("first_slot"), Released())
      .def_property_readonly("populated_bytes", &Arena::populated_bytes)
      .def_property_readonly("target_bytes", &Arena::target_bytes)
      .def_property_readonly("prefault_error", &Arena::prefault_error)
      .def_property_readonly("mapped_bytes", &Arena::mapped_bytes)
      .def(
          "publish",
          [](Arena& arena, std::uint64_t slot, const py::bytes& key_bytes,
             const py::bytes& parent_bytes) {
            const Key key = ToKey(key_bytes);
            const Key parent = ToKey(parent_bytes);
            const WithoutGil released;
            arena.Publish(slot, key, parent);
          },
          py::arg("slot"), py::arg("key"), py::arg("parent") = py::bytes(FromKey(Key{})))
      .def("retract", &Arena::Retract, py::arg("slot"), Released())
      .def("move", &Arena::Move, py::arg("source"), py::arg("target"), Released())
      .def("verify", &Arena::Verify, py::arg("slot"), Released())
      .def("entries", &Arena::Entries, Released())
      .def("close", &Arena::Close, Released());
}

}  // namespace

void BindArena(py::module_& module) {
  py::native_enum<Backing>(module, "Backing", "enum.Enum")
      .value("HUGE_1G", Backing::kHuge1G)
      .value("HUGE_2M", Backing::kHuge2M)
      .value("TRANSPARENT", Backing::kTransparent)
      .value("PLAIN", Backing::kPlain)
      .finalize();
  py::class_<ArenaEntry>(module, "ArenaEntry")
      .def_readonly("slot", &ArenaEntry::slot)
      .def_property_readonly("key", [](const ArenaEntry& entry) { return FromKey(entry.key); })
      .def_property_readonly("parent",
                             [](const ArenaEntry& entry) { return FromKey(entry.parent); })
      .def_readonly("sequence", &ArenaEntry::sequence);
  py::class_<PartBuffer>(module, "_PartBuffer", py::buffer_protocol())
      .def_buffer([](PartBuffer& part) {
        const auto bytes = static_cast<py::ssize_t>(part.view->size());
        return py::buffer_info(part.view->data(), 1, "B", 1, {bytes}, {py::ssize_t{1}});
      });
  BindArenaClass(module);
}

}  // namespace kvtier::binding
