// Attention on packed keys and values in integers. In float arithmetic it would be
//   scores[i, j] = sum_c query[i, c] key[j, c];  output[i, c] += sum_j weight[i, j] value[j, c]
// A key is scale * byte (+ bias) in each group of channels: turboquant has one group and bytes that stand for rounded
// centroids, trellis one group and levels that are bytes, affine its own groups and codes. Queries are rounded to 8
// bits once for a block:
//   scores[i, j] = sum_g scale[g, i] scale[g, j] (sum_c q[i, c] byte[j, c]) + bias[g, j] scale[g, i] (sum_c q[i, c])
// Values keep 12 bits of a centroid or their whole code or level, and the product of weight and scale has 13 or 15 bits
// of the largest in the tile, because in 8 bits a page with one spike would lose its tail:
//   output[i, c] += factor[g, i] (sum_j word[g, i, j] code[j, c]) + sum_j weight[i, j] bias[g, j]
#pragma once
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "codec/side_codec.h"
#include "codec/trellis/levels.h"
#include "runtime/cpu/kernels.h"
#include "runtime/cpu/kernels/bytes-inl.h"
#include "runtime/cpu/kernels/codes-inl.h"
#include "runtime/cpu/kernels/isa.h"
#include "runtime/cpu/kernels/packed_avx2-inl.h"
#include "runtime/cpu/kernels/packed_avx512-inl.h"
#include "runtime/cpu/kernels/packed_bf16-inl.h"
#include "runtime/cpu/kernels/packed_neon-inl.h"
#include "runtime/cpu/kernels/packed_none-inl.h"
#include "runtime/cpu/kernels/packed_tile-inl.h"
#include "runtime/cpu/kernels/packed_trellis_avx512-inl.h"
#include "runtime/cpu/kernels/simd-inl.h"

