// Which instruction set the kernels run on, chosen once from what the processor offers.
#pragma once

#include <string>
#include <vector>

#include "kernel_table.h"

namespace kvtier::kernels {

enum class Isa { kPortable, kAvx2, kAvx512, kAvx512Bf16 };

const char* IsaName(Isa isa);

// Those that this processor can run, slowest first; kPortable is always there.
std::vector<Isa> SupportedIsas();

Isa CurrentIsa();

// Makes `name` the current one, or the best supported one for "". For tests: results
// of two instruction sets differ in their last bits. Throws std::invalid_argument for an unknown
// or unsupported name. Not while a kernel runs.
void ForceIsa(const std::string& name);

// The kernels of the current instruction set.
const KernelTable& Kernels();

}  // namespace kvtier::kernels
