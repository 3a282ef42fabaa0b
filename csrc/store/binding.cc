#include "binding.h"

#include <unistd.h>

#include <stdexcept>

#if defined(__GLIBCXX__)
#include <cxxabi.h>
#endif

#include "crc32c.h"
#include "error.h"

namespace py = pybind11;

namespace kvtier::binding {

Key ToKey(const py::bytes& bytes) {
  const std::string_view text = bytes;
  if (text.size() != kKeyBytes) {
    throw py::value_error("a key has " + std::to_string(kKeyBytes) + " bytes, not " +
                          std::to_string(text.size()));
  }
  Key key;
  std::memcpy(key.bytes.data(), text.data(), kKeyBytes);
  return key;
}

py::bytes FromKey(const Key& key) {
  return py::bytes(reinterpret_cast<const char*>(key.bytes.data()), kKeyBytes);
}

std::vector<Piece> ToPieces(const PieceList& list) {
  std::vector<Piece> pieces;
  pieces.reserve(list.size());
  for (const auto& [address, bytes] : list) {
    pieces.push_back({reinterpret_cast<std::byte*>(address), bytes});
  }
  return pieces;
}

PieceList FromPieces(const std::vector<Piece>& pieces) {
  PieceList list;
  list.reserve(pieces.size());
  for (const Piece& piece : pieces) {
    list.emplace_back(reinterpret_cast<std::uintptr_t>(piece.data), piece.bytes);
  }
  return list;
}

void WithoutGil::Give() { state_ = PyEval_SaveThread(); }

void WithoutGil::Take() noexcept {
#if defined(__GLIBCXX__)
  try {
    PyEval_RestoreThread(state_);
  } catch (const abi::__forced_unwind&) {
    for (;;) ::pause();
  }
#else
  PyEval_RestoreThread(state_);
#endif
}

namespace {

std::uint32_t Checksum(const py::buffer& data, std::uint32_t seed) {
  const py::buffer_info info = data.request();
  py::ssize_t dense = info.itemsize;
  for (auto axis = info.ndim; axis-- > 0;) {
    if (info.strides[axis] != dense) throw py::value_error("crc32c needs contiguous memory");
    dense *= info.shape[axis];
  }
  const auto bytes = static_cast<std::size_t>(info.size * info.itemsize);
  const WithoutGil released;
  return Crc32c({static_cast<const std::byte*>(info.ptr), bytes}, seed);
}

}  // namespace
}  // namespace kvtier::binding

PYBIND11_MODULE(_native, module) {
  using namespace kvtier;
  module.doc() = "The native host-memory arena (L2) and page store (L3).";
  module.attr("KEY_BYTES") = kKeyBytes;
  py::register_exception<StoreError>(module, "StoreError");
  py::register_exception<ArenaError>(module, "ArenaError");
  module.def("crc32c", &binding::Checksum, py::arg("data"), py::arg("seed") = 0,
             "CRC-32C (Castagnoli) of `data`, continuing from `seed`.");
  binding::BindArena(module);
  binding::BindInspect(module);
  binding::BindStore(module);
}
