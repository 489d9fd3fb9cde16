#include "runtime/cpu/kernels.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "runtime/cpu/kernels/tables.h"
#include "tqkv/error.h"

namespace tqkv::cpu {
namespace {

#define TQKV_KERNELS(isa) \
  { #isa, isa::matrix_kernels, isa::vector_kernels, isa::attention_kernels, isa::delta_kernels }
constexpr Kernels compiled[] = {  // best first
#if defined(__x86_64__)
    TQKV_KERNELS(avx512), TQKV_KERNELS(avx2),
#elif defined(__aarch64__)
    TQKV_KERNELS(neon),
#endif
    TQKV_KERNELS(portable)};
#undef TQKV_KERNELS

bool runs_here([[maybe_unused]] std::string_view isa) {
#if defined(__x86_64__)
  __builtin_cpu_init();
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi2");
  if (isa == "avx2") return avx2;
  if (isa == "avx512")
    return avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
           __builtin_cpu_supports("avx512vnni") && __builtin_cpu_supports("avx512vbmi") &&
           __builtin_cpu_supports("avx512vbmi2");
#endif
  return true;
}

}  // namespace

std::vector<std::string_view> available_isas() {
  std::vector<std::string_view> isas;
  for (const Kernels& kernels : compiled)
    if (runs_here(kernels.isa)) isas.emplace_back(kernels.isa);
  return isas;
}

const Kernels& kernels(std::string_view isa) {
  for (const Kernels& kernels : compiled)
    if ((isa.empty() || isa == kernels.isa) && runs_here(kernels.isa)) return kernels;
  throw Error(ErrorKind::usage, fmt::format("instruction set '{}' is not available here; there are: {}", isa,
                                            fmt::join(available_isas(), ", ")));
}

}  // namespace tqkv::cpu
