// Packed indices to floats through a table of up to 32 entries:
//   for c in channels:  out[c] = table[low bits of c | top bit of c << width]
// Two or three operations a vector with AVX-512, five to nine with AVX2; the bound is the 4 bytes a channel that are
// written.
#pragma once
#include <cstdint>

#include "runtime/cpu/kernels/bytes-inl.h"
#include "runtime/cpu/kernels/isa.h"
#include "runtime/cpu/kernels/simd-inl.h"

namespace tqkv::cpu::TQKV_ISA::vec {

/// The entries of a plane of `width` bits: those without the top bit in `low`, those with it in `high`. A table of four
/// stands in each of them four times over, so that bits above the index need no mask.
constexpr int table_vectors = 16 / lanes;
struct Table {
  F low[table_vectors], high[table_vectors];
};

/// Of 2^bits floats, bits 2 to 5.
HWY_INLINE Table table_of(const float* entries, int bits) {
  const int plane = bits == 2 || bits == 3 ? 4 : 16;
  alignas(64) float both[32];
  for (int i = 0; i < 16; ++i) {
    both[i] = entries[i % plane];
    both[16 + i] = bits == 3 || bits == 5 ? entries[plane + i % plane] : 0.0f;
  }
  Table table;
  for (int i = 0; i < table_vectors; ++i) {
    table.low[i] = hn::Load(tag, both + i * lanes);
    table.high[i] = hn::Load(tag, both + 16 + i * lanes);
  }
  return table;
}

HWY_INLINE Table times(Table table, float factor) {
  for (int i = 0; i < table_vectors; ++i) {
    table.low[i] = hn::Mul(table.low[i], set(factor));
    table.high[i] = hn::Mul(table.high[i], set(factor));
  }
  return table;
}

// n is a multiple of 16; `top` is the plane of topmost bits where there is one.
#if HWY_MAX_BYTES == 64

// Intrinsics, because no portable operation takes unaligned bit fields, and a permutation reads the low four bits only.
template <int width, bool has_top>
HWY_INLINE void look_up(const Table& table, const Byte* codes, const Byte* top, int n, float* out) {
  static_assert(width == 2 || width == 4);
  const __m512i fields = _mm512_mullo_epi32(_mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15),
                                            _mm512_set1_epi32(width));
  const __m512i top_fields =
      _mm512_setr_epi32(-4, -3, -2, -1, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11);  // they wrap: bit c comes to bit 4
  const __m512i bit4 = _mm512_set1_epi32(16);
  for (int c = 0; c < n; c += 16) {
    const __m512i word = width == 4 ? _mm512_set1_epi64(load_bits<long long>(codes + c / 2))
                                    : _mm512_set1_epi32(load_bits<int>(codes + c / 4));
    __m512i index = _mm512_multishift_epi64_epi8(fields, word);
    if constexpr (has_top) {
      const __m512i bits = _mm512_multishift_epi64_epi8(top_fields, _mm512_set1_epi16(load_bits<short>(top + c / 8)));
      index = _mm512_ternarylogic_epi32(bit4, bits, index, 0xca);  // bit 4 of bits, the others of index
      _mm512_storeu_ps(out + c, _mm512_permutex2var_ps(table.low[0].raw, index, table.high[0].raw));
    } else {
      _mm512_storeu_ps(out + c, _mm512_permutexvar_ps(index, table.low[0].raw));
    }
  }
}

#elif HWY_MAX_BYTES == 32

template <int width>
HWY_INLINE __m256 look_up_plane(const F (&table)[2], __m256i index) {
  const __m256 low = _mm256_permutevar8x32_ps(table[0].raw, index);
  if constexpr (width == 2) return low;
  return _mm256_blendv_ps(low, _mm256_permutevar8x32_ps(table[1].raw, index),
                          _mm256_castsi256_ps(_mm256_slli_epi32(index, 28)));
}

template <int width, bool has_top>
HWY_INLINE void look_up(const Table& table, const Byte* codes, const Byte* top, int n, float* out) {
  static_assert(width == 2 || width == 4);
  const __m256i shifts = _mm256_setr_epi32(0, width, 2 * width, 3 * width, 4 * width, 5 * width, 6 * width, 7 * width);
  const __m256i to_sign = _mm256_setr_epi32(31, 30, 29, 28, 27, 26, 25, 24);
  for (int c = 0; c < n; c += 8) {
    const int word = width == 4 ? load_bits<int>(codes + c / 2) : load_bits<unsigned short>(codes + c / 4);
    const __m256i index = _mm256_srlv_epi32(_mm256_set1_epi32(word), shifts);
    __m256 value = look_up_plane<width>(table.low, index);
    if constexpr (has_top)
      value = _mm256_blendv_ps(value, look_up_plane<width>(table.high, index),
                               _mm256_castsi256_ps(_mm256_sllv_epi32(_mm256_set1_epi32(top[c / 8]), to_sign)));
    _mm256_storeu_ps(out + c, value);
  }
}

#else

template <int width, bool has_top>
HWY_INLINE void look_up(const Table& table, const Byte* codes, const Byte* top, int n, float* out) {
  constexpr int per_byte = 8 / width, mask = (1 << width) - 1;
  alignas(64) float entries[32];
  for (int i = 0; i < table_vectors; ++i) {
    hn::Store(table.low[i], tag, entries + i * lanes);
    hn::Store(table.high[i], tag, entries + 16 + i * lanes);
  }
  for (int c = 0; c < n; c += per_byte) {
    const int byte = codes[c / per_byte];
    for (int j = 0; j < per_byte; ++j) {
      int index = (byte >> (j * width)) & mask;
      if constexpr (has_top) index += ((top[(c + j) / 8] >> ((c + j) % 8)) & 1) * 16;
      out[c + j] = entries[index];
    }
  }
}

#endif

/// One vector of dim channels (a multiple of 16) in the planes of `bits` bits.
HWY_INLINE void look_up(const Table& table, int bits, const Byte* codes, int dim, float* out) {
  switch (bits) {
    case 2:
      look_up<2, false>(table, codes, nullptr, dim, out);
      break;
    case 3:
      look_up<2, true>(table, codes, codes + dim / 4, dim, out);
      break;
    case 4:
      look_up<4, false>(table, codes, nullptr, dim, out);
      break;
    default:
      look_up<4, true>(table, codes, codes + dim / 2, dim, out);
      break;
  }
}

}  // namespace tqkv::cpu::TQKV_ISA::vec
