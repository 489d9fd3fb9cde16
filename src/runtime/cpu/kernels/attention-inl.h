// Attention over one tile of decoded keys and values, for a block of queries (flash attention):
//   for query i:  s[j] = <q_i, k_j>, j < visible[i];  m = max(maximum[i], s);  f = exp(maximum[i] - m)
//   sum[i] = f sum[i] + sum_j exp(s[j] - m);  output[i] = f output[i] + sum_j exp(s[j] - m) v_j;  maximum[i] = m
// Bound by operations: 2 dim multiply-adds a query and key. For 8 queries they take four times as long as decoding.
#pragma once
#include <cmath>
#include <cstddef>

#include "runtime/cpu/kernels.h"
#include "runtime/cpu/kernels/gemm-inl.h"
#include "runtime/cpu/kernels/isa.h"
#include "runtime/cpu/kernels/simd-inl.h"

namespace tqkv::cpu::TQKV_ISA::vec {

constexpr int tile_keys = 64;  // room for scores of one query

/// Turns the scores of one query into weights, zeros behind the `seen` first up to n, and moves its maximum.
HWY_INLINE void weigh(AttentionState& state, int i, float* scores, int seen, int n) {
  F largest = set(-HUGE_VALF);
  for (int j = 0; j < seen; j += lanes) {
    const F s = load(scores + j);
    largest = hn::Max(largest, j + lanes <= seen ? s : hn::IfThenElse(first(seen - j), s, set(-HUGE_VALF)));
  }
  const float before = state.maximum[i], tile = hn::GetLane(hn::MaxOfLanes(tag, largest));
  if (tile > before) {
    const float factor = exp1(before - tile);  // 0 for the first tile
    state.maximum[i] = tile;
    state.sum[i] *= factor;
    float* output = state.output + static_cast<std::ptrdiff_t>(i) * state.dim;
    for_runs(static_cast<std::size_t>(state.dim),
             [=](std::size_t c, int m) { store_run(hn::Mul(load_run(output + c, m), set(factor)), output + c, m); });
  }
  const F maximum = set(state.maximum[i]);
  F sums = zero();
  for (int j = 0; j < n; j += lanes) {
    F weight = zero();
    if (j < seen) {
      weight = exp(hn::Sub(load(scores + j), maximum));
      if (seen - j < lanes) weight = hn::IfThenElseZero(first(seen - j), weight);
      sums = hn::Add(sums, weight);
    }
    store(weight, scores + j);
  }
  state.sum[i] += sum_of_lanes(sums);
}

//   scores[i, j] = <q_i, k_j>, j < visible[i]
inline void scores(const AttentionState& state, const float* keys, int n, const int* visible, float* out) {
  const int dim = state.dim, queries = state.queries;
  constexpr int key_block = 16;  // 16 KiB of 256 channels: they stay in the first cache while all queries pass
  for (int key = 0; key < n; key += key_block)
    for (int i = 0; i < queries; i += 4) {
      const int rows = rows_of_block(i, queries);
      int end = 0;
      for (int r = 0; r < rows; ++r) end = visible[i + r] > end ? visible[i + r] : end;
      end = end < n ? end : n;
      end = end < key + key_block ? end : key + key_block;
      for (int j = key; j < end; j += 4)
        dots(state.query + static_cast<std::ptrdiff_t>(i) * dim, dim, rows, keys + static_cast<std::ptrdiff_t>(j) * dim,
             dim, n - j, dim, out + static_cast<std::ptrdiff_t>(i) * tile_keys + j, tile_keys);
    }
}

inline void weigh(AttentionState& state, int n, const int* visible, float* scores) {
  for (int i = 0; i < state.queries; ++i) {
    const int seen = visible[i] < n ? visible[i] : n;
    float* row = scores + static_cast<std::ptrdiff_t>(i) * tile_keys;
    if (seen > 0)
      weigh(state, i, row, seen, n);
    else
      for (int j = 0; j < n; j += lanes) store(zero(), row + j);
  }
}

//   output[i, c] += sum_j weights[i, j] values[j, c]
inline void add_values(AttentionState& state, const float* values, int n, const int* visible, const float* weights) {
  const int dim = state.dim, queries = state.queries;
  const FloatProduct weighted{weights, tile_keys, 1, values, dim, state.output, dim};
  constexpr int column_block = product_vectors * lanes;
  for (int col = 0; col < dim; col += column_block) {
    const int last = col + column_block < dim ? col + column_block : dim;
    for (int i = 0; i < queries; i += 4) {
      const int rows = rows_of_block(i, queries);
      int end = 0;
      for (int r = 0; r < rows; ++r) end = visible[i + r] > end ? visible[i + r] : end;
      if (end > 0) product_rows<Start::keep>(weighted, i, rows, end < n ? end : n, col, last);
    }
  }
}

inline void attend(AttentionState& state, const float* keys, const float* values, int n, const int* visible,
                   float* scratch) {
  scores(state, keys, n, visible, scratch);
  weigh(state, n, visible, scratch);
  add_values(state, values, n, visible, scratch);
}

}  // namespace tqkv::cpu::TQKV_ISA::vec
