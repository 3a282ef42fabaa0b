#include <cstddef>
#include <cstdint>

#include "kernel_table.h"
#include "target.h"

#if defined(__x86_64__)
#include <immintrin.h>

KVTIER_TARGET("avx512bf16,avx512f,avx512bw,avx512vl,avx512dq,avx2,fma")

namespace kvtier::kernels {
namespace {
namespace avx512_bf16 {
#include "simd_avx512.h"
#include "simd_avx512_bf16.h"
#include "table_body.h"
}  // namespace avx512_bf16
}  // namespace

const KernelTable kAvx512Bf16Kernels = avx512_bf16::kTable;

}  // namespace kvtier::kernels

KVTIER_TARGET_END
#endif
