// Integer dot products with AVX-512 VNNI: vpdpbusd multiplies 64 unsigned by 64 signed bytes and adds them up by fours.
#pragma once
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "runtime/cpu/kernels.h"
#include "runtime/cpu/kernels/bytes-inl.h"
#include "runtime/cpu/kernels/isa.h"
#include "runtime/cpu/kernels/lanes-inl.h"
#include "runtime/cpu/kernels/quantized_rows-inl.h"

#ifdef TQKV_AVX512

namespace tqkv::cpu::TQKV_ISA {

// multiply_rows: a lane is a row. The tile holds four channels of 32 rows in each 128 bytes; activations are broadcast
// by fours, and each broadcast meets two vectors of weights. For 64 channels of 16 rows and one token 16 vpdpbusd a
// plane, 8 loads of activations, and five other operations.

constexpr int kTileRows = 32;
constexpr int kTileTokens = 6;  // 12 sums and 12 totals in registers

struct Tile {
  alignas(64) std::uint8_t q[kBlock / 4][kTileRows][4];  // [four channels, row, channel]
  alignas(64) float scale[kBlockGroups][kTileRows];
  alignas(64) float bias[kBlockGroups][kTileRows];
};

HWY_INLINE __m512 bf16_to_f32(__m256i halves) {
  return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(halves), 16));
}

/// Rows half..half+15 of a tile.
template <bool q4>
HWY_INLINE void unpack_half(const QuantizedRows& rows, int half, int count, int group, int groups, Tile& tile) {
  const std::uint8_t* row[16];
  __m512i v[16];
  // Scales and biases: 16 groups of 16 rows.
  const auto present = first_lanes(groups);
  for (int bias = 0; bias < 2; ++bias) {
    const std::uint8_t* from = (bias ? rows.biases : rows.scales) + 2 * group;
    for (int r = 0; r < 16; ++r)
      v[r] = _mm512_castps_si512(
          bf16_to_f32(_mm256_maskz_loadu_epi16(present, from + smaller(half + r, count - 1) * rows.scale_stride)));
    transpose_lanes(v);
    for (int g = 0; g < groups; ++g)
      _mm512_store_ps((bias ? tile.bias[g] : tile.scale[g]) + half, _mm512_castsi512_ps(v[g]));
  }
  // Weights: 64 bytes of 16 rows at a time.
  constexpr int group_bytes = q4 ? kGroup / 2 : kGroup;
  for (int r = 0; r < 16; ++r)
    row[r] = rows.weight + smaller(half + r, count - 1) * rows.weight_stride + group * group_bytes;
  const __m512i nibble = _mm512_set1_epi8(15);
  const __m512i first_four =
      _mm512_set1_epi64(0x2c2824200c080400);  // bit offsets of nibbles 0 to 3 of each half of 64 bits
  const __m512i last_four = _mm512_set1_epi64(0x3c3834301c181410);
  std::uint8_t* to = tile.q[0][half];
  const std::uint8_t* next =
      rows.weight + kTileRows * (rows.weight_stride + group * group_bytes) + half * groups * group_bytes;
  for (int at = 0; at < groups * group_bytes; at += 64) {
    const int lanes = smaller(16, (groups * group_bytes - at) / 4);
    const auto mask = first_lanes(lanes);
    for (int r = 0; r < 16; ++r) {
      v[r] = _mm512_maskz_loadu_epi32(mask, row[r] + at);
      // The next tile, in the order of addresses: doubles the speed for few tokens and cold weights.
      _mm_prefetch(reinterpret_cast<const char*>(next) + 16 * at + 64 * r, _MM_HINT_T1);
    }
    transpose_lanes(v);
    for (int i = 0; i < lanes; ++i) {
      if constexpr (q4) {
        _mm512_store_si512(to, _mm512_and_si512(_mm512_multishift_epi64_epi8(first_four, v[i]), nibble));
        _mm512_store_si512(to + 4 * kTileRows, _mm512_and_si512(_mm512_multishift_epi64_epi8(last_four, v[i]), nibble));
        to += 8 * kTileRows;
      } else {
        _mm512_store_si512(to, v[i]);
        to += 4 * kTileRows;
      }
    }
  }
}

template <bool q4>
HWY_INLINE void unpack(const QuantizedRows& rows, int count, int group, int groups, Tile& tile) {
  unpack_half<q4>(rows, 0, count, group, groups, tile);
  if (count > 16) unpack_half<q4>(rows, 16, count, group, groups, tile);
}

