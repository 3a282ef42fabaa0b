#include <cstddef>
#include <cstdint>

#include "kernel_table.h"
#include "target.h"

namespace kvtier::kernels {
namespace {
namespace portable {
#include "simd_portable.h"
#include "table_body.h"
}  // namespace portable
}  // namespace

const KernelTable kPortableKernels = portable::kTable;

}  // namespace kvtier::kernels
