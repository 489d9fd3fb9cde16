// The scalar codec behind plain pointers. The kernel files call it for formats and sizes that have no fast path; they
// are compiled for one instruction set each and must not instantiate inline functions of the standard library.
#pragma once
#include <cstddef>

#include "base/float16.h"
#include "codec/side_codec.h"

namespace tqkv::cpu {

void encode_reference(const codec::SideCodec& codec, const float* x, std::byte* codes, std::byte* scalars);
void decode_reference(const codec::SideCodec& codec, const std::byte* codes, const std::byte* scalars, float* x);
const float* centroid_table(int bits);   // [2^bits]
const float* threshold_table(int bits);  // [2^bits - 1]

}  // namespace tqkv::cpu
