// The matrix kernels of one instruction set.
#include "runtime/cpu/kernels/matrix-inl.h"
#include "runtime/cpu/kernels/tables.h"

namespace tqkv::cpu::TQKV_ISA {

constexpr MatrixKernels matrix_kernels{quantize_rows, quantize16,  multiply_rows, multiply16,
                                       multiply_f32,  f32_scratch, dequantize_row};

}  // namespace tqkv::cpu::TQKV_ISA