/// sum[n][half] += the products of a group with one plane of N tokens.
template <int N, int halves>
HWY_INLINE void add_products(const std::uint8_t* q, const std::int8_t* const (&x)[N], std::ptrdiff_t at,
                             __m512i (&sum)[N][halves]) {
#pragma GCC unroll 16
  for (int i = 0; i < kGroup / 4; ++i) {
    __m512i w[halves];
    for (int h = 0; h < halves; ++h) w[h] = _mm512_load_si512(q + 4 * kTileRows * i + 64 * h);
    for (int n = 0; n < N; ++n) {
      const __m512i four = broadcast_four(x[n] + at + 4 * i);
      for (int h = 0; h < halves; ++h) sum[n][h] = _mm512_dpbusd_epi32(sum[n][h], w[h], four);
    }
  }
}

template <bool both, int N, int halves>
HWY_INLINE void multiply_halves(const Tile& tile, int groups, const TokenRows<N>& tokens, bool accumulate, float* y,
                                std::ptrdiff_t stride) {
  __m512 total[N][halves];
  for (int n = 0; n < N; ++n)
    for (int h = 0; h < halves; ++h)
      total[n][h] = accumulate ? _mm512_loadu_ps(y + n * stride + 16 * h) : _mm512_setzero_ps();
  for (int g = 0; g < groups; ++g) {
    const std::uint8_t* q = tile.q[g * (kGroup / 4)][0];
    __m512i sum[N][halves];
    for (int n = 0; n < N; ++n)
      for (int h = 0; h < halves; ++h) sum[n][h] = _mm512_setzero_si512();
    add_products<N, halves>(q, tokens.high, g * kGroup, sum);
    if constexpr (both) {
      for (int n = 0; n < N; ++n)
        for (int h = 0; h < halves; ++h) sum[n][h] = _mm512_slli_epi32(sum[n][h], 8);
      add_products<N, halves>(q, tokens.high, tokens.low + g * kGroup, sum);
    }
    for (int n = 0; n < N; ++n) {
      const __m512 x_scale = _mm512_set1_ps(tokens.scale[n][g]), x_sum = _mm512_set1_ps(tokens.sum[n][g]);
      for (int h = 0; h < halves; ++h) {
        const __m512 scaled = _mm512_mul_ps(_mm512_cvtepi32_ps(sum[n][h]), x_scale);
        total[n][h] = _mm512_fmadd_ps(scaled, _mm512_load_ps(tile.scale[g] + 16 * h), total[n][h]);
        total[n][h] = _mm512_fmadd_ps(_mm512_load_ps(tile.bias[g] + 16 * h), x_sum, total[n][h]);
      }
    }
  }
  for (int n = 0; n < N; ++n)
    for (int h = 0; h < halves; ++h) _mm512_storeu_ps(y + n * stride + 16 * h, total[n][h]);
}

template <bool q4, bool both, int N>
HWY_INLINE void multiply_tile(const Tile& tile, int count, int groups, const TokenRows<N>& tokens, bool accumulate,
                              float* y, std::ptrdiff_t stride) {
  if (count > 16)
    multiply_halves<both, N, 2>(tile, groups, tokens, accumulate, y, stride);
  else
    multiply_halves<both, N, 1>(tile, groups, tokens, accumulate, y, stride);
}

// multiply16: a lane is four channels of one row; two groups of 4-bit weights a load. Four vpdpbusd, two for the high
// bytes of the activations and two for the low ones, and about seven other operations for 128 weights.

constexpr int kDotRows = 4;

/// R rows of one token: total += b_g sum_g, and scaled = s_g * (scale of x) for groups group..group+15 (zeros beyond
/// the row).
template <int R>
HWY_INLINE void scale_rows(const QuantizedRows& rows, const Row16& x, int group, int groups, __m512 (&scaled)[R],
                           __m512 (&total)[R]) {
  const auto present = first_lanes(groups);
  const __m512 x_scale = _mm512_maskz_loadu_ps(present, x.scale + group),
               x_sum = _mm512_maskz_loadu_ps(present, x.sum + group);
  for (int r = 0; r < R; ++r) {
    const std::ptrdiff_t at = r * rows.scale_stride + 2 * group;
    scaled[r] = _mm512_mul_ps(bf16_to_f32(_mm256_maskz_loadu_epi16(present, rows.scales + at)), x_scale);
    total[r] = _mm512_fmadd_ps(bf16_to_f32(_mm256_maskz_loadu_epi16(present, rows.biases + at)), x_sum, total[r]);
  }
}

