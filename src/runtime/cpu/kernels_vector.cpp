// The kernels of one instruction set for rows of floats and for the gated delta rule.
#include "runtime/cpu/kernels/delta-inl.h"
#include "runtime/cpu/kernels/tables.h"
#include "runtime/cpu/kernels/vector-inl.h"

namespace tqkv::cpu::TQKV_ISA {

constexpr VectorKernels vector_kernels{vec::rms_norm,      vec::l2_norm,          vec::add,     vec::add_scaled,
                                       vec::silu_multiply, vec::sigmoid_multiply, vec::softmax, vec::rope};
constexpr DeltaKernels delta_kernels{vec::convolve, vec::delta_step, vec::delta_chunk, vec::delta_chunk_scratch};

}  // namespace tqkv::cpu::TQKV_ISA
