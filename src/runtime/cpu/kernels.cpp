#include "runtime/cpu/kernels.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "tqkv/error.h"

namespace tqkv::cpu {

#if defined(__x86_64__)
const Kernels& avx512_kernels();
const Kernels& avx2_kernels();
#elif defined(__aarch64__)
const Kernels& neon_kernels();
#endif
const Kernels& portable_kernels();

std::vector<std::string_view> available_isas() {
  std::vector<std::string_view> isas;
#if defined(__x86_64__)
  __builtin_cpu_init();
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi2");
  if (avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
      __builtin_cpu_supports("avx512vnni") && __builtin_cpu_supports("avx512vbmi") &&
      __builtin_cpu_supports("avx512vbmi2"))
    isas.emplace_back("avx512");
  if (avx2) isas.emplace_back("avx2");
#elif defined(__aarch64__)
  isas.emplace_back("neon");
#endif
  isas.emplace_back("portable");
  return isas;
}

const Kernels& kernels(std::string_view isa) {
  const auto isas = available_isas();
  if (isa.empty()) isa = isas.front();
  for (const auto available : isas) {
    if (available != isa) continue;
#if defined(__x86_64__)
    if (isa == "avx512") return avx512_kernels();
    if (isa == "avx2") return avx2_kernels();
#elif defined(__aarch64__)
    if (isa == "neon") return neon_kernels();
#endif
    return portable_kernels();
  }
  throw Error(ErrorKind::usage,
              fmt::format("instruction set '{}' is not available here; there are: {}", isa, fmt::join(isas, ", ")));
}

}  // namespace tqkv::cpu
