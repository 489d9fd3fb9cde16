// Everything that is compiled once for each instruction set. TQKV_ISA names the tier; Highway picks its vectors from
// the compiler's flags.
#include <hwy/highway.h>

#include <cmath>
#include <cstring>

#include "runtime/cpu/codec_calls.h"
#include "runtime/cpu/kernels.h"

#define TQKV_STRING_(x) #x
#define TQKV_STRING(x) TQKV_STRING_(x)
#define TQKV_JOIN_(a, b) a##b
#define TQKV_JOIN(a, b) TQKV_JOIN_(a, b)

namespace tqkv::cpu {
namespace TQKV_ISA {
namespace hn = hwy::HWY_NAMESPACE;
#include "runtime/cpu/kernels/attention.inc"
#include "runtime/cpu/kernels/delta.inc"
#include "runtime/cpu/kernels/matrix.inc"
#include "runtime/cpu/kernels/vector.inc"
}  // namespace TQKV_ISA

const Kernels& TQKV_JOIN(TQKV_ISA, _kernels)();
const Kernels& TQKV_JOIN(TQKV_ISA, _kernels)() {
  static constexpr Kernels table{TQKV_STRING(TQKV_ISA), TQKV_ISA::matrix_kernels, TQKV_ISA::vector_kernels,
                                 TQKV_ISA::attention_kernels, TQKV_ISA::delta_kernels};
  return table;
}
}  // namespace tqkv::cpu
