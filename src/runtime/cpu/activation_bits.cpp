#include "runtime/cpu/activation_bits.h"

#include <algorithm>

namespace tqkv::cpu {
namespace {

// Bits of a Lloyd-Max code with steps as fine as those of `side`: affine codes spread theirs over the whole range.
int fineness(const SideFormat& side) {
  const bool affine = side.kind == SideFormat::Kind::affine || side.kind == SideFormat::Kind::rotated_affine;
  return affine ? side.bits - 1 : side.bits;
}

}  // namespace

ActivationBits activation_bits(const KvFormat& format) {
  const int coarser = std::min(fineness(format.k), fineness(format.v));
  return {coarser >= 3 ? 8 : 16, coarser >= 4 ? 8 : 16};
}

}  // namespace tqkv::cpu
