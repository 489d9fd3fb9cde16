// Plain bf16 keys and values where the processor multiplies pairs of them (AVX512_BF16, found at run time): vdpbf16ps
// takes 32 products of one row, and nothing is converted or written in between. Queries and weights are rounded to
// bf16; the sum of weights is that of the rounded ones.
#pragma once
#include <cstddef>
#include <cstdint>

#include "codec/side_codec.h"
#include "runtime/cpu/kernels.h"
#include "runtime/cpu/kernels/bytes-inl.h"
#include "runtime/cpu/kernels/codes-inl.h"
#include "runtime/cpu/kernels/gemm-inl.h"
#include "runtime/cpu/kernels/isa.h"
#include "runtime/cpu/kernels/lanes-inl.h"
#include "runtime/cpu/kernels/packed_tile-inl.h"
#include "runtime/cpu/kernels/simd-inl.h"

#ifdef TQKV_AVX512

namespace tqkv::cpu::TQKV_ISA::vec::packed {

#define TQKV_BF16 __attribute__((target("avx512bf16")))

HWY_INLINE bool bf16_products(const codec::SideCodec& codec) {
  return codec.format.kind == Kind::plain && codec.format.bits == 16 && codec.dim % 32 == 0 &&
         __builtin_cpu_supports("avx512bf16");
}

HWY_INLINE TQKV_BF16 __m512bh load_pairs(const void* p) {
  return (__m512bh)_mm512_loadu_si512(p);
}

TQKV_BF16 inline void bf16_queries(const float* query, std::ptrdiff_t n, std::byte* out) {
  for (std::ptrdiff_t i = 0; i < n; i += 16)
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(out + 2 * i),
                        (__m256i)_mm512_cvtneps_pbh(_mm512_loadu_ps(query + i)));
}

//   for r in R:  for k in 4:  out[r, k] = sum_c query[r, c] key[k, c]
template <int R>
TQKV_BF16 inline void bf16_dots(const Byte* query, const Byte* keys, int count, int dim, float* out) {
  const std::ptrdiff_t row = 2 * static_cast<std::ptrdiff_t>(dim);
  __m512 sum[R][4];
  for (int r = 0; r < R; ++r)
    for (int k = 0; k < 4; ++k) sum[r][k] = _mm512_setzero_ps();
  for (std::ptrdiff_t c = 0; c < row; c += 64) {
    __m512bh key[4];
    for (int k = 0; k < 4; ++k) key[k] = load_pairs(keys + (k < count ? k : 0) * row + c);
    for (int r = 0; r < R; ++r) {
      const __m512bh q = load_pairs(query + r * row + c);
      for (int k = 0; k < 4; ++k) sum[r][k] = _mm512_dpbf16_ps(sum[r][k], key[k], q);
    }
  }
  F sums[R][4];
  for (int r = 0; r < R; ++r)
    for (int k = 0; k < 4; ++k) sums[r][k] = F{sum[r][k]};
  store_dots<R>(sums, out, 64);
}

inline void bf16_scores(const Queries8& x, const Byte* keys, int dim, int n, const int* visible, float* scores) {
  const std::ptrdiff_t row = 2 * static_cast<std::ptrdiff_t>(dim);
  const Byte* query = bytes(x.q);
  constexpr int key_block = 32;  // 16 KiB of 256 channels: they stay in the first cache while all queries pass
  for (int key = 0; key < n; key += key_block)
    for (int i = 0; i < x.queries; i += 4) {
      const int rows = smaller(4, x.queries - i);
      const int end = smaller(key + key_block, end_of_rows(visible + i, rows, n));
      for (int j = key; j < end; j += 4) {
        float* out = scores + 64 * i + j;
        const Byte* four = keys + j * row;
        if (rows == 4) {
          bf16_dots<4>(query + i * row, four, n - j, dim, out);
          continue;
        }
        if (rows & 2) bf16_dots<2>(query + i * row, four, n - j, dim, out);
        if (rows & 1) bf16_dots<1>(query + (i + (rows & 2)) * row, four, n - j, dim, out + 64 * (rows & 2));
      }
    }
}

