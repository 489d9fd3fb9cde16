// Integer dot products in plain C++, one row at a time; the compiler vectorises the inner loops as far as its target
// goes.
#pragma once
#include <cstddef>
#include <cstdint>

#include "runtime/cpu/kernels.h"
#include "runtime/cpu/kernels/bytes-inl.h"
#include "runtime/cpu/kernels/isa.h"
#include "runtime/cpu/kernels/quantized_rows-inl.h"

#ifdef TQKV_PLAIN

namespace tqkv::cpu::TQKV_ISA {

constexpr int kTileRows = 1;
constexpr int kTileTokens = 1;

struct Tile {
  alignas(64) std::int16_t q[kBlock];
  float scale[kBlockGroups];
  float bias[kBlockGroups];
};

template <bool q4>
HWY_INLINE void unpack(const QuantizedRows& rows, int, int group, int groups, Tile& tile) {
  for (int g = 0; g < groups; ++g) {
    const std::uint8_t* p = rows.weight + (group + g) * (q4 ? kGroup / 2 : kGroup);
    std::int16_t* q = tile.q + g * kGroup;
    if constexpr (q4) {
      for (int i = 0; i < kGroup / 2; ++i) {
        q[2 * i] = p[i] & 15;
        q[2 * i + 1] = static_cast<std::int16_t>(p[i] >> 4);
      }
    } else {
      for (int i = 0; i < kGroup; ++i) q[i] = p[i];
    }
    tile.scale[g] = bf16_at(rows.scales + 2 * (group + g));
    tile.bias[g] = bf16_at(rows.biases + 2 * (group + g));
  }
}

template <bool q4, bool both, int N>
HWY_INLINE void multiply_tile(const Tile& tile, int, int groups, const TokenRows<N>& tokens, bool accumulate, float* y,
                              std::ptrdiff_t) {
  static_assert(N == 1);
  float total = accumulate ? y[0] : 0;
  for (int g = 0; g < groups; ++g) {
    const std::int16_t* q = tile.q + g * kGroup;
    const std::int8_t* high = tokens.high[0] + g * kGroup;
    const std::int8_t* low = high + tokens.low;
    std::int32_t sum = 0;
    for (int i = 0; i < kGroup; ++i) sum += q[i] * (both ? 256 * high[i] + low[i] : high[i]);
    total += static_cast<float>(sum) * tokens.scale[0][g] * tile.scale[g] + tile.bias[g] * tokens.sum[0][g];
  }
  y[0] = total;
}

constexpr int kDotRows = 1;

template <bool q4, int R>
HWY_INLINE void dot_rows(const QuantizedRows& rows, const Row16& x, float* y) {
  static_assert(R == 1);
  float total = 0;
  for (int group = 0; group < rows.groups; group += kBlockGroups) {
    Tile tile;
    const int groups = smaller(kBlockGroups, rows.groups - group);
    unpack<q4>(rows, 1, group, groups, tile);
    for (int g = 0; g < groups; ++g) {
      const std::int16_t* q = tile.q + g * kGroup;
      const std::int16_t* xq = x.q + (group + g) * kGroup;
      std::int32_t sum = 0;
      for (int i = 0; i < kGroup; ++i) sum += q[i] * xq[i];
      total += static_cast<float>(sum) * x.scale[group + g] * tile.scale[g] + tile.bias[g] * x.sum[group + g];
    }
  }
  y[0] = total;
}

}  // namespace tqkv::cpu::TQKV_ISA

#endif
