#include "isa.h"

#include <atomic>

#include "types.h"

namespace kvtier::kernels {
namespace {

constexpr Isa kAll[] = {Isa::kPortable, Isa::kAvx2, Isa::kAvx512, Isa::kAvx512Bf16};

bool IsSupported(Isa isa) {
#if defined(__x86_64__)
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  const bool avx512 = avx2 && __builtin_cpu_supports("avx512f") &&
                      __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") &&
                      __builtin_cpu_supports("avx512dq");
  if (isa == Isa::kAvx2) return avx2;
  if (isa == Isa::kAvx512) return avx512;
  if (isa == Isa::kAvx512Bf16) return avx512 && __builtin_cpu_supports("avx512bf16");
#endif
  return isa == Isa::kPortable;
}

Isa Best() { return SupportedIsas().back(); }

std::atomic<Isa>& Current() {
  static std::atomic<Isa> current{Best()};
  return current;
}

}  // namespace

const char* IsaName(Isa isa) {
  switch (isa) {
    case Isa::kAvx2:
      return "avx2";
    case Isa::kAvx512:
      return "avx512";
    case Isa::kAvx512Bf16:
      return "avx512_bf16";
    case Isa::kPortable:
      break;
  }
  return "portable";
}

std::vector<Isa> SupportedIsas() {
  std::vector<Isa> supported;
  for (const Isa isa : kAll) {
    if (IsSupported(isa)) supported.push_back(isa);
  }
  return supported;
}

Isa CurrentIsa() { return Current().load(); }

void ForceIsa(const std::string& name) {
  if (name.empty()) {
    Current().store(Best());
    return;
  }
  for (const Isa isa : kAll) {
    if (name != IsaName(isa)) continue;
    Require(IsSupported(isa), "this processor does not have the instructions of `" + name + "`");
    Current().store(isa);
    return;
  }
  Require(false, "instruction sets are portable, avx2, avx512 and avx512_bf16, not `" + name + "`");
}

const KernelTable& Kernels() {
#if defined(__x86_64__)
  switch (CurrentIsa()) {
    case Isa::kAvx512Bf16:
      return kAvx512Bf16Kernels;
    case Isa::kAvx512:
      return kAvx512Kernels;
    case Isa::kAvx2:
      return kAvx2Kernels;
    case Isa::kPortable:
      break;
  }
#endif
  return kPortableKernels;
}

}  // namespace kvtier::kernels
