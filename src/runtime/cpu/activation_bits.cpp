#include "runtime/cpu/activation_bits.h"

#include <algorithm>

namespace tqkv::cpu {
namespace {

// Bits of a Lloyd-Max code with steps as fine as those of `side`.
int fineness(const SideFormat& side) {
  switch (side.kind) {
    case SideFormat::Kind::affine:
    case SideFormat::Kind::rotated_affine:
    case SideFormat::Kind::prod:    // the bit of the sign tells less than one of the code
    case SideFormat::Kind::sketch:  // affine codes spread theirs over the whole range
      return side.bits - 1;
    case SideFormat::Kind::polar:
      return 3;
    case SideFormat::Kind::plain:
    case SideFormat::Kind::turboquant:
    case SideFormat::Kind::split:
    case SideFormat::Kind::trellis:
    case SideFormat::Kind::signs:
      return side.bits;
  }
  return side.bits;
}

}  // namespace

ActivationBits activation_bits(const KvFormat& format) {
  int coarser = std::min(fineness(format.k), fineness(format.v));
  for (const auto& layer : format.layers) coarser = std::min({coarser, fineness(layer.k), fineness(layer.v)});
  return {coarser >= 3 ? 8 : 16, coarser >= 4 ? 8 : 16};
}

}  // namespace tqkv::cpu
