// Where integers gain nothing: every format is decoded and met in f32.
#pragma once
#include <cstddef>
#include <cstdint>

#include "codec/side_codec.h"
#include "runtime/cpu/kernels.h"
#include "runtime/cpu/kernels/bytes-inl.h"
#include "runtime/cpu/kernels/isa.h"
#include "runtime/cpu/kernels/packed_no_values-inl.h"
#include "runtime/cpu/kernels/packed_tile-inl.h"

#ifdef TQKV_PLAIN

namespace tqkv::cpu::TQKV_ISA::vec::packed {

constexpr bool integer_keys = false;
constexpr std::size_t key_bytes = 0;
using QueryWord = std::int8_t;

HWY_INLINE int key_channel(const codec::SideCodec&, int place) {
  return place;
}
HWY_INLINE void integer_scores(const codec::SideCodec&, const Byte*, int, const Queries8&, const KeyScales&, const int*,
                               float*, Byte*) {}
HWY_INLINE void trellis_integer_scores(const codec::SideCodec&, const Byte*, int, const Queries8&, const KeyScales&,
                                       const int*, float*, Byte*) {}

}  // namespace tqkv::cpu::TQKV_ISA::vec::packed

#endif