/// Weights to bf16; returns what the sum of weights gains.
TQKV_BF16 inline float bf16_weights(const float* p, int n, std::int16_t* words) {
  __m512 gained = _mm512_setzero_ps();
  for (int i = 0; i < 4; ++i) {
    const int left = smaller(16, n - 16 * i);
    const __m512 w = left > 0 ? _mm512_maskz_loadu_ps(first_lanes(left), p + 16 * i) : _mm512_setzero_ps();
    const __m256i half = (__m256i)_mm512_cvtneps_pbh(w);
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(words + 16 * i), half);
    const __m512 rounded = _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(half), 16));
    gained = _mm512_add_ps(gained, _mm512_sub_ps(rounded, w));
  }
  return _mm512_reduce_add_ps(gained);
}

HWY_INLINE int bf16_value_channel(int place) {
  const int vector = place % 32 / 16, lane = place % 16;
  return place / 32 * 32 + 8 * (lane / 4) + 4 * vector + lane % 4;
}

/// Q queries and 32 channels: a lane is a channel, two tokens a dword.
template <int Q>
TQKV_BF16 inline void bf16_value_block(const std::int16_t* words, const Byte* values, int dim, int n, float* output) {
  const std::ptrdiff_t row = 2 * static_cast<std::ptrdiff_t>(dim);
  __m512 sum[Q][2];
  for (int r = 0; r < Q; ++r)
    for (int c = 0; c < 2; ++c) sum[r][c] = _mm512_loadu_ps(output + r * static_cast<std::ptrdiff_t>(dim) + 16 * c);
  for (int j = 0; j < n; j += 2) {
    const __m512i a = _mm512_loadu_si512(values + j * row),
                  b = _mm512_loadu_si512(values + smaller(j + 1, n - 1) * row);
    const auto low = (__m512bh)_mm512_unpacklo_epi16(a, b), high = (__m512bh)_mm512_unpackhi_epi16(a, b);
    for (int r = 0; r < Q; ++r) {
      const auto weight = (__m512bh)broadcast_pair(words + 64 * r + j);
      sum[r][0] = _mm512_dpbf16_ps(sum[r][0], low, weight);
      sum[r][1] = _mm512_dpbf16_ps(sum[r][1], high, weight);
    }
  }
  for (int r = 0; r < Q; ++r)
    for (int c = 0; c < 2; ++c) _mm512_storeu_ps(output + r * static_cast<std::ptrdiff_t>(dim) + 16 * c, sum[r][c]);
}

inline void bf16_values(AttentionState& state, const Byte* values, int n, const int* visible, const float* weights,
                        std::int16_t* words) {
  const int dim = state.dim;
  for (int i = 0; i < state.queries; ++i)
    state.sum[i] += bf16_weights(weights + 64 * static_cast<std::ptrdiff_t>(i), n, words + 64 * i);
  for (int c = 0; c < dim; c += 32)
    for (int row = 0; row < state.queries;) {
      const int left = state.queries - row, rows = left >= 8 ? 8 : left >= 4 ? 4 : left >= 2 ? 2 : 1;
      const int end = end_of_rows(visible + row, rows, n);
      float* output = state.output + static_cast<std::ptrdiff_t>(row) * dim + c;
      if (rows == 8)
        bf16_value_block<8>(words + 64 * row, values + 2 * c, dim, end, output);
      else if (rows == 4)
        bf16_value_block<4>(words + 64 * row, values + 2 * c, dim, end, output);
      else if (rows == 2)
        bf16_value_block<2>(words + 64 * row, values + 2 * c, dim, end, output);
      else
        bf16_value_block<1>(words + 64 * row, values + 2 * c, dim, end, output);
      row += rows;
    }
}

}  // namespace tqkv::cpu::TQKV_ISA::vec::packed

#endif
