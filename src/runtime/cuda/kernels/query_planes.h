// A query as two planes of signed bytes, for products with the bytes of codes: q = step (256 high + low). The error is
// half a step, 1/65,278 of the largest channel.
#pragma once
#include <cstdint>

#include "runtime/cuda/kernels/fragments.h"

namespace tqkv::cuda {

inline constexpr int most_plane_value = 127 * 256 + 127;

/// The step of a query whose largest channel has this absolute value.
TQKV_HD float plane_step(float largest) {
  return largest / static_cast<float>(most_plane_value);
}

struct PlaneBytes {
  std::int32_t high = 0, low = 0;  ///< each from -128 to 127
};
TQKV_HD PlaneBytes plane_bytes(float value, float step) {
  if (!(step > 0.0f)) return {};
  const float steps = value / step;
  const auto whole = static_cast<std::int32_t>(steps + (steps < 0.0f ? -0.5f : 0.5f));
  const std::int32_t high = (whole + 128) >> 8;
  return {high, whole - high * 256};
}

/// The channel that byte `byte` of a lane's word of a block stands for: the same as the code of a key.
TQKV_HD int query_channel(int lane, int block, int byte) {
  return block * block_channels + lane % 4 * 2 + byte % 2 + byte / 2 * 8;
}
/// Lanes have the query of their group of four.
TQKV_HD int query_of(int lane) {
  return lane / 4;
}

/// Sums over channels that take the middle of the bytes off: see score().
struct PlaneSums {
  std::int32_t high = 0, low = 0;
};

/// q·k from the sums of products of both planes: every part is exact in f32 but the last products.
/// `step`: of the query. `factor`: level step, scalar of the key and 1 / sqrt(dim).
TQKV_HD float score(std::int32_t high, std::int32_t low, const PlaneSums& sums, float step, float factor) {
  const float from_high = static_cast<float>(high) - 127.5f * static_cast<float>(sums.high);
  const float from_low = static_cast<float>(low) - 127.5f * static_cast<float>(sums.low);
  return (from_high * 256.0f + from_low) * step * factor;
}

}  // namespace tqkv::cuda
