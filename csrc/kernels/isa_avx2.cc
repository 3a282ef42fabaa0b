#include <cstddef>
#include <cstdint>

#include "kernel_table.h"
#include "target.h"

#if defined(__x86_64__)
#include <immintrin.h>

KVTIER_TARGET("avx2,fma")

namespace kvtier::kernels {
namespace {
namespace avx2 {
#include "simd_avx2.h"
#include "table_body.h"
}  // namespace avx2
}  // namespace

const KernelTable kAvx2Kernels = avx2::kTable;

}  // namespace kvtier::kernels

KVTIER_TARGET_END
#endif
