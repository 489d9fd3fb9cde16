// Integer dot products with AVX2. vpmaddubsw multiplies unsigned by signed bytes and adds pairs in 16 bits, saturating:
// weights of 4 bits keep eight such sums below 8 * 2 * 15 * 127 < 2^15; weights of 8 bits are taken as two halves of 4
// bits.
#pragma once
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "runtime/cpu/kernels.h"
#include "runtime/cpu/kernels/bytes-inl.h"
#include "runtime/cpu/kernels/isa.h"
#include "runtime/cpu/kernels/lanes-inl.h"
#include "runtime/cpu/kernels/quantized_rows-inl.h"

#ifdef TQKV_AVX2

namespace tqkv::cpu::TQKV_ISA {

// multiply_rows: a lane is a row. The tile holds four channels of 16 rows in each 64 bytes; activations are broadcast
// by fours. For 64 channels of 8 rows and one token 16 vpmaddubsw and 16 additions a plane, and about nine operations
// more (8-bit weights: twice).

constexpr int kTileRows = 16;
constexpr int kTileTokens = 4;

struct Tile {
  alignas(64) std::uint8_t q[kBlock / 4][kTileRows][4];  // [four channels, row, channel]
  alignas(64) float scale[kBlockGroups][kTileRows];
  alignas(64) float bias[kBlockGroups][kTileRows];
};

HWY_INLINE __m256i load32(const void* p) {
  return _mm256_loadu_si256(static_cast<const __m256i*>(p));
}
HWY_INLINE void store32(void* p, __m256i v) {
  _mm256_storeu_si256(static_cast<__m256i*>(p), v);
}

template <bool q4>
HWY_INLINE void unpack(const QuantizedRows& rows, int count, int group, int groups, Tile& tile) {
  constexpr int group_bytes = q4 ? kGroup / 2 : kGroup;
  const __m256i nibble = _mm256_set1_epi8(15);
  for (int half = 0; half < kTileRows; half += 8) {
    const std::uint8_t* row[8];
    for (int r = 0; r < 8; ++r) {
      const int from = smaller(half + r, count - 1);
      row[r] = rows.weight + from * rows.weight_stride + group * group_bytes;
      for (int g = 0; g < groups; ++g) {
        tile.scale[g][half + r] = bf16_at(rows.scales + from * rows.scale_stride + 2 * (group + g));
        tile.bias[g][half + r] = bf16_at(rows.biases + from * rows.scale_stride + 2 * (group + g));
      }
    }
    std::uint8_t* to = tile.q[0][half];
    for (int at = 0; at < groups * group_bytes; at += 32) {
      __m256i v[8];
      for (int r = 0; r < 8; ++r) v[r] = load32(row[r] + at);
      if (at % 64 == 0)  // the next rows, in the order of addresses
        for (int r = 0; r < 8; ++r)
          _mm_prefetch(reinterpret_cast<const char*>(rows.weight) +
                           kTileRows * (rows.weight_stride + group * group_bytes) +
                           8 * (half / 8 * groups * group_bytes + at) + 64 * r,
                       _MM_HINT_T1);
      transpose_lanes(v);
      for (const __m256i& lanes : v) {
        if constexpr (q4) {
          const __m256i even = _mm256_and_si256(lanes, nibble),
                        odd = _mm256_and_si256(_mm256_srli_epi16(lanes, 4), nibble);
          const __m256 low = _mm256_castsi256_ps(_mm256_unpacklo_epi8(even, odd)),
                       high = _mm256_castsi256_ps(_mm256_unpackhi_epi8(even, odd));
          store32(to, _mm256_castps_si256(_mm256_shuffle_ps(low, high, 0x88)));       // channels 0 to 3 of eight
          store32(to + 64, _mm256_castps_si256(_mm256_shuffle_ps(low, high, 0xdd)));  // 4 to 7
          to += 128;
        } else {
          store32(to, lanes);
          to += 64;
        }
      }
    }
  }
}

/// sum[n][half] += place * (the products of a group with one plane of N tokens): of 4-bit weights, or of the low or
/// high halves of 8-bit ones.
template <bool q4, bool high_half, int N>
HWY_INLINE void add_products(const std::uint8_t* q, const std::int8_t* const (&rows)[N], std::ptrdiff_t at,
                             std::int16_t place, __m256i (&sum)[N][2]) {
  const __m256i nibble = _mm256_set1_epi8(15), places = _mm256_set1_epi16(place);
  for (int part = 0; part < 2; ++part) {  // eight sums of pairs fit 16 bits
    __m256i pairs[N][2];
    for (int n = 0; n < N; ++n) pairs[n][0] = pairs[n][1] = _mm256_setzero_si256();
#pragma GCC unroll 2
    for (int i = 0; i < 8; ++i) {
      const int four = 8 * part + i;
      __m256i w0 = load32(q + 64 * four), w1 = load32(q + 64 * four + 32);
      if constexpr (!q4) {
        w0 = _mm256_and_si256(high_half ? _mm256_srli_epi16(w0, 4) : w0, nibble);
        w1 = _mm256_and_si256(high_half ? _mm256_srli_epi16(w1, 4) : w1, nibble);
      }
      for (int n = 0; n < N; ++n) {
        const __m256i x = broadcast_four(rows[n] + at + 4 * four);
        pairs[n][0] = _mm256_add_epi16(pairs[n][0], _mm256_maddubs_epi16(w0, x));
        pairs[n][1] = _mm256_add_epi16(pairs[n][1], _mm256_maddubs_epi16(w1, x));
      }
    }
    for (int n = 0; n < N; ++n)
      for (int h = 0; h < 2; ++h) sum[n][h] = _mm256_add_epi32(sum[n][h], _mm256_madd_epi16(pairs[n][h], places));
  }
}

template <bool q4, bool both, int N>
HWY_INLINE void multiply_tile(const Tile& tile, int, int groups, const TokenRows<N>& tokens, bool accumulate, float* y,
                              std::ptrdiff_t stride) {
  __m256 total[N][2];
  for (int n = 0; n < N; ++n)
    for (int h = 0; h < 2; ++h)
      total[n][h] = accumulate ? _mm256_loadu_ps(y + n * stride + 8 * h) : _mm256_setzero_ps();
  for (int g = 0; g < groups; ++g) {
    const std::uint8_t* q = tile.q[g * (kGroup / 4)][0];
    __m256i sum[N][2];
    for (int n = 0; n < N; ++n) sum[n][0] = sum[n][1] = _mm256_setzero_si256();
    add_products<q4, false, N>(q, tokens.high, g * kGroup, both ? 256 : 1, sum);
    if constexpr (both) add_products<q4, false, N>(q, tokens.high, tokens.low + g * kGroup, 1, sum);
    if constexpr (!q4) {
      add_products<q4, true, N>(q, tokens.high, g * kGroup, both ? 4096 : 16, sum);
      if constexpr (both) add_products<q4, true, N>(q, tokens.high, tokens.low + g * kGroup, 16, sum);
    }
    for (int n = 0; n < N; ++n) {
      const __m256 x_scale = _mm256_set1_ps(tokens.scale[n][g]), x_sum = _mm256_set1_ps(tokens.sum[n][g]);
      for (int h = 0; h < 2; ++h) {
        const __m256 scaled = _mm256_mul_ps(_mm256_cvtepi32_ps(sum[n][h]), x_scale);
        total[n][h] = _mm256_fmadd_ps(scaled, _mm256_load_ps(tile.scale[g] + 8 * h), total[n][h]);
        total[n][h] = _mm256_fmadd_ps(_mm256_load_ps(tile.bias[g] + 8 * h), x_sum, total[n][h]);
      }
    }
  }
  for (int n = 0; n < N; ++n)
    for (int h = 0; h < 2; ++h) _mm256_storeu_ps(y + n * stride + 8 * h, total[n][h]);
}

// multiply16: a lane is four channels of one row, 32 bytes a load. 4-bit weights: four vpmaddubsw and about 13 other
// operations for 64 weights. 8-bit weights are widened to 16 bits for vpmaddwd.

constexpr int kDotRows = 4;

/// `n` bf16 (1 to 8) as floats, zeros beyond.
HWY_INLINE __m256 load_bf16_8(const std::uint8_t* p, int n) {
  alignas(16) std::uint16_t edge[8] = {};
  if (n < 8) std::memcpy(edge, p, 2 * static_cast<std::size_t>(n));
  const __m128i halves = _mm_loadu_si128(static_cast<const __m128i*>(n < 8 ? static_cast<const void*>(edge) : p));
  return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(halves), 16));
}

