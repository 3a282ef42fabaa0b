#include <cstddef>
#include <cstdint>

#include "kernel_table.h"
#include "target.h"

#if defined(__x86_64__)
#include <immintrin.h>

KVTIER_TARGET("avx512f,avx512bw,avx512vl,avx512dq,avx2,fma")

namespace kvtier::kernels {
namespace {
namespace avx512 {
#include "simd_avx512.h"
using Simd = Avx512;
#include "table_body.h"
}  // namespace avx512
}  // namespace

const KernelTable kAvx512Kernels = avx512::kTable;

}  // namespace kvtier::kernels

KVTIER_TARGET_END
#endif
