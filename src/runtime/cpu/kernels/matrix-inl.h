// Matrix kernels. Weights are MLX affine groups of 64, w = s q + b with q unsigned, or plain floats:
//   for o in first..last-1:  for t in tokens:  y[t, o] = 0
//     for each group g of row o:  y[t, o] += s[g] * (sum over g of q[o, i] x[t, i]) + b[g] * (sum over g of x[t, i])
// One token is bound by bytes: 0.5625 a 4-bit weight (with its share of scale and bias), each read once.
// Many tokens are bound by operations: one multiply-add a weight and token, in 8-bit integers, four to a lane.
#pragma once
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "model/weights.h"
#include "runtime/cpu/kernels.h"
#include "runtime/cpu/kernels/bytes-inl.h"
#include "runtime/cpu/kernels/dot_avx2-inl.h"
#include "runtime/cpu/kernels/dot_avx512-inl.h"
#include "runtime/cpu/kernels/dot_neon-inl.h"
#include "runtime/cpu/kernels/dot_portable-inl.h"
#include "runtime/cpu/kernels/isa.h"
#include "runtime/cpu/kernels/quantized_rows-inl.h"
#include "runtime/cpu/kernels/simd-inl.h"

namespace tqkv::cpu::TQKV_ISA {

// Each dot_<isa>-inl.h has
//
// - kTileRows, kTileTokens: the tile of multiply_rows, rows and tokens at a time;
//
// - struct Tile: kTileRows rows of at most kBlockGroups groups, unpacked;
//
// - unpack<q4>(rows, count, group, groups, tile): `count` rows (1 to kTileRows) from `group` on, others are anything;
//
// - multiply_tile<q4, both, N>(tile, count, groups, tokens, accumulate, y, stride): writes or adds to the first `count`
//   floats, and any of the others up to kTileRows, of N
//   tokens, of both planes or of the high one;
//
// - kDotRows: rows at a time of multiply16;
//
// - dot_rows<q4, R>(rows, x, y): R rows against one row of activations.

// multiply_rows: a tile of rows is unpacked once for each block of channels and meets all tokens. The order of
// additions of y[t, o] depends on neither the tile nor the block of tokens that it falls in.

template <bool q4, bool both, int N>
HWY_INLINE void multiply_tokens(const Tile& tile, int count, int group, int groups, const Rows16& x, const int* index,
                                int token, float* y, std::ptrdiff_t stride) {
  TokenRows<N> tokens;
  tokens.low = x.low - x.high;
  const int all_groups = x.cols / kGroup;
  for (int n = 0; n < N; ++n) {
    const std::ptrdiff_t row = index ? index[token + n] : token + n;
    const std::ptrdiff_t at_group = row * all_groups + group;
    tokens.high[n] = x.high + row * x.cols + group * kGroup;
    tokens.scale[n] = (both ? x.scale : x.high_scale) + at_group;
    tokens.sum[n] = (both ? x.sum : x.high_sum) + at_group;
  }
  multiply_tile<q4, both, N>(tile, count, groups, tokens, group > 0, y, stride);
}

/// The last tokens, fewer than kTileTokens.
template <bool q4, bool both, int N>
HWY_INLINE void multiply_rest(const Tile& tile, int count, int group, int groups, const Rows16& x, const int* index,
                              int token, int rest, float* y, std::ptrdiff_t stride) {
  if constexpr (N > 0) {
    if (rest == N)
      multiply_tokens<q4, both, N>(tile, count, group, groups, x, index, token, y, stride);
    else
      multiply_rest<q4, both, N - 1>(tile, count, group, groups, x, index, token, rest, y, stride);
  }
}

template <bool q4, bool both>
void multiply_rows_of(const Matrix& w, int first, int last, const Rows16& x, const int* index, int tokens, float* y,
                      std::ptrdiff_t stride) {
  Tile tile;
  const int all_groups = w.in / kGroup;
  for (int row = first; row < last; row += kTileRows) {
    const int count = smaller(kTileRows, last - row);
    const QuantizedRows rows = rows_from(w, row);
    for (int group = 0; group < all_groups; group += kBlockGroups) {
      const int groups = smaller(kBlockGroups, all_groups - group);
      unpack<q4>(rows, count, group, groups, tile);
      for (int token = 0; token < tokens; token += kTileTokens) {
        const int n = smaller(kTileTokens, tokens - token);
        float* out = y + token * stride + (row - first);
        alignas(64) float edge[kTileTokens * kTileRows];
        float* to = count == kTileRows ? out : edge;
        const std::ptrdiff_t to_stride = count == kTileRows ? stride : kTileRows;
        if (to == edge && group > 0)
          for (int t = 0; t < n; ++t)
            for (int r = 0; r < kTileRows; ++r) edge[t * kTileRows + r] = r < count ? out[t * stride + r] : 0;
        if (n == kTileTokens)
          multiply_tokens<q4, both, kTileTokens>(tile, count, group, groups, x, index, token, to, to_stride);
        else
          multiply_rest<q4, both, kTileTokens - 1>(tile, count, group, groups, x, index, token, n, to, to_stride);
        if (to == edge)
          for (int t = 0; t < n; ++t)
            for (int r = 0; r < count; ++r) out[t * stride + r] = edge[t * kTileRows + r];
      }
    }
  }
}

static void multiply_rows(const Matrix& w, int first, int last, const Rows16& x, Planes planes, const int* index,
                          int tokens, float* y, std::ptrdiff_t stride) {
  const bool q4 = w.storage == Matrix::Storage::q4;
  if (planes == Planes::both)
    (q4 ? multiply_rows_of<true, true> : multiply_rows_of<false, true>)(w, first, last, x, index, tokens, y, stride);
  else
    (q4 ? multiply_rows_of<true, false> : multiply_rows_of<false, false>)(w, first, last, x, index, tokens, y, stride);
}

// multiply16: a few rows at a time, so that they share the loads of x. With several tokens these rows meet each of
// them while they are in the first cache.

template <bool q4, int R>
HWY_INLINE void rest16(const QuantizedRows& rows, int count, const Row16& x, float* y) {
  if constexpr (R > 0) {
    if (count == R)
      dot_rows<q4, R>(rows, x, y);
    else
      rest16<q4, R - 1>(rows, count, x, y);
  }
}

template <bool q4>
void multiply16_rows(const Matrix& w, int first, int last, const Row16* x, const int* index, int tokens, float* y,
                     std::ptrdiff_t stride) {
  for (int row = first; row < last; row += kDotRows) {
    const int count = smaller(kDotRows, last - row);
    const QuantizedRows rows = rows_from(w, row);
    for (int t = 0; t < tokens; ++t) {
      const Row16& own = x[index ? index[t] : t];
      float* out = y + t * stride + (row - first);
      if (count == kDotRows)
        dot_rows<q4, kDotRows>(rows, own, out);
      else
        rest16<q4, kDotRows - 1>(rows, count, own, out);
    }
  }
}

static void multiply16(const Matrix& w, int first, int last, const Row16* x, const int* index, int tokens, float* y,
                       std::ptrdiff_t stride) {
  if (w.storage == Matrix::Storage::q4)
    multiply16_rows<true>(w, first, last, x, index, tokens, y, stride);
  else
    multiply16_rows<false>(w, first, last, x, index, tokens, y, stride);
}

// Activations to integers: for each group of 64  scale = absmax / limit;  q = nearest_even(x * (limit / absmax));
// sum = scale * (sum of q). Below 2^-100 a group counts as zeros; one that holds an infinity or NaN has scale and sum
// NaN and q = 0, so that it shows in the output. Reads 4 bytes and writes 2 (or 4) a channel. All tiers give the same
// bits.

using DF = vec::Tag;
using DI = vec::IntTag;
using VF = vec::F;
using VI = hn::Vec<DI>;
constexpr int kLanes = vec::lanes;

struct GroupScale {
  float scale, inverse;  // inverse 0: q is 0
};

HWY_INLINE GroupScale group_scale(const float* x, float limit) {
  const DF df;
  const DI di;
  VI largest = hn::Zero(di);  // absolute values order as their bits do, NaN above infinity
  for (int i = 0; i < kGroup; i += kLanes) largest = hn::Max(largest, hn::BitCast(di, hn::Abs(hn::LoadU(df, x + i))));
  const std::int32_t bits = hn::GetLane(hn::MaxOfLanes(di, largest));
  float absmax;
  std::memcpy(&absmax, &bits, sizeof absmax);
  if (bits >= 0x7f800000) return {__builtin_nanf(""), 0};
  if (absmax < 0x1p-100f) return {0, 0};
  return {absmax / limit, limit / absmax};
}

HWY_INLINE VI quantized(const float* x, float inverse) {
  const DF df;
  if (inverse == 0) return hn::Zero(DI());  // the product with an infinity would be NaN
  return hn::NearestInt(hn::Mul(hn::LoadU(df, x), hn::Set(df, inverse)));
}

/// q = 256 high + low; returns high.
HWY_INLINE VI split16(VI q, std::int8_t* high, std::int8_t* low) {
  const hn::Rebind<std::int8_t, DI> d8;
  const VI up = hn::ShiftRight<8>(hn::Add(q, hn::Set(DI(), 128)));
  hn::StoreU(hn::DemoteTo(d8, up), d8, high);
  hn::StoreU(hn::DemoteTo(d8, hn::Sub(q, hn::ShiftLeft<8>(up))), d8, low);
  return up;
}

static void quantize_rows(const float* x, int rows, int stride, Rows16* out, int first) {
  const DI di;
  const std::ptrdiff_t groups = out->cols / kGroup;
  for (int row = 0; row < rows; ++row) {
    const float* from = x + static_cast<std::ptrdiff_t>(row) * stride;
    for (std::ptrdiff_t at = (first + row) * groups; at < (first + row + 1) * groups; ++at, from += kGroup) {
      const GroupScale s = group_scale(from, 32639);
      VI sum = hn::Zero(di), high_sum = sum;
      for (int i = 0; i < kGroup; i += kLanes) {
        const VI q = quantized(from + i, s.inverse);
        sum = hn::Add(sum, q);
        high_sum = hn::Add(high_sum, split16(q, out->high + at * kGroup + i, out->low + at * kGroup + i));
      }
      const float high_scale = 256 * s.scale;
      out->scale[at] = s.scale;
      out->sum[at] = s.scale * static_cast<float>(hn::GetLane(hn::SumOfLanes(di, sum)));
      out->high_scale[at] = high_scale;
      out->high_sum[at] = high_scale * static_cast<float>(hn::GetLane(hn::SumOfLanes(di, high_sum)));
    }
  }
}

static void quantize16(const float* x, Row16* out) {
  const DI di;
  const hn::Rebind<std::int16_t, DI> d16;
  const int groups = out->cols / kGroup;
  for (int g = 0; g < groups; ++g, x += kGroup) {
    const Row16Place place = row16_place(groups, g);
    const GroupScale s = group_scale(x, 32639);
    alignas(64) std::int32_t q[kGroup];
    VI sum = hn::Zero(di);
    for (int i = 0; i < kGroup; i += kLanes) {
      const VI v = quantized(x + i, s.inverse);
      sum = hn::Add(sum, v);
      hn::Store(v, di, q + i);
      hn::StoreU(hn::DemoteTo(d16, v), d16, out->q + g * kGroup + i);
    }
    for (int i = 0; i < kGroup / 2; i += kLanes) {
      VI even, odd;
      hn::LoadInterleaved2(di, q + 2 * i, even, odd);
      split16(even, out->high + place.even + i, out->low + place.even + i);
      split16(odd, out->high + place.odd + i, out->low + place.odd + i);
    }
    out->scale[g] = s.scale;
    out->sum[g] = s.scale * static_cast<float>(hn::GetLane(hn::SumOfLanes(di, sum)));
  }
}

// Floats of weights: w = fma(q, s, b); q s has at most 16 significant bits, so the rounding is the same in every tier.

/// out[0..n-1] = channels from..from+n-1 of row `row`; for q4 and q8 both are multiples of 64. out is aligned.
HWY_INLINE void dequantize(const Matrix& w, std::ptrdiff_t row, int from, int n, float* out) {
  const DF df;
  const DI di;
  if (w.storage == Matrix::Storage::f32) {
    std::memcpy(out, bytes(w.weight) + 4 * (row * w.in + from), sizeof(float) * static_cast<std::size_t>(n));
    return;
  }
  if (w.storage == Matrix::Storage::bf16 || w.storage == Matrix::Storage::f16) {
    const hn::Rebind<std::uint16_t, DF> d16;
    const hn::Rebind<hwy::float16_t, DF> df16;
    const hn::Repartition<std::uint8_t, decltype(d16)> d8;
    const bool bf16 = w.storage == Matrix::Storage::bf16;
    const std::uint8_t* p = bytes(w.weight) + 2 * (row * w.in + from);
    for (int i = 0; i < n; i += kLanes) {
      alignas(64) std::uint8_t edge[2 * kLanes] = {};
      const bool whole = i + kLanes <= n;
      if (!whole) std::memcpy(edge, p + 2 * i, 2 * static_cast<std::size_t>(n - i));
      const auto bits = hn::BitCast(d16, hn::LoadU(d8, whole ? p + 2 * i : edge));
      const VF v = bf16 ? hn::BitCast(df, hn::ShiftLeft<16>(hn::PromoteTo(di, bits)))
                        : hn::PromoteTo(df, hn::BitCast(df16, bits));
      if (whole) {
        hn::Store(v, df, out + i);
      } else {
        alignas(64) float floats[kLanes];
        hn::Store(v, df, floats);
        std::memcpy(out + i, floats, sizeof(float) * static_cast<std::size_t>(n - i));
      }
    }
    return;
  }
  const hn::Rebind<std::uint8_t, DF> d8;
  const QuantizedRows rows = rows_from(w, 0);
  const std::uint8_t* p = rows.weight + row * rows.weight_stride;
  const std::ptrdiff_t first_group = row * rows.groups + from / kGroup;
  for (int g = 0; g < n / kGroup; ++g, out += kGroup) {
    const VF scale = hn::Set(df, bf16_at(rows.scales + 2 * (first_group + g)));
    const VF bias = hn::Set(df, bf16_at(rows.biases + 2 * (first_group + g)));
    if (w.storage == Matrix::Storage::q4) {
      const std::uint8_t* from_bytes = p + (from / kGroup + g) * (kGroup / 2);
      for (int i = 0; i < kGroup / 2; i += kLanes) {
        const VI v = hn::PromoteTo(di, hn::LoadU(d8, from_bytes + i));
        const VF even = hn::ConvertTo(df, hn::And(v, hn::Set(di, 15))), odd = hn::ConvertTo(df, hn::ShiftRight<4>(v));
        hn::StoreInterleaved2(hn::MulAdd(even, scale, bias), hn::MulAdd(odd, scale, bias), df, out + 2 * i);
      }
    } else {
      const std::uint8_t* from_bytes = p + (from / kGroup + g) * kGroup;
      for (int i = 0; i < kGroup; i += kLanes) {
        const VF v = hn::ConvertTo(df, hn::PromoteTo(di, hn::LoadU(d8, from_bytes + i)));
        hn::StoreU(hn::MulAdd(v, scale, bias), df, out + i);
      }
    }
  }
}

static void dequantize_row(const Matrix& w, int row, float* out) {
  constexpr int part = 256;
  alignas(64) float block[part];
  for (int i = 0; i < w.in; i += part) {
    const int n = smaller(part, w.in - i);
    dequantize(w, row, i, n, block);
    std::memcpy(out + i, block, sizeof(float) * static_cast<std::size_t>(n));
  }
}

// multiply_f32: y[t, o] = sum_i W[o, i] x[t, i] in f32. Along rows: the row's floats, block by block, against each
// token. By tile: a tile of rows is transposed once for each block of channels, so that a lane is a row, and meets all
// tokens. Bound by operations: one multiply-add a weight and token.

constexpr int kFloatBlock = 128;                                                      // channels of a block
constexpr int kFloatRows = 2 * kLanes;                                                // rows of a tile
constexpr int kFloatTokens = kLanes == 8 ? 6 : kLanes == 16 || HWY_ARCH_ARM ? 8 : 4;  // as many as the registers hold
constexpr int kFewTokens = 3;

static std::size_t f32_scratch(int) {
  return kFloatBlock * (kFloatRows + 4);
}

/// N tokens of one row; x[n] are their activations.
template <int N>
HWY_INLINE void few_f32(const Matrix& w, int row, const float* const* x, float* y, std::ptrdiff_t stride,
                        float* block) {
  const DF df;
  VF sum[N][2];
  float rest[N] = {};
  for (int n = 0; n < N; ++n) sum[n][0] = sum[n][1] = hn::Zero(df);
  for (int from = 0; from < w.in; from += kFloatBlock) {
    const int channels = smaller(kFloatBlock, w.in - from);
    dequantize(w, row, from, channels, block);
    int i = 0;
    for (; i + 2 * kLanes <= channels; i += 2 * kLanes) {
      const VF a = hn::Load(df, block + i), b = hn::Load(df, block + i + kLanes);
      for (int n = 0; n < N; ++n) {
        sum[n][0] = hn::MulAdd(a, hn::LoadU(df, x[n] + from + i), sum[n][0]);
        sum[n][1] = hn::MulAdd(b, hn::LoadU(df, x[n] + from + i + kLanes), sum[n][1]);
      }
    }
    for (; i < channels; ++i)
      for (int n = 0; n < N; ++n) rest[n] += block[i] * x[n][from + i];
  }
  for (int n = 0; n < N; ++n) y[n * stride] = hn::GetLane(hn::SumOfLanes(df, hn::Add(sum[n][0], sum[n][1]))) + rest[n];
}

/// tile [channels, kFloatRows] <- channels from.. of `count` rows. Rows beyond repeat the last.
HWY_INLINE void transpose_f32(const Matrix& w, int row, int count, int from, int channels, float* tile, float* four) {
  const hn::FixedTag<float, 4> d4;
  for (int i = channels / 4 * 4; i < kFloatBlock; ++i)
    for (int r = 0; r < 4; ++r) four[r * kFloatBlock + i] = 0;
  for (int r = 0; r < kFloatRows; r += 4) {
    for (int k = 0; k < 4; ++k) dequantize(w, row + smaller(r + k, count - 1), from, channels, four + k * kFloatBlock);
    for (int i = 0; i < channels; i += 4) {
      const auto a = hn::Load(d4, four + i), b = hn::Load(d4, four + kFloatBlock + i),
                 c = hn::Load(d4, four + 2 * kFloatBlock + i), d = hn::Load(d4, four + 3 * kFloatBlock + i);
      const auto ac_low = hn::InterleaveLower(d4, a, c), ac_high = hn::InterleaveUpper(d4, a, c);
      const auto bd_low = hn::InterleaveLower(d4, b, d), bd_high = hn::InterleaveUpper(d4, b, d);
      float* to = tile + i * kFloatRows + r;
      hn::Store(hn::InterleaveLower(d4, ac_low, bd_low), d4, to);
      hn::Store(hn::InterleaveUpper(d4, ac_low, bd_low), d4, to + kFloatRows);
      hn::Store(hn::InterleaveLower(d4, ac_high, bd_high), d4, to + 2 * kFloatRows);
      hn::Store(hn::InterleaveUpper(d4, ac_high, bd_high), d4, to + 3 * kFloatRows);
    }
  }
}

template <int N>
HWY_INLINE void tile_f32(const float* tile, int channels, const float* const* x, bool accumulate, float* y,
                         std::ptrdiff_t stride) {
  const DF df;
  VF sum[N][2];
  for (int n = 0; n < N; ++n) sum[n][0] = sum[n][1] = hn::Zero(df);
  for (int i = 0; i < channels; ++i) {
    const VF a = hn::Load(df, tile + i * kFloatRows), b = hn::Load(df, tile + i * kFloatRows + kLanes);
    for (int n = 0; n < N; ++n) {
      const VF v = hn::Set(df, x[n][i]);
      sum[n][0] = hn::MulAdd(a, v, sum[n][0]);
      sum[n][1] = hn::MulAdd(b, v, sum[n][1]);
    }
  }
  for (int n = 0; n < N; ++n) {
    for (int half = 0; half < 2; ++half) {
      float* to = y + n * stride + half * kLanes;
      hn::StoreU(accumulate ? hn::Add(hn::LoadU(df, to), sum[n][half]) : sum[n][half], df, to);
    }
  }
}

template <int N>
HWY_INLINE void rest_f32(const float* tile, int channels, const float* const* x, int count, bool accumulate, float* y,
                         std::ptrdiff_t stride) {
  if constexpr (N > 0) {
    if (count == N)
      tile_f32<N>(tile, channels, x, accumulate, y, stride);
    else
      rest_f32<N - 1>(tile, channels, x, count, accumulate, y, stride);
  }
}

static void multiply_f32(const Matrix& w, int first, int last, const float* x, std::ptrdiff_t x_stride,
                         const int* index, int tokens, Additions additions, float* y, std::ptrdiff_t stride,
                         float* scratch) {
  if (additions == Additions::along_rows) {
    for (int token = 0; token < tokens; token += kFewTokens) {
      const int n = smaller(kFewTokens, tokens - token);
      const float* rows[kFewTokens];
      for (int t = 0; t < n; ++t) rows[t] = x + (index ? index[token + t] : token + t) * x_stride;
      float* to = y + token * stride;
      for (int row = first; row < last; ++row, ++to) {
        if (n == 1) few_f32<1>(w, row, rows, to, stride, scratch);
        if (n == 2) few_f32<2>(w, row, rows, to, stride, scratch);
        if (n == 3) few_f32<3>(w, row, rows, to, stride, scratch);
      }
    }
    return;
  }
  float* four = scratch + kFloatBlock * kFloatRows;
  for (int row = first; row < last; row += kFloatRows) {
    const int count = smaller(kFloatRows, last - row);
    for (int from = 0; from < w.in; from += kFloatBlock) {
      const int channels = smaller(kFloatBlock, w.in - from);
      transpose_f32(w, row, count, from, channels, scratch, four);
      for (int token = 0; token < tokens; token += kFloatTokens) {
        const int n = smaller(kFloatTokens, tokens - token);
        const float* rows[kFloatTokens];
        for (int t = 0; t < n; ++t) rows[t] = x + (index ? index[token + t] : token + t) * x_stride + from;
        float* out = y + token * stride + (row - first);
        alignas(64) float edge[kFloatTokens * kFloatRows];
        float* to = count == kFloatRows ? out : edge;
        const std::ptrdiff_t to_stride = count == kFloatRows ? stride : kFloatRows;
        if (to == edge && from > 0)
          for (int t = 0; t < n; ++t)
            for (int r = 0; r < kFloatRows; ++r) edge[t * kFloatRows + r] = r < count ? out[t * stride + r] : 0;
        if (n == kFloatTokens)
          tile_f32<kFloatTokens>(scratch, channels, rows, from > 0, to, to_stride);
        else
          rest_f32<kFloatTokens - 1>(scratch, channels, rows, n, from > 0, to, to_stride);
        if (to == edge)
          for (int t = 0; t < n; ++t)
            for (int r = 0; r < count; ++r) out[t * stride + r] = edge[t * kFloatRows + r];
      }
    }
  }
}

}  // namespace tqkv::cpu::TQKV_ISA
