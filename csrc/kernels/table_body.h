// Includes every body for one instruction set and collects its kernels. The
// includer has included its simd_*.h.

// clang-format off: the order is that of dependence
#include "math_body.h"
#include "tile_body.h"
#include "linear_body.h"
#include "attention_common_body.h"
#include "attention_many_body.h"
#include "attention_one_body.h"
#include "rowwise_body.h"
// clang-format on

inline constexpr KernelTable kTable = {
    Simd::kLinearRows, LinearPack, LinearPanelTask, AttentionMany,  AttentionOne,
    AttentionMerge,    RmsNormRow, SiluMulRow,      RopeWriteToken,
};