template <bool q4, int R>
HWY_INLINE void dot_rows(const QuantizedRows& rows, const Row16& x, float* y) {
  const __m256i nibble = _mm256_set1_epi8(15), ones = _mm256_set1_epi16(1), places = _mm256_set1_epi16(256);
  __m256 total[R];
  for (int r = 0; r < R; ++r) total[r] = _mm256_setzero_ps();
  for (int group = 0; group < rows.groups; group += 16) {
    const int groups = smaller(16, rows.groups - group);
    alignas(32) float scaled[R][16];
    for (int part = 0; part < groups; part += 8) {
      const int n = smaller(8, groups - part);
      const __m256i present = _mm256_cmpgt_epi32(_mm256_set1_epi32(n), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
      const __m256 x_scale = _mm256_maskload_ps(x.scale + group + part, present),
                   x_sum = _mm256_maskload_ps(x.sum + group + part, present);
      for (int r = 0; r < R; ++r) {
        const std::ptrdiff_t at = r * rows.scale_stride + 2 * (group + part);
        _mm256_store_ps(scaled[r] + part, _mm256_mul_ps(load_bf16_8(rows.scales + at, n), x_scale));
        total[r] = _mm256_fmadd_ps(load_bf16_8(rows.biases + at, n), x_sum, total[r]);
      }
    }
    for (int g = 0; g < groups; ++g) {
      const std::ptrdiff_t channel = (group + g) * kGroup;
      const Row16Place place = row16_place(rows.groups, group + g);
      for (int r = 0; r < R; ++r) {
        const std::uint8_t* from = rows.weight + r * rows.weight_stride + (q4 ? channel / 2 : channel);
        if (!q4 || g % 2 == 0) fetch_ahead(rows, (q4 ? (group + g) / 2 : group + g) * R + r);
        __m256i sum;
        if constexpr (q4) {
          const __m256i w = load32(from), even = _mm256_and_si256(w, nibble),
                        odd = _mm256_and_si256(_mm256_srli_epi16(w, 4), nibble);
          const __m256i high = _mm256_add_epi16(_mm256_maddubs_epi16(even, load32(x.high + place.even)),
                                                _mm256_maddubs_epi16(odd, load32(x.high + place.odd)));
          const __m256i low = _mm256_add_epi16(_mm256_maddubs_epi16(even, load32(x.low + place.even)),
                                               _mm256_maddubs_epi16(odd, load32(x.low + place.odd)));
          sum = _mm256_add_epi32(_mm256_madd_epi16(high, places), _mm256_madd_epi16(low, ones));
        } else {
          sum = _mm256_setzero_si256();
          for (int i = 0; i < kGroup; i += 16) {
            const __m256i w = _mm256_cvtepu8_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from + i)));
            sum = _mm256_add_epi32(sum, _mm256_madd_epi16(w, load32(x.q + channel + i)));
          }
        }
        total[r] = _mm256_fmadd_ps(_mm256_cvtepi32_ps(sum), _mm256_set1_ps(scaled[r][g]), total[r]);
      }
    }
  }
  for (int r = 0; r < R; ++r) {
    const __m128 four = _mm_add_ps(_mm256_castps256_ps128(total[r]), _mm256_extractf128_ps(total[r], 1));
    const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    y[r] = _mm_cvtss_f32(_mm_add_ss(two, _mm_shuffle_ps(two, two, 1)));
  }
}

}  // namespace tqkv::cpu::TQKV_ISA

#endif
