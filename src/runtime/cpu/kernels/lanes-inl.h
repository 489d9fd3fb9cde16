// Lanes of 32 bits in registers, for the integer kernels of matrices and of attention: the first ones, the same in all,
// squares of them transposed.
#pragma once
#include <cstdint>

#include "runtime/cpu/kernels/bytes-inl.h"
#include "runtime/cpu/kernels/isa.h"

namespace tqkv::cpu::TQKV_ISA {

#ifdef TQKV_AVX512

/// The first n of 16.
HWY_INLINE __mmask16 first_lanes(int n) {
  return static_cast<__mmask16>((1u << n) - 1);
}

/// The four bytes at p, the two words at p, in every lane.
HWY_INLINE __m512i broadcast_four(const std::int8_t* p) {
  return _mm512_set1_epi32(load_bits<std::int32_t>(reinterpret_cast<const Byte*>(p)));
}
HWY_INLINE __m512i broadcast_pair(const std::int16_t* p) {
  return _mm512_set1_epi32(load_bits<std::int32_t>(reinterpret_cast<const Byte*>(p)));
}

/// Transposes 16 x 16 lanes of 32 bits.
HWY_INLINE void transpose_lanes(__m512i (&v)[16]) {
  __m512i t[16];
  for (int i = 0; i < 16; i += 2) {
    t[i] = _mm512_unpacklo_epi32(v[i], v[i + 1]);
    t[i + 1] = _mm512_unpackhi_epi32(v[i], v[i + 1]);
  }
  for (int i = 0; i < 16; i += 4) {
    v[i] = _mm512_unpacklo_epi64(t[i], t[i + 2]);
    v[i + 1] = _mm512_unpackhi_epi64(t[i], t[i + 2]);
    v[i + 2] = _mm512_unpacklo_epi64(t[i + 1], t[i + 3]);
    v[i + 3] = _mm512_unpackhi_epi64(t[i + 1], t[i + 3]);
  }
  for (int i = 0; i < 4; ++i) {  // v[4 b + i]: lanes i, 4 + i, 8 + i, 12 + i of rows 4 b to 4 b + 3
    const __m512i low01 = _mm512_shuffle_i32x4(v[i], v[4 + i], 0x88),
                  high01 = _mm512_shuffle_i32x4(v[i], v[4 + i], 0xdd);
    const __m512i low23 = _mm512_shuffle_i32x4(v[8 + i], v[12 + i], 0x88),
                  high23 = _mm512_shuffle_i32x4(v[8 + i], v[12 + i], 0xdd);
    t[i] = _mm512_shuffle_i32x4(low01, low23, 0x88);
    t[8 + i] = _mm512_shuffle_i32x4(low01, low23, 0xdd);
    t[4 + i] = _mm512_shuffle_i32x4(high01, high23, 0x88);
    t[12 + i] = _mm512_shuffle_i32x4(high01, high23, 0xdd);
  }
  for (int i = 0; i < 16; ++i) v[i] = t[i];
}

/// Transposes 8 x 8 lanes of 32 bits in each half.
HWY_INLINE void transpose8(__m512i (&v)[8]) {
  const __m512i even = _mm512_setr_epi64(0, 1, 8, 9, 4, 5, 12, 13), odd = _mm512_setr_epi64(2, 3, 10, 11, 6, 7, 14, 15);
  __m512i t[8];
  for (int i = 0; i < 8; i += 2) {
    t[i] = _mm512_unpacklo_epi32(v[i], v[i + 1]);
    t[i + 1] = _mm512_unpackhi_epi32(v[i], v[i + 1]);
  }
  for (int i = 0; i < 8; i += 4) {
    v[i] = _mm512_unpacklo_epi64(t[i], t[i + 2]);
    v[i + 1] = _mm512_unpackhi_epi64(t[i], t[i + 2]);
    v[i + 2] = _mm512_unpacklo_epi64(t[i + 1], t[i + 3]);
    v[i + 3] = _mm512_unpackhi_epi64(t[i + 1], t[i + 3]);
  }
  for (int i = 0; i < 4; ++i) {
    t[i] = _mm512_permutex2var_epi64(v[i], even, v[4 + i]);
    t[4 + i] = _mm512_permutex2var_epi64(v[i], odd, v[4 + i]);
  }
  for (int i = 0; i < 8; ++i) v[i] = t[i];
}

#elif defined(TQKV_AVX2)

/// The four bytes at p, the two words at p, in every lane.
HWY_INLINE __m256i broadcast_four(const std::int8_t* p) {
  return _mm256_set1_epi32(load_bits<std::int32_t>(reinterpret_cast<const Byte*>(p)));
}
HWY_INLINE __m256i broadcast_pair(const std::int16_t* p) {
  return _mm256_set1_epi32(load_bits<std::int32_t>(reinterpret_cast<const Byte*>(p)));
}

/// Transposes 8 x 8 lanes of 32 bits.
HWY_INLINE void transpose_lanes(__m256i (&v)[8]) {
  __m256i t[8];
  for (int i = 0; i < 8; i += 2) {
    t[i] = _mm256_unpacklo_epi32(v[i], v[i + 1]);
    t[i + 1] = _mm256_unpackhi_epi32(v[i], v[i + 1]);
  }
  for (int i = 0; i < 8; i += 4) {
    v[i] = _mm256_unpacklo_epi64(t[i], t[i + 2]);
    v[i + 1] = _mm256_unpackhi_epi64(t[i], t[i + 2]);
    v[i + 2] = _mm256_unpacklo_epi64(t[i + 1], t[i + 3]);
    v[i + 3] = _mm256_unpackhi_epi64(t[i + 1], t[i + 3]);
  }
  for (int i = 0; i < 4; ++i) {
    t[i] = _mm256_permute2x128_si256(v[i], v[i + 4], 0x20);
    t[i + 4] = _mm256_permute2x128_si256(v[i], v[i + 4], 0x31);
  }
  for (int i = 0; i < 8; ++i) v[i] = t[i];
}

#endif

}  // namespace tqkv::cpu::TQKV_ISA
