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

// Gives the GIL to others until it is destroyed. Unlike pybind11's, at the interpreter's end as
// well: Python (before 3.14) then ends a daemon thread that asks for the GIL by unwinding its
// stack, which from a destructor is the end of the process; here the thread stands still until the
// process exits.
class WithoutGil {
 public:
  WithoutGil() { Give(); }
  ~WithoutGil() { Take(); }
  WithoutGil(const WithoutGil&) = delete;
  WithoutGil& operator=(const WithoutGil&) = delete;

  // Has the GIL back for as long as it lives, to call Python in between.
  class Meanwhile {
   public:
    explicit Meanwhile(WithoutGil& outer) : outer_(outer) { outer_.Take(); }
    ~Meanwhile() { outer_.Give(); }
    Meanwhile(const Meanwhile&) = delete;
    Meanwhile& operator=(const Meanwhile&) = delete;

   private:
    WithoutGil& outer_;
  };

 private:
  void Give();
  void Take() noexcept;

  PyThreadState* state_ = nullptr;
};

using Released = pybind11::call_guard<WithoutGil>;

void BindArena(pybind11::module_& module);
void BindInspect(pybind11::module_& module);
void BindStore(pybind11::module_& module);
void BindScrub(pybind11::class_<Store, std::shared_ptr<Store>>& store);

}  // namespace kvtier::binding
