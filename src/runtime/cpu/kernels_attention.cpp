// The attention kernels of one instruction set.
#include "runtime/cpu/kernels/attention-inl.h"
#include "runtime/cpu/kernels/formats-inl.h"
#include "runtime/cpu/kernels/hadamard-inl.h"
#include "runtime/cpu/kernels/packed-inl.h"
#include "runtime/cpu/kernels/tables.h"

namespace tqkv::cpu::TQKV_ISA {

constexpr AttentionKernels attention_kernels{vec::encode,
                                             vec::decode,
                                             vec::rotate,
                                             vec::unrotate,
                                             vec::attend,
                                             vec::scores,
                                             vec::weigh,
                                             vec::add_values,
                                             vec::packed::keys_fit,
                                             vec::packed::values_fit,
                                             vec::packed::scratch_bytes,
                                             vec::packed::quantize_queries,
                                             vec::packed::scores,
                                             vec::packed::add_values,
                                             vec::packed::to_natural_order};

}  // namespace tqkv::cpu::TQKV_ISA
