// Rows of quantized weights and the rows of activations that meet them: what matrix-inl.h and the integer dot products
// of each instruction set, dot_<isa>-inl.h, share.
#pragma once
#include <cstddef>
#include <cstdint>

#include "model/weights.h"
#include "runtime/cpu/kernels.h"
#include "runtime/cpu/kernels/bytes-inl.h"
#include "runtime/cpu/kernels/isa.h"

namespace tqkv::cpu::TQKV_ISA {

constexpr int kGroup = 64;
constexpr int kBlockGroups = 8;                // groups of a row that a tile of multiply_rows holds
constexpr int kBlock = kBlockGroups * kGroup;  // channels of it

/// A range of quantized rows: pointers to its first row and the distances between rows, in bytes.
struct QuantizedRows {
  const std::uint8_t* weight;
  const std::uint8_t* scales;
  const std::uint8_t* biases;
  std::ptrdiff_t weight_stride, scale_stride;
  int groups;
};

HWY_INLINE QuantizedRows rows_from(const Matrix& w, int row) {
  const int groups = w.in / kGroup;
  const std::ptrdiff_t weight_stride = w.storage == Matrix::Storage::q4 ? w.in / 2 : w.in, scale_stride = 2 * groups;
  return {bytes(w.weight) + row * weight_stride,
          bytes(w.scales) + row * scale_stride,
          bytes(w.biases) + row * scale_stride,
          weight_stride,
          scale_stride,
          groups};
}

/// Where Row16 holds the even and the odd channels of group g.
struct Row16Place {
  int even, odd;
};

HWY_INLINE Row16Place row16_place(int groups, int g) {
  const int even = g / 2 * (2 * kGroup) + g % 2 * (kGroup / 2);
  const bool alone = g % 2 == 0 && g + 1 == groups;
  return {even, even + (alone ? kGroup / 2 : kGroup)};
}

/// Asks for the weights behind those of multiply16, in the order of their addresses: line `line` after the first of
/// `rows`. Rows side by side are several streams inside one page, which the hardware does not follow. One distance is
/// not enough: the first cache level has too few misses under way at a time to wait for memory, so the lines are asked
/// for the second level first (12 KB ahead) and for the first one later (4 KB). With two threads this reads 15% faster
/// than 4 KB alone.
HWY_INLINE void fetch_ahead(const QuantizedRows& rows, int line) {
  const std::uint8_t* from = rows.weight + static_cast<std::ptrdiff_t>(line) * 64;
  __builtin_prefetch(from + 4096, 0, 3);
  __builtin_prefetch(from + 12288, 0, 2);
}

/// Where the activations of a block of tokens lie, from the first group of the block on. Scales and sums are those of
/// the planes that are taken.
template <int N>
struct TokenRows {
  const std::int8_t* high[N];
  std::ptrdiff_t low;  // from a number of the high plane to that of the low one
  const float* scale[N];
  const float* sum[N];
};

}  // namespace tqkv::cpu::TQKV_ISA
