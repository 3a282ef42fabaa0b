#pragma once

// The border to Python: plain values and addresses in, plain values out. Nothing here decides.

#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "arena.h"
#include "key.h"
#include "store.h"

namespace kvtier::binding {

using PieceList = std::vector<std::pair<std::uintptr_t, std::size_t>>;

// Throws ValueError unless `bytes` is a key's length.
Key ToKey(const pybind11::bytes& bytes);
pybind11::bytes FromKey(const Key& key);
std::vector<Piece> ToPieces(const PieceList& list);
PieceList FromPieces(const std::vector<Piece>& pieces);

inline std::span<const std::byte> AsBytes(const std::string& text) {
  return std::as_bytes(std::span(text.data(), text.size()));
}

void BindArena(pybind11::module_& module);
void BindInspect(pybind11::module_& module);
void BindStore(pybind11::module_& module);
void BindScrub(pybind11::class_<Store, std::shared_ptr<Store>>& store);

}  // namespace kvtier::binding