namespace tqkv::cpu::TQKV_ISA::vec::packed {

#ifndef TQKV_AVX512
HWY_INLINE bool bf16_products(const codec::SideCodec&) {
  return false;
}
#endif

/// Formats with one f16 a vector and nothing else.
HWY_INLINE bool one_scale(const codec::SideCodec& codec) {
  return codec.format.kind == Kind::turboquant || codec.format.kind == Kind::trellis;
}
HWY_INLINE float trellis_step(const codec::SideCodec& codec) {
  return codec::trellis_table(codec.format.bits, codec.format.states).step;
}

/// Scales and biases of n vectors to [groups, 64], zeros behind them; `unit` multiplies one_scale's.
HWY_INLINE void load_scales(const codec::SideCodec& codec, const Byte* scalars, int n, float unit, KeyScales out) {
  if (one_scale(codec)) {
    const float factor = unit / sqrtf(static_cast<float>(codec.dim));
#if HWY_MAX_BYTES == 64
    load_halves(scalars, n, factor, out.scale);
#else
    for (int j = 0; j < 64; ++j)
      out.scale[j] = j < n ? f16_at(reinterpret_cast<const std::byte*>(scalars + 2 * j)) * factor : 0.0f;
#endif
    return;
  }
  const int groups = codec.dim / codec.format.group;
#if HWY_MAX_BYTES == 64
  if (groups == 4) return load_scales_of_four_groups(scalars, n, out.scale, out.bias);
#endif
  for (int g = 0; g < groups; ++g)
    for (int j = 0; j < 64; ++j) {
      const Byte* from = scalars + static_cast<std::size_t>(smaller(j, n - 1)) * codec.scalar_bytes + 2 * g;
      out.scale[64 * g + j] = j < n ? bf16_at(from) : 0.0f;
      out.bias[64 * g + j] = j < n ? bf16_at(from + 2 * groups) : 0.0f;
    }
}

HWY_INLINE bool fits(const codec::SideCodec& codec) {
  switch (codec.format.kind) {
    case Kind::plain:
      return bf16_products(codec);
    case Kind::affine:
    case Kind::rotated_affine:
      return codec.dim % 64 == 0 && codec.format.group % 64 == 0 && (codec.format.bits == 4 || codec.format.bits == 8);
    case Kind::turboquant:
    case Kind::trellis:
      return codec.dim % 64 == 0;
    default:
      return false;
  }
}
HWY_INLINE int groups_of(const codec::SideCodec& codec) {
  return codec.format.group ? codec.dim / codec.format.group : 1;
}

inline bool keys_fit(const codec::SideCodec& codec) {
  return integer_keys && fits(codec);
}
inline bool values_fit(const codec::SideCodec& codec) {
  return integer_values && fits(codec);
}

//   scale = absmax / 127, q = round(query / scale) in each group
inline void quantize_queries(const codec::SideCodec& codec, const float* query, int queries, Queries8* out) {
  const int dim = codec.dim, groups = groups_of(codec), group = dim / groups;
  out->queries = queries;
  out->groups = groups;
#ifdef TQKV_AVX512
  if (codec.format.kind == Kind::plain) return bf16_queries(query, static_cast<std::ptrdiff_t>(queries) * dim, out->q);
#endif
  alignas(64) std::int8_t q[codec::max_dim];
  for (int i = 0; i < queries; ++i, query += dim) {
    for (int g = 0; g < groups; ++g) {
      const float* x = query + g * group;
      F largest = zero();
      for (int c = 0; c < group; c += lanes) largest = hn::Max(largest, hn::Abs(load(x + c)));
      const float most = hn::GetLane(hn::MaxOfLanes(tag, largest));
      const F factor = set(most > least_weight ? 127.0f / most : 0.0f);
      auto sum = hn::Zero(int_tag);
      const hn::Rebind<std::int8_t, Tag> bytes;
      for (int c = 0; c < group; c += lanes) {
        const auto rounded = hn::NearestInt(hn::Mul(load(x + c), factor));
        sum = hn::Add(sum, rounded);
        hn::StoreU(hn::DemoteTo(bytes, rounded), bytes, q + g * group + c);
      }
      out->scale[i * groups + g] = most > least_weight ? most / 127.0f : 0.0f;
      out->sum[i * groups + g] = hn::GetLane(hn::SumOfLanes(int_tag, sum));
    }
    auto* to = reinterpret_cast<QueryWord*>(out->q) + static_cast<std::ptrdiff_t>(i) * dim;
    for (int c = 0; c < dim; ++c) to[c] = q[key_channel(codec, c)];
  }
}

/// Where the parts of the scratch lie: scales and biases first.
constexpr std::size_t scale_bytes = 2 * 4 * 64 * (codec::max_dim / 64);

HWY_INLINE KeyScales scales_in(Byte* scratch) {
  float* scale = reinterpret_cast<float*>(scratch);
  return {scale, scale + 64 * (codec::max_dim / 64)};
}

inline std::size_t scratch_bytes(int queries, int dim) {
  const std::size_t rows = static_cast<std::size_t>(queries + 15) / 16 * 16;
  const std::size_t keys = 64 * key_bytes * static_cast<std::size_t>(dim),
                    values = rows * (64 * 2 + 4 + 4 + 4) + value_tile_bytes;
  return scale_bytes + (keys > values ? keys : values);
}

inline void scores(const codec::SideCodec& codec, const std::byte* codes, const std::byte* scalars, int n,
                   const Queries8& queries, const int* visible, float* out, std::byte* scratch) {
#ifdef TQKV_AVX512
  if (codec.format.kind == Kind::plain) return bf16_scores(queries, bytes(codes), codec.dim, n, visible, out);
#endif
  const KeyScales scales = scales_in(bytes(scratch));
  Byte* tile = bytes(scratch) + scale_bytes;
  if (codec.format.kind == Kind::trellis) {
    load_scales(codec, bytes(scalars), n, trellis_step(codec), scales);
    return trellis_integer_scores(codec, bytes(codes), n, queries, scales, visible, out, tile);
  }
  const bool turboquant = codec.format.kind == Kind::turboquant;
  load_scales(codec, bytes(scalars), n, turboquant ? key_unit[codec.format.bits - 2] : 1.0f, scales);
  integer_scores(codec, bytes(codes), n, queries, scales, visible, out, tile);
}

inline void add_values(const codec::SideCodec& codec, const std::byte* codes, const std::byte* scalars, int n,
                       AttentionState& state, const int* visible, const float* weights, std::byte* scratch) {
  const int queries = state.queries, groups = groups_of(codec), group = codec.dim / groups;
  const std::size_t rows = static_cast<std::size_t>(queries + 15) / 16 * 16;
  const KeyScales scales = scales_in(bytes(scratch));
  Byte* at = bytes(scratch) + scale_bytes;
  ValueTile x;
  x.words = reinterpret_cast<std::int16_t*>(at);
#ifdef TQKV_AVX512
  if (codec.format.kind == Kind::plain) return bf16_values(state, bytes(codes), n, visible, weights, x.words);
#endif
  x.factor = reinterpret_cast<float*>(at + rows * 128);
  x.bias = x.factor + rows;
  x.offset = reinterpret_cast<std::int32_t*>(at + rows * 136);
  x.tile = reinterpret_cast<std::int16_t*>(at + rows * 140);
  if (codec.format.kind == Kind::trellis) {
    load_scales(codec, bytes(scalars), n, trellis_step(codec), scales);
    for (int i = 0; i < queries; ++i)
      quantize_trellis_weights(weights + static_cast<std::ptrdiff_t>(i) * 64, scales.scale, n, x, i);
    for (int start = 0; start < codec.dim; start += trellis_chunk)
      trellis_integer_values(codec, bytes(codes), start, n, queries, visible, x, state.output);
    return;
  }
  const bool turboquant = codec.format.kind == Kind::turboquant;
  alignas(64) std::int16_t entries[32];
  const float unit = turboquant ? value_centroids(codec.format.bits, entries) : 1.0f;
  load_scales(codec, bytes(scalars), n, unit, scales);
  for (int start = 0; start < codec.dim; start += value_channels(codec)) {
    const int g = turboquant ? 0 : start / group;
    if (turboquant ? start == 0 : start % group == 0)
      for (int i = 0; i < queries; ++i) {
        const float* p = weights + static_cast<std::ptrdiff_t>(i) * 64;
        x.factor[i] =
            quantize_weights(p, scales.scale + 64 * g, n, turboquant ? largest_centroid_weight : largest_code_weight,
                             x.words + static_cast<std::ptrdiff_t>(i) * 64);
        x.bias[i] = turboquant ? 0.0f : weighted_bias(p, scales.bias + 64 * g, n);
      }
    integer_values_of(codec, bytes(codes), start, n, entries, queries, visible, x, state.output);
  }
}

HWY_INLINE int channel_at(const codec::SideCodec& codec, int place) {
#ifdef TQKV_AVX512
  if (codec.format.kind == Kind::plain) return bf16_value_channel(place);
#endif
  if (codec.format.kind == Kind::trellis) return trellis_value_channel(codec.dim, place);
  return value_channel(codec, place);
}

inline void to_natural_order(const codec::SideCodec& codec, AttentionState& state) {
  alignas(64) float row[codec::max_dim];
  for (int i = 0; i < state.queries; ++i) {
    float* output = state.output + static_cast<std::ptrdiff_t>(i) * state.dim;
    std::memcpy(row, output, sizeof(float) * static_cast<std::size_t>(state.dim));
    for (int c = 0; c < state.dim; ++c) output[channel_at(codec, c)] = row[c];
  }
}

}  // namespace tqkv::cpu::TQKV_ISA::vec::packed
