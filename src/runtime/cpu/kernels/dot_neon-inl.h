// Integer dot products with the dot product extension of NEON: sdot multiplies 16 signed by 16 signed bytes and adds
// them up by fours. 8-bit weights are taken as q - 128, and 128 times the sum of the activations is added.
#pragma once
#include <cstddef>
#include <cstdint>

#include "runtime/cpu/kernels.h"
#include "runtime/cpu/kernels/bytes-inl.h"
#include "runtime/cpu/kernels/isa.h"
#include "runtime/cpu/kernels/quantized_rows-inl.h"

#ifdef TQKV_NEON

namespace tqkv::cpu::TQKV_ISA {

// multiply_rows: a lane is a row. The tile holds four channels of 16 rows in each 64 bytes; activations are broadcast
// by fours. For 64 channels of 4 rows and one token 16 sdot a plane, and five other operations.

constexpr int kTileRows = 16;
constexpr int kTileTokens = 4;
constexpr int kQuads = kTileRows / 4;  // registers of 4 rows

struct Tile {
  alignas(64) std::int8_t q[kBlock / 4][kTileRows][4];  // [four channels, row, channel]
  alignas(64) float scale[kBlockGroups][kTileRows];
  alignas(64) float bias[kBlockGroups][kTileRows];
};

/// Four channels of four rows, from the same 16 bytes of each.
HWY_INLINE void transpose(uint8x16_t (&v)[4]) {
  const uint32x4x2_t ab = vtrnq_u32(vreinterpretq_u32_u8(v[0]), vreinterpretq_u32_u8(v[1]));
  const uint32x4x2_t cd = vtrnq_u32(vreinterpretq_u32_u8(v[2]), vreinterpretq_u32_u8(v[3]));
  v[0] = vreinterpretq_u8_u32(vcombine_u32(vget_low_u32(ab.val[0]), vget_low_u32(cd.val[0])));
  v[1] = vreinterpretq_u8_u32(vcombine_u32(vget_low_u32(ab.val[1]), vget_low_u32(cd.val[1])));
  v[2] = vreinterpretq_u8_u32(vcombine_u32(vget_high_u32(ab.val[0]), vget_high_u32(cd.val[0])));
  v[3] = vreinterpretq_u8_u32(vcombine_u32(vget_high_u32(ab.val[1]), vget_high_u32(cd.val[1])));
}

template <bool q4>
HWY_INLINE void unpack(const QuantizedRows& rows, int count, int group, int groups, Tile& tile) {
  constexpr int group_bytes = q4 ? kGroup / 2 : kGroup;
  for (int quad = 0; quad < kTileRows; quad += 4) {
    const std::uint8_t* row[4];
    for (int r = 0; r < 4; ++r) {
      const int from = smaller(quad + r, count - 1);
      row[r] = rows.weight + from * rows.weight_stride + group * group_bytes;
      for (int g = 0; g < groups; ++g) {
        tile.scale[g][quad + r] = bf16_at(rows.scales + from * rows.scale_stride + 2 * (group + g));
        tile.bias[g][quad + r] = bf16_at(rows.biases + from * rows.scale_stride + 2 * (group + g));
      }
    }
    std::int8_t* to = tile.q[0][quad];
    for (int at = 0; at < groups * group_bytes; at += 16) {
      uint8x16_t v[4];
      for (int r = 0; r < 4; ++r) v[r] = vld1q_u8(row[r] + at);
      transpose(v);
      for (int i = 0; i < 4; ++i) {
        if constexpr (q4) {
          const uint8x16_t even = vandq_u8(v[i], vdupq_n_u8(15)), odd = vshrq_n_u8(v[i], 4);
          const uint32x4_t low = vreinterpretq_u32_u8(vzip1q_u8(even, odd)),
                           high = vreinterpretq_u32_u8(vzip2q_u8(even, odd));
          vst1q_s8(to, vreinterpretq_s8_u32(vuzp1q_u32(low, high)));       // channels 0 to 3 of eight
          vst1q_s8(to + 64, vreinterpretq_s8_u32(vuzp2q_u32(low, high)));  // 4 to 7
          to += 128;
        } else {
          vst1q_s8(to, vreinterpretq_s8_u8(veorq_u8(v[i], vdupq_n_u8(128))));
          to += 64;
        }
      }
    }
  }
}

/// sum += the channels 4 lane .. 4 lane + 3 of x, times those of the tile.
template <int lane, int N>
HWY_INLINE void dot_four(const std::int8_t* q, const int8x16_t (&x)[N], int32x4_t (&sum)[N][kQuads]) {
  for (int h = 0; h < kQuads; ++h) {
    const int8x16_t w = vld1q_s8(q + 64 * lane + 16 * h);
    for (int n = 0; n < N; ++n) sum[n][h] = vdotq_laneq_s32(sum[n][h], w, x[n], lane);
  }
}

/// sum += the products of a group with one plane of N tokens.
template <bool q4, int N>
HWY_INLINE void add_products(const Tile& tile, int group, const std::int8_t* const (&rows)[N], std::ptrdiff_t plane,
                             int32x4_t (&sum)[N][kQuads]) {
  if constexpr (!q4) {
    for (int n = 0; n < N; ++n) {
      int32x4_t total = vdupq_n_s32(0);
      for (int i = 0; i < kGroup; i += 16)
        total = vdotq_s32(total, vld1q_s8(rows[n] + plane + group * kGroup + i), vdupq_n_s8(1));
      const int32x4_t offset = vdupq_n_s32(128 * vaddvq_s32(total));
      for (int h = 0; h < kQuads; ++h) sum[n][h] = vaddq_s32(sum[n][h], offset);
    }
  }
  for (int i = 0; i < kGroup; i += 16) {
    const std::int8_t* q = tile.q[(group * kGroup + i) / 4][0];
    int8x16_t x[N];
    for (int n = 0; n < N; ++n) x[n] = vld1q_s8(rows[n] + plane + group * kGroup + i);
    dot_four<0, N>(q, x, sum);
    dot_four<1, N>(q, x, sum);
    dot_four<2, N>(q, x, sum);
    dot_four<3, N>(q, x, sum);
  }
}

template <bool q4, bool both, int N>
HWY_INLINE void multiply_tile(const Tile& tile, int, int groups, const TokenRows<N>& tokens, bool accumulate, float* y,
                              std::ptrdiff_t stride) {
  float32x4_t total[N][kQuads];
  for (int n = 0; n < N; ++n)
    for (int h = 0; h < kQuads; ++h) total[n][h] = accumulate ? vld1q_f32(y + n * stride + 4 * h) : vdupq_n_f32(0);
  for (int g = 0; g < groups; ++g) {
    int32x4_t sum[N][kQuads];
    for (int n = 0; n < N; ++n)
      for (int h = 0; h < kQuads; ++h) sum[n][h] = vdupq_n_s32(0);
    add_products<q4, N>(tile, g, tokens.high, 0, sum);
    if constexpr (both) {
      for (int n = 0; n < N; ++n)
        for (int h = 0; h < kQuads; ++h) sum[n][h] = vshlq_n_s32(sum[n][h], 8);
      add_products<q4, N>(tile, g, tokens.high, tokens.low, sum);
    }
    for (int n = 0; n < N; ++n) {
      for (int h = 0; h < kQuads; ++h) {
        const float32x4_t scaled = vmulq_n_f32(vcvtq_f32_s32(sum[n][h]), tokens.scale[n][g]);
        total[n][h] = vfmaq_f32(total[n][h], scaled, vld1q_f32(tile.scale[g] + 4 * h));
        total[n][h] = vfmaq_n_f32(total[n][h], vld1q_f32(tile.bias[g] + 4 * h), tokens.sum[n][g]);
      }
    }
  }
  for (int n = 0; n < N; ++n)
    for (int h = 0; h < kQuads; ++h) vst1q_f32(y + n * stride + 4 * h, total[n][h]);
}

// multiply16: a lane is four channels of one row, 16 bytes a load. 4-bit weights: four sdot for 32 weights, two for the
// high bytes of the activations and two for the low ones. 8-bit weights are widened to 16 bits.

constexpr int kDotRows = 4;

template <bool q4, int R>
HWY_INLINE void dot_rows(const QuantizedRows& rows, const Row16& x, float* y) {
  float32x4_t total[R];
  float rest[R] = {};
  for (int r = 0; r < R; ++r) total[r] = vdupq_n_f32(0);
  for (int g = 0; g < rows.groups; ++g) {
    for (int r = 0; r < R; ++r) {
      int32x4_t sum = vdupq_n_s32(0);
      if constexpr (q4) {
        const std::uint8_t* from = rows.weight + r * rows.weight_stride + g * (kGroup / 2);
        const Row16Place place = row16_place(rows.groups, g);
        int32x4_t high = vdupq_n_s32(0);
        for (int i = 0; i < kGroup / 2; i += 16) {
          const uint8x16_t w = vld1q_u8(from + i);
          const int8x16_t even = vreinterpretq_s8_u8(vandq_u8(w, vdupq_n_u8(15))),
                          odd = vreinterpretq_s8_u8(vshrq_n_u8(w, 4));
          high = vdotq_s32(high, even, vld1q_s8(x.high + place.even + i));
          high = vdotq_s32(high, odd, vld1q_s8(x.high + place.odd + i));
          sum = vdotq_s32(sum, even, vld1q_s8(x.low + place.even + i));
          sum = vdotq_s32(sum, odd, vld1q_s8(x.low + place.odd + i));
        }
        sum = vaddq_s32(sum, vshlq_n_s32(high, 8));
      } else {
        const std::uint8_t* from = rows.weight + r * rows.weight_stride + g * kGroup;
        for (int i = 0; i < kGroup; i += 16) {
          const uint8x16_t w = vld1q_u8(from + i);
          const int16x8_t low = vreinterpretq_s16_u16(vmovl_u8(vget_low_u8(w))),
                          high = vreinterpretq_s16_u16(vmovl_high_u8(w));
          const int16x8_t x0 = vld1q_s16(x.q + g * kGroup + i), x1 = vld1q_s16(x.q + g * kGroup + i + 8);
          sum = vmlal_high_s16(vmlal_s16(sum, vget_low_s16(low), vget_low_s16(x0)), low, x0);
          sum = vmlal_high_s16(vmlal_s16(sum, vget_low_s16(high), vget_low_s16(x1)), high, x1);
        }
      }
      const std::ptrdiff_t at = r * rows.scale_stride + 2 * g;
      total[r] = vfmaq_n_f32(total[r], vcvtq_f32_s32(sum), bf16_at(rows.scales + at) * x.scale[g]);
      rest[r] = __builtin_fmaf(bf16_at(rows.biases + at), x.sum[g], rest[r]);
    }
  }
  for (int r = 0; r < R; ++r) y[r] = vaddvq_f32(total[r]) + rest[r];
}

}  // namespace tqkv::cpu::TQKV_ISA

#endif
