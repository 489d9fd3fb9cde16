// Queries to the space in which a side's vectors are decoded, and sums of values back from it: the basis of the side,
// then, where it keeps signs of S, the product with S.
#pragma once
#include "codec/basis.h"
#include "codec/side_codec.h"
#include "model/rows.h"
#include "runtime/cpu/kernels.h"

namespace tqkv::cpu {

/// in [rows, dim] -> out [rows, codec.space()]; `in` is overwritten, and may be `out` where space is dim. Rows of both
/// lie one behind the other.
void lift(const Kernels& kernels, const codec::SideCodec& codec, const codec::Basis& basis, Rows<float> in,
          Rows<float> out, float* scratch);
/// sums [rows, codec.space()] -> out [rows, dim]; `sums` is overwritten, and may be `out` where space is dim. Rows of
/// both lie one behind the other.
void lower(const Kernels& kernels, const codec::SideCodec& codec, const codec::Basis& basis, Rows<float> sums,
           Rows<float> out, float* scratch);
/// Floats of `scratch` for so many rows.
std::size_t lift_scratch(int rows, int dim);
/// x [rows, dim] to a side's basis.
void to_basis(const Kernels& kernels, const codec::Basis& basis, Rows<float> x);

}  // namespace tqkv::cpu
