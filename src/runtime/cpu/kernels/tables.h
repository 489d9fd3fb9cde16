// The kernels of each instruction set, a table a family: kernels_<family>.cpp, compiled for it, defines its own.
#pragma once
#include "runtime/cpu/kernels.h"

#define TQKV_DECLARE_TABLES(isa)                   \
  namespace isa {                                  \
  extern const MatrixKernels matrix_kernels;       \
  extern const VectorKernels vector_kernels;       \
  extern const AttentionKernels attention_kernels; \
  extern const DeltaKernels delta_kernels;         \
  }

namespace tqkv::cpu {
#if defined(__x86_64__)
TQKV_DECLARE_TABLES(avx512)
TQKV_DECLARE_TABLES(avx2)
#elif defined(__aarch64__)
TQKV_DECLARE_TABLES(neon)
#endif
TQKV_DECLARE_TABLES(portable)
}  // namespace tqkv::cpu

#undef TQKV_DECLARE_TABLES
