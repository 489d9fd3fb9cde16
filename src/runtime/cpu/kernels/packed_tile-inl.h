// What the integer attention of every instruction set shares (packed-inl.h has the arithmetic): scales of a tile of
// keys, weights of a tile of values, centroids as integers.
#pragma once
#include <cmath>
#include <cstdint>

#include "runtime/cpu/codec_calls.h"
#include "runtime/cpu/kernels/bytes-inl.h"
#include "runtime/cpu/kernels/isa.h"

namespace tqkv::cpu::TQKV_ISA::vec::packed {

constexpr float least_weight = 1e-30f;  // smaller ones are 0: their reciprocal must be a number

/// Keys of a tile of n that the best placed of `rows` queries sees.
HWY_INLINE int end_of_rows(const int* visible, int rows, int n) {
  int end = 0;
  for (int r = 0; r < rows; ++r) end = visible[r] > end ? visible[r] : end;
  return smaller(end, n);
}

struct KeyScales {  // [groups, 64]
  float* scale;
  float* bias;
};

struct ValueTile {
  std::int16_t* tile = nullptr;    // of one chunk of channels, in the order of the instruction set
  std::int16_t* words = nullptr;   // [queries, 64]
  float* factor = nullptr;         // [queries]
  float* bias = nullptr;           // [queries]: sum_j weight bias
  std::int32_t* offset = nullptr;  // [queries]: what the sums of products begin with
  int lanes = 0;                   // channels of a vector that there are
};

/// Centroids in 8 bits, centroid = byte * key_unit: the factors make the error of rounding least, weighted by how often
/// a centroid comes: 0.03%, 0.11%, 0.32% and 0.58% for 2 to 5 bits.
constexpr float key_factor[4] = {46.01464f, 40.66096f, 38.00934f, 36.08938f};
constexpr float key_unit[4] = {0.9927574f / 46.01464f, 0.9935417f / 40.66096f, 0.9946514f / 38.00934f,
                               0.9980941f / 36.08938f};

HWY_INLINE void key_centroids(int bits, std::int8_t* entries) {
  const float* centroid = centroid_table(bits);
  for (int i = 0; i < 32; ++i)
    entries[i] = static_cast<std::int8_t>(lrintf(centroid[i & ((1 << bits) - 1)] * key_factor[bits - 2]));
}

// 64 products of words of 13 and 12 bits stay below 2^31.
constexpr float largest_centroid = 4095, largest_centroid_weight = 8191, largest_code_weight = 32767;

/// Centroids in 12 bits and a sign; returns what one of them stands for.
HWY_INLINE float value_centroids(int bits, std::int16_t* entries) {
  const float* centroid = centroid_table(bits);
  const int count = 1 << bits;
  const float factor = largest_centroid / centroid[count - 1];
  for (int i = 0; i < 32; ++i) entries[i] = static_cast<std::int16_t>(lrintf(centroid[i & (count - 1)] * factor));
  return 1.0f / factor;
}

}  // namespace tqkv::cpu::TQKV_ISA::vec::packed
