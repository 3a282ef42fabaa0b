// Python's face of the kernels: addresses, lengths and plain values. See
// _kernels.pyi.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <cstdint>
#include <memory>
#include <string>

#include "attention.h"
#include "batch.h"
#include "copy_pages.h"
#include "isa.h"
#include "linear.h"
#include "packed_weight.h"
#include "rowwise.h"
#include "thread_pool.h"

namespace py = pybind11;

namespace kvtier::kernels {
namespace {

using Address = std::uintptr_t;
using Stride = std::ptrdiff_t;

template <typename T = void>
T* At(Address address) {
  return reinterpret_cast<T*>(address);
}

Dtype DtypeOf(const std::string& name) {
  if (name == "bfloat16") return Dtype::kBfloat16;
  Require(name == "float32", "a dtype is `float32` or `bfloat16`, not `" + name + "`");
  return Dtype::kFloat32;
}

const char* DtypeName(Dtype dtype) { return dtype == Dtype::kFloat32 ? "float32" : "bfloat16"; }

using NoGil = py::gil_scoped_release;

void BindThreads(py::module_& module) {
  module.def("set_num_threads", &ThreadPool::SetThreads, py::arg("threads"),
             py::call_guard<NoGil>());
  module.def("num_threads", &ThreadPool::Threads);
  module.def("isa", [] { return std::string(IsaName(CurrentIsa())); });
  module.def("supported_isas", [] {
    std::vector<std::string> names;
    for (const Isa isa : SupportedIsas()) names.emplace_back(IsaName(isa));
    return names;
  });
  module.def("force_isa", &ForceIsa, py::arg("name"));
}

void BindCopies(py::module_& module) {
  module.def(
      "copy_pages",
      [](Address to, Stride to_stride, Address from, Stride from_stride, std::size_t bytes,
         const std::vector<std::pair<int, int>>& pairs) {
        const NoGil no_gil;
        CopyPages({At<std::byte>(to), to_stride}, {At<std::byte>(from), from_stride}, bytes, pairs);
      },
      py::arg("to_addr"), py::arg("to_stride"), py::arg("from_addr"), py::arg("from_stride"),
      py::arg("page_bytes"), py::arg("pairs"));
}

std::unique_ptr<PackedWeight> Pack(Address address, int n, int k, const std::string& dtype,
                                   Stride row_stride) {
  const Rows weight{At(address), row_stride == 0 ? k : row_stride, DtypeOf(dtype)};
  const NoGil no_gil;
  return std::make_unique<PackedWeight>(weight, n, k);
}

void BindLinear(py::module_& module) {
  py::class_<PackedWeight>(module, "PackedWeight")
      .def(py::init(&Pack), py::arg("weight_addr"), py::arg("n"), py::arg("k"), py::arg("dtype"),
           py::arg("row_stride") = 0)
      .def_property_readonly("n", &PackedWeight::n)
      .def_property_readonly("k", &PackedWeight::k)
      .def_property_readonly("dtype",
                             [](const PackedWeight& weight) { return DtypeName(weight.dtype()); })
      .def_property_readonly("nbytes", &PackedWeight::bytes);
  module.def(
      "linear",
      [](const PackedWeight& weight, Address x, int m, Stride x_stride, Address out,
         Stride out_stride, const std::string& out_dtype, Address bias) {
        const LinearCall call{.weight = &weight,
                              .x = {At(x), x_stride, weight.dtype()},
                              .rows = m,
                              .out = {At(out), out_stride, DtypeOf(out_dtype)},
                              .bias = At(bias)};
        const NoGil no_gil;
        Linear(call);
      },
      py::arg("weight"), py::arg("x_addr"), py::arg("m"), py::arg("x_stride"), py::arg("out_addr"),
      py::arg("out_stride"), py::arg("out_dtype"), py::arg("bias_addr") = 0);
}

void BindPages(py::module_& module) {
  py::class_<PagePool>(module, "PagePool")
      .def(py::init([](Address address, const std::string& dtype, int pages, int kv_heads,
                       int page_tokens, int head_dim, Stride page_stride, Stride head_stride,
                       Stride kv_stride, Stride token_stride) {
             const PagePool pool{.data = At(address),
                                 .dtype = DtypeOf(dtype),
                                 .pages = pages,
                                 .kv_heads = kv_heads,
                                 .page_tokens = page_tokens,
                                 .head_dim = head_dim,
                                 .page_stride = page_stride,
                                 .head_stride = head_stride,
                                 .kv_stride = kv_stride,
                                 .token_stride = token_stride};
             CheckPool(pool);
             return pool;
           }),
           py::kw_only(), py::arg("addr"), py::arg("dtype"), py::arg("pages"), py::arg("kv_heads"),
           py::arg("page_tokens"), py::arg("head_dim"), py::arg("page_stride"),
           py::arg("head_stride"), py::arg("kv_stride"), py::arg("token_stride"));
  py::class_<Batch>(module, "Batch")
      .def(py::init([](Address query_starts, Address contexts, Address page_tables, int sequences,
                       int table_stride, int page_tokens) {
             return std::make_unique<Batch>(
                 BatchArrays{.query_starts = At<const std::int32_t>(query_starts),
                             .contexts = At<const std::int32_t>(contexts),
                             .page_tables = At<const std::int32_t>(page_tables),
                             .sequences = sequences,
                             .table_stride = table_stride,
                             .page_tokens = page_tokens});
           }),
           py::kw_only(), py::arg("query_starts_addr"), py::arg("contexts_addr"),
           py::arg("page_tables_addr"), py::arg("sequences"), py::arg("table_stride"),
           py::arg("page_tokens"))
      .def_property_readonly("tokens", &Batch::tokens);
  py::class_<Heads>(module, "Heads")
      .def(py::init([](Address address, int heads, Stride token_stride, Stride head_stride) {
             return Heads{At(address), token_stride, head_stride, heads};
           }),
           py::arg("addr"), py::arg("heads"), py::arg("token_stride"), py::arg("head_stride"));
}

void BindAttention(py::module_& module) {
  module.def(
      "attention",
      [](const Batch& batch, const PagePool& pool, const Heads& query, const Heads& out,
         float scale, int window, float softcap) {
        const AttentionCall call{.batch = &batch,
                                 .pool = pool,
                                 .query = query,
                                 .out = out,
                                 .dtype = pool.dtype,
                                 .scale = scale,
                                 .window = window,
                                 .softcap = softcap};
        const NoGil no_gil;
        Attention(call);
      },
      py::arg("batch"), py::arg("pool"), py::arg("query"), py::arg("out"), py::kw_only(),
      py::arg("scale"), py::arg("window") = 0, py::arg("softcap") = 0.0f);
  module.def(
      "rope_write",
      [](const Batch& batch, const PagePool& pool, const Heads& query, const Heads& key,
         const Heads& value, Address cos, Address sin, int rotary_dim, int positions,
         Stride table_stride) {
        const RopeWriteCall call{.batch = &batch,
                                 .pool = pool,
                                 .query = query,
                                 .key = key,
                                 .value = value,
                                 .cos = At<const float>(cos),
                                 .sin = At<const float>(sin),
                                 .rotary_dim = rotary_dim,
                                 .positions = positions,
                                 .table_stride = table_stride};
        const NoGil no_gil;
        RopeWrite(call);
      },
      py::arg("batch"), py::arg("pool"), py::arg("query"), py::arg("key"), py::arg("value"),
      py::kw_only(), py::arg("cos_addr"), py::arg("sin_addr"), py::arg("rotary_dim"),
      py::arg("positions"), py::arg("table_stride"));
}

void BindRows(py::module_& module) {
  module.def(
      "rms_norm",
      [](Address x, Address out, Address weight, int rows, int size, float epsilon,
         const std::string& dtype_name, Stride x_stride, Stride out_stride, Address residual,
         Stride residual_stride) {
        const Dtype dtype = DtypeOf(dtype_name);
        const RmsNormCall call{
            .x = {At(x), x_stride == 0 ? size : x_stride, dtype},
            .residual = {At(residual), residual_stride == 0 ? size : residual_stride, dtype},
            .out = {At(out), out_stride == 0 ? size : out_stride, dtype},
            .weight = At(weight),
            .rows = rows,
            .size = size,
            .epsilon = epsilon};
        const NoGil no_gil;
        RmsNorm(call);
      },
      py::arg("x_addr"), py::arg("out_addr"), py::arg("weight_addr"), py::arg("rows"),
      py::arg("size"), py::arg("epsilon"), py::arg("dtype"), py::kw_only(), py::arg("x_stride") = 0,
      py::arg("out_stride") = 0, py::arg("residual_addr") = 0, py::arg("residual_stride") = 0);
  module.def(
      "silu_mul",
      [](Address gate, Address up, Address out, int rows, int size, const std::string& dtype_name,
         Stride gate_stride, Stride up_stride, Stride out_stride) {
        const Dtype dtype = DtypeOf(dtype_name);
        const SiluMulCall call{.gate = {At(gate), gate_stride == 0 ? size : gate_stride, dtype},
                               .up = {At(up), up_stride == 0 ? size : up_stride, dtype},
                               .out = {At(out), out_stride == 0 ? size : out_stride, dtype},
                               .rows = rows,
                               .size = size};
        const NoGil no_gil;
        SiluMul(call);
      },
      py::arg("gate_addr"), py::arg("up_addr"), py::arg("out_addr"), py::arg("rows"),
      py::arg("size"), py::arg("dtype"), py::kw_only(), py::arg("gate_stride") = 0,
      py::arg("up_stride") = 0, py::arg("out_stride") = 0);
}

}  // namespace
}  // namespace kvtier::kernels

PYBIND11_MODULE(_kernels, module) {
  using namespace kvtier::kernels;
  BindThreads(module);
  BindCopies(module);
  BindLinear(module);
  BindPages(module);
  BindAttention(module);
  BindRows(module);
}
