// Integer scores of packed keys with the dot product extension of NEON; packed-inl.h has the meaning. A lane is a key,
// four channels a dword: sdot takes 16 products, four times what a multiply-add of floats does. Values stay in f32: a
// multiply-add of 16 bits takes no more products than that.
#pragma once
#include <cstddef>
#include <cstdint>

#include "codec/side_codec.h"
#include "codec/trellis/levels.h"
#include "runtime/cpu/kernels.h"
#include "runtime/cpu/kernels/bytes-inl.h"
#include "runtime/cpu/kernels/codes-inl.h"
#include "runtime/cpu/kernels/isa.h"
#include "runtime/cpu/kernels/packed_no_values-inl.h"
#include "runtime/cpu/kernels/packed_tile-inl.h"
#include "runtime/cpu/kernels/trellis_rows-inl.h"

#ifdef TQKV_NEON

namespace tqkv::cpu::TQKV_ISA::vec::packed {

constexpr bool integer_keys = true;
constexpr std::size_t key_bytes = 1;  // of a channel in a tile
using QueryWord = std::int8_t;

HWY_INLINE int key_channel(const codec::SideCodec&, int place) {
  return place;
}

/// Indices of the 16 channels of one row from `channel` on.
template <int bits>
HWY_INLINE uint8x16_t load_row(const Byte* row, int dim, int channel) {
  if constexpr (bits == 8) return vld1q_u8(row + channel);
  constexpr int width = bits < 4 ? 2 : 4;
  uint8x16_t index;
  if constexpr (width == 4) {
    const uint8x8_t two = vld1_u8(row + channel / 2), low = vand_u8(two, vdup_n_u8(15)), high = vshr_n_u8(two, 4);
    index = vcombine_u8(vzip1_u8(low, high), vzip2_u8(low, high));
  } else {
    alignas(16) static constexpr std::uint8_t byte[16] = {0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3};
    alignas(16) static constexpr std::int8_t shift[16] = {0, -2, -4, -6, 0, -2, -4, -6, 0, -2, -4, -6, 0, -2, -4, -6};
    const uint8x16_t four = vreinterpretq_u8_u32(vdupq_n_u32(load_bits<std::uint32_t>(row + channel / 4)));
    index = vandq_u8(vshlq_u8(vqtbl1q_u8(four, vld1q_u8(byte)), vld1q_s8(shift)), vdupq_n_u8(3));
  }
  if constexpr (bits != width) {
    alignas(16) static constexpr std::uint8_t bit[16] = {1, 2, 4, 8, 16, 32, 64, 128, 1, 2, 4, 8, 16, 32, 64, 128};
    const Byte* plane = row + dim * width / 8 + channel / 8;
    const uint8x16_t both = vcombine_u8(vdup_n_u8(plane[0]), vdup_n_u8(plane[1]));
    index = vorrq_u8(index, vandq_u8(vtstq_u8(both, vld1q_u8(bit)), vdupq_n_u8(1 << width)));
  }
  return index;
}

/// 16 channels of 4 keys, a row each, to tile [four channels][key][channel].
HWY_INLINE void store_keys(const uint32x4_t (&v)[4], Byte* tile) {
  const uint32x4x2_t ab = vtrnq_u32(v[0], v[1]), cd = vtrnq_u32(v[2], v[3]);
  vst1q_u8(tile, vreinterpretq_u8_u32(vcombine_u32(vget_low_u32(ab.val[0]), vget_low_u32(cd.val[0]))));
  vst1q_u8(tile + 16, vreinterpretq_u8_u32(vcombine_u32(vget_low_u32(ab.val[1]), vget_low_u32(cd.val[1]))));
  vst1q_u8(tile + 32, vreinterpretq_u8_u32(vcombine_u32(vget_high_u32(ab.val[0]), vget_high_u32(cd.val[0]))));
  vst1q_u8(tile + 48, vreinterpretq_u8_u32(vcombine_u32(vget_high_u32(ab.val[1]), vget_high_u32(cd.val[1]))));
}

/// n keys to tile [block of 4 keys][four channels][key][channel]: entries [32] of the indices, or codes of 8 bits less
/// 128.
template <int bits>
inline void unpack_keys(const Byte* codes, std::size_t stride, int dim, int n, const std::int8_t* entries, Byte* tile) {
  int8x16x2_t table = {};
  if constexpr (bits < 8) table = {{vld1q_s8(entries), vld1q_s8(entries + 16)}};
  for (int key = 0; key < n; key += 4)
    for (int channel = 0; channel < dim; channel += 16, tile += 64) {
      uint32x4_t v[4];
      for (int r = 0; r < 4; ++r) {
        const uint8x16_t index =
            load_row<bits>(codes + static_cast<std::size_t>(smaller(key + r, n - 1)) * stride, dim, channel);
        if constexpr (bits == 8)
          v[r] = vreinterpretq_u32_u8(veorq_u8(index, vdupq_n_u8(128)));
        else
          v[r] = vreinterpretq_u32_s8(bits == 5 ? vqtbl2q_s8(table, index) : vqtbl1q_s8(table.val[0], index));
      }
      store_keys(v, tile);
    }
}

/// The same of trellis keys. `parts`: of 64 levels.
template <int bits, int parts>
inline void unpack_trellis_keys(const codec::TrellisTable& table, const Byte* codes, std::size_t stride, int dim, int n,
                                Byte* tile) {
  const trellis::Rows rows = trellis::rows_of(table);
  for (int key = 0; key < n; key += 4)
    for (int channel = 0; channel < dim; channel += 16, tile += 64) {
      uint32x4_t v[4];
      for (int r = 0; r < 4; ++r) {
        const Byte* row = codes + static_cast<std::size_t>(smaller(key + r, n - 1)) * stride;
        v[r] = vreinterpretq_u32_s8(trellis::levels_at<bits, parts>(rows, row, dim, channel));
      }
      store_keys(v, tile);
    }
}

template <int bits>
HWY_INLINE void unpack_trellis_keys(const codec::TrellisTable& table, const Byte* codes, std::size_t stride, int dim,
                                    int n, Byte* tile) {
  if (table.levels <= 64) return unpack_trellis_keys<bits, 1>(table, codes, stride, dim, n, tile);
  if (table.levels == 128) return unpack_trellis_keys<bits, 2>(table, codes, stride, dim, n, tile);
  if constexpr (bits >= 4) unpack_trellis_keys<bits, 4>(table, codes, stride, dim, n, tile);
}

/// sum += the channels 4 lane .. 4 lane + 3 of q, times those of four blocks of keys.
template <int lane, int Q>
HWY_INLINE void dot_four(const std::int8_t* tile, std::ptrdiff_t block, const int8x16_t (&q)[Q],
                         int32x4_t (&sum)[Q][4]) {
  for (int b = 0; b < 4; ++b) {
    const int8x16_t k = vld1q_s8(tile + b * block + 16 * lane);
    for (int r = 0; r < Q; ++r) sum[r][b] = vdotq_laneq_s32(sum[r][b], k, q[r], lane);
  }
}

/// Scores of Q queries and 16 keys. `offset` was taken from every code.
template <int Q, bool grouped>
HWY_INLINE void score_block(const Queries8& x, const Byte* tile, const KeyScales& keys, int row, int key, int dim,
                            int offset, float* scores) {
  const int group = dim / x.groups;
  const std::ptrdiff_t block = 4 * static_cast<std::ptrdiff_t>(dim);
  const auto* from = reinterpret_cast<const std::int8_t*>(tile) + key / 4 * block;
  const auto* queries = reinterpret_cast<const std::int8_t*>(x.q) + static_cast<std::ptrdiff_t>(row) * dim;
  float32x4_t total[Q][4] = {};
  for (int g = 0; g < x.groups; ++g) {
    int32x4_t sum[Q][4];
    for (int r = 0; r < Q; ++r)
      for (int b = 0; b < 4; ++b) sum[r][b] = vdupq_n_s32(offset * x.sum[(row + r) * x.groups + g]);
    for (int c = g * group; c < (g + 1) * group; c += 16) {
      int8x16_t q[Q];
      for (int r = 0; r < Q; ++r) q[r] = vld1q_s8(queries + static_cast<std::ptrdiff_t>(r) * dim + c);
      dot_four<0>(from + 4 * c, block, q, sum);
      dot_four<1>(from + 4 * c, block, q, sum);
      dot_four<2>(from + 4 * c, block, q, sum);
      dot_four<3>(from + 4 * c, block, q, sum);
    }
    for (int r = 0; r < Q; ++r) {
      const int at = (row + r) * x.groups + g;
      for (int b = 0; b < 4; ++b) {
        const std::ptrdiff_t of_key = 64 * g + key + 4 * b;
        const float32x4_t both = vmulq_n_f32(vld1q_f32(keys.scale + of_key), x.scale[at]);
        const float32x4_t products = vcvtq_f32_s32(sum[r][b]);
        total[r][b] = g ? vfmaq_f32(total[r][b], products, both) : vmulq_f32(products, both);
        if constexpr (grouped)
          total[r][b] =
              vfmaq_n_f32(total[r][b], vld1q_f32(keys.bias + of_key), x.scale[at] * static_cast<float>(x.sum[at]));
      }
    }
  }
  for (int r = 0; r < Q; ++r)
    for (int b = 0; b < 4; ++b) vst1q_f32(scores + 64 * (row + r) + key + 4 * b, total[r][b]);
}

template <bool grouped>
inline void score_tile(const Queries8& x, const Byte* tile, const KeyScales& keys, int n, const int* visible, int dim,
                       int offset, float* scores) {
  for (int row = 0; row < x.queries; row += 4) {
    const int rows = smaller(4, x.queries - row), end = end_of_rows(visible + row, rows, n);
    for (int key = 0; key < end; key += 16) {
      if (rows == 4) {
        score_block<4, grouped>(x, tile, keys, row, key, dim, offset, scores);
        continue;
      }
      if (rows & 2) score_block<2, grouped>(x, tile, keys, row, key, dim, offset, scores);
      if (rows & 1) score_block<1, grouped>(x, tile, keys, row + (rows & 2), key, dim, offset, scores);
    }
  }
}

HWY_INLINE void integer_scores(const codec::SideCodec& codec, const Byte* codes, int n, const Queries8& x,
                               const KeyScales& keys, const int* visible, float* scores, Byte* tile) {
  // A block of scores takes 16 keys: behind the last of them the tile holds bytes that mean nothing.
  const bool turboquant = codec.format.kind == Kind::turboquant;
  std::int8_t entries[32];
  for (int i = 0; i < 32; ++i) entries[i] = static_cast<std::int8_t>(i);
  if (turboquant) key_centroids(codec.format.bits, entries);
  switch (codec.format.bits) {
    case 2:
      unpack_keys<2>(codes, codec.code_bytes, codec.dim, n, entries, tile);
      break;
    case 3:
      unpack_keys<3>(codes, codec.code_bytes, codec.dim, n, entries, tile);
      break;
    case 4:
      unpack_keys<4>(codes, codec.code_bytes, codec.dim, n, entries, tile);
      break;
    case 5:
      unpack_keys<5>(codes, codec.code_bytes, codec.dim, n, entries, tile);
      break;
    default:
      unpack_keys<8>(codes, codec.code_bytes, codec.dim, n, entries, tile);
      break;
  }
  if (turboquant)
    score_tile<false>(x, tile, keys, n, visible, codec.dim, 0, scores);
  else
    score_tile<true>(x, tile, keys, n, visible, codec.dim, codec.format.bits == 8 ? 128 : 0, scores);
}

HWY_INLINE void trellis_integer_scores(const codec::SideCodec& codec, const Byte* codes, int n, const Queries8& x,
                                       const KeyScales& keys, const int* visible, float* scores, Byte* tile) {
  const codec::TrellisTable& table = codec::trellis_table(codec.format.bits, codec.format.states);
  if (table.bits == 2)
    unpack_trellis_keys<2>(table, codes, codec.code_bytes, codec.dim, n, tile);
  else if (table.bits == 3)
    unpack_trellis_keys<3>(table, codes, codec.code_bytes, codec.dim, n, tile);
  else if (table.bits == 4)
    unpack_trellis_keys<4>(table, codes, codec.code_bytes, codec.dim, n, tile);
  else
    unpack_trellis_keys<5>(table, codes, codec.code_bytes, codec.dim, n, tile);
  score_tile<false>(x, tile, keys, n, visible, codec.dim, 0, scores);
}

}  // namespace tqkv::cpu::TQKV_ISA::vec::packed

#endif