/// y[r] = the sum of the lanes of total[r]: halves, then quarters and so on, the same for any R.
template <int R>
HWY_INLINE void store_sums(const __m512 (&total)[R], float* y) {
  static_assert(R <= 4);
  __m512 v[4];
  for (int r = 0; r < 4; ++r) v[r] = r < R ? total[r] : _mm512_setzero_ps();
  const auto halves = [](__m512 a, __m512 b) {  // 8 lanes of a, 8 of b
    return _mm512_add_ps(_mm512_shuffle_f32x4(a, b, 0x44), _mm512_shuffle_f32x4(a, b, 0xee));
  };
  const __m512 first = halves(v[0], v[1]), last = halves(v[2], v[3]);
  __m512 four = _mm512_add_ps(_mm512_shuffle_f32x4(first, last, 0x88), _mm512_shuffle_f32x4(first, last, 0xdd));
  four = _mm512_add_ps(four, _mm512_permute_ps(four, 0x4e));
  four = _mm512_add_ps(four, _mm512_permute_ps(four, 0xb1));  // 4 lanes of each row, all the same
  const __m128 sums = _mm512_castps512_ps128(_mm512_maskz_compress_ps(0x1111, four));
  _mm_mask_storeu_ps(y, static_cast<__mmask8>((1u << R) - 1), sums);
}

template <bool q4, int R>
HWY_INLINE void dot_rows(const QuantizedRows& rows, const Row16& x, float* y) {
  __m512 total[R], scaled[R];
  for (int r = 0; r < R; ++r) total[r] = _mm512_setzero_ps();
  const __m512i nibble = _mm512_set1_epi8(15);
  const __m512i halves = _mm512_inserti64x4(_mm512_setzero_si512(), _mm256_set1_epi32(1), 1);
  for (int group = 0; group < rows.groups; group += 16) {
    const int groups = smaller(16, rows.groups - group);
    scale_rows<R>(rows, x, group, groups, scaled, total);
    for (int g = 0; g < groups; g += q4 ? 2 : 1) {
      if constexpr (q4) {
        // Two groups, or the last one and zeros.
        const bool two = g + 1 < groups;
        const std::ptrdiff_t at = static_cast<std::ptrdiff_t>(group + g) * kGroup;
        const auto load = [two](const std::int8_t* p) {
          return two ? _mm512_loadu_si512(p) : _mm512_maskz_loadu_epi32(0xff, p);
        };
        const std::ptrdiff_t odd_at = at + (two ? kGroup : kGroup / 2);
        const __m512i high_even = load(x.high + at), high_odd = load(x.high + odd_at);
        const __m512i low_even = load(x.low + at), low_odd = load(x.low + odd_at);
        const __m512i lanes = _mm512_add_epi32(halves, _mm512_set1_epi32(g));
        for (int r = 0; r < R; ++r) {
          const std::uint8_t* from = rows.weight + r * rows.weight_stride + (group + g) * (kGroup / 2);
          fetch_ahead(rows, (group + g) / 2 * R + r);
          const __m512i w = two ? _mm512_loadu_si512(from) : _mm512_maskz_loadu_epi32(0xff, from);
          const __m512i even = _mm512_and_si512(w, nibble), odd = _mm512_and_si512(_mm512_srli_epi16(w, 4), nibble);
          __m512i sum = _mm512_dpbusd_epi32(_mm512_setzero_si512(), even, high_even);
          sum = _mm512_slli_epi32(_mm512_dpbusd_epi32(sum, odd, high_odd), 8);
          sum = _mm512_dpbusd_epi32(_mm512_dpbusd_epi32(sum, even, low_even), odd, low_odd);
          total[r] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(sum), _mm512_permutexvar_ps(lanes, scaled[r]), total[r]);
        }
      } else {
        const std::int16_t* q = x.q + (group + g) * kGroup;
        const __m512i x0 = _mm512_loadu_si512(q), x1 = _mm512_loadu_si512(q + 32);
        const __m512i lanes = _mm512_set1_epi32(g);
        for (int r = 0; r < R; ++r) {
          const auto* from =
              reinterpret_cast<const __m256i*>(rows.weight + r * rows.weight_stride + (group + g) * kGroup);
          fetch_ahead(rows, (group + g) * R + r);
          const __m512i w0 = _mm512_cvtepu8_epi16(_mm256_loadu_si256(from)),
                        w1 = _mm512_cvtepu8_epi16(_mm256_loadu_si256(from + 1));
          const __m512i sum = _mm512_dpwssd_epi32(_mm512_dpwssd_epi32(_mm512_setzero_si512(), w0, x0), w1, x1);
          total[r] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(sum), _mm512_permutexvar_ps(lanes, scaled[r]), total[r]);
        }
      }
    }
  }
  store_sums(total, y);
}

}  // namespace tqkv::cpu::TQKV_ISA

#endif
