// Where words gain nothing over floats: packed values are decoded and met in f32.
#pragma once
#include <cstddef>
#include <cstdint>

#include "codec/side_codec.h"
#include "runtime/cpu/kernels/bytes-inl.h"
#include "runtime/cpu/kernels/isa.h"
#include "runtime/cpu/kernels/packed_tile-inl.h"

#if defined(TQKV_NEON) || defined(TQKV_PLAIN)

namespace tqkv::cpu::TQKV_ISA::vec::packed {

constexpr bool integer_values = false;
constexpr std::size_t value_tile_bytes = 0;

HWY_INLINE int value_channels(const codec::SideCodec& codec) {
  return codec.dim;
}
HWY_INLINE int value_channel(const codec::SideCodec&, int place) {
  return place;
}
HWY_INLINE float quantize_weights(const float*, const float*, int, float, std::int16_t*) {
  return 0.0f;
}
HWY_INLINE float weighted_bias(const float*, const float*, int) {
  return 0.0f;
}
HWY_INLINE void integer_values_of(const codec::SideCodec&, const Byte*, int, int, const std::int16_t*, int, const int*,
                                  ValueTile&, float*) {}

constexpr int trellis_chunk = codec::max_dim;

HWY_INLINE int trellis_value_channel(int, int place) {
  return place;
}
HWY_INLINE void quantize_trellis_weights(const float*, const float*, int, ValueTile&, int) {}
HWY_INLINE void trellis_integer_values(const codec::SideCodec&, const Byte*, int, int, int, const int*, ValueTile&,
                                       float*) {}

}  // namespace tqkv::cpu::TQKV_ISA::vec::packed

#endif
