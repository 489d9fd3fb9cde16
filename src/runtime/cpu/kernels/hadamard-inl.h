// Signed Walsh-Hadamard transform of rows of `dim` floats, dim a power of two from 16 to 1024:
//   x[i] *= signs[i];  for half in 1, 2, 4, … dim/2:  for pairs (i, i + half):  x[i], x[i + half] = x[i] + x[i + half],
//   x[i] - x[i + half] x[i] /= sqrt(dim)
// log2(dim) additions a channel; up to 16 vectors (256 channels with the widest) stay in registers from load to store.
#pragma once
#include <cmath>
#include <cstddef>

#include "runtime/cpu/kernels/isa.h"
#include "runtime/cpu/kernels/simd-inl.h"

namespace tqkv::cpu::TQKV_ISA::vec {

/// +1 where bit `half` of the lane is clear, -1 where it is set.
template <int half>
HWY_INLINE F lane_signs() {
  alignas(64) static constexpr float bit0[16] = {1, -1, 1, -1, 1, -1, 1, -1, 1, -1, 1, -1, 1, -1, 1, -1};
  alignas(64) static constexpr float bit1[16] = {1, 1, -1, -1, 1, 1, -1, -1, 1, 1, -1, -1, 1, 1, -1, -1};
  alignas(64) static constexpr float bit2[16] = {1, 1, 1, 1, -1, -1, -1, -1, 1, 1, 1, 1, -1, -1, -1, -1};
  alignas(64) static constexpr float bit3[16] = {1, 1, 1, 1, 1, 1, 1, 1, -1, -1, -1, -1, -1, -1, -1, -1};
  return hn::Load(tag, half == 1 ? bit0 : half == 2 ? bit1 : half == 4 ? bit2 : bit3);
}

/// The stages within one vector: the partner of a lane comes by a shuffle, its own value is added or taken away.
HWY_INLINE F butterflies_in_lanes(F v) {
  v = hn::MulAdd(v, lane_signs<1>(), hn::Shuffle2301(v));
  v = hn::MulAdd(v, lane_signs<2>(), hn::Shuffle1032(v));
#if HWY_MAX_BYTES >= 32
  v = hn::MulAdd(v, lane_signs<4>(), hn::SwapAdjacentBlocks(v));
#endif
#if HWY_MAX_BYTES >= 64
  v = hn::MulAdd(v, lane_signs<8>(), hn::ConcatLowerUpper(tag, v, v));
#endif
  return v;
}

template <int R, int half = 1>
HWY_INLINE void butterflies(F (&v)[R]) {
  if constexpr (half < R) {
    for (int i = 0; i < R / 2; ++i) {
      const int at = i / half * 2 * half + i % half;
      const F a = v[at], b = v[at + half];
      v[at] = hn::Add(a, b);
      v[at + half] = hn::Sub(a, b);
    }
    butterflies<R, 2 * half>(v);
  }
}

/// All stages between R vectors that lie `step` vectors apart, and before them, when step is 1, the stages within each.
/// `before` and `after` are signs or null; the last pass multiplies by `scale`.
template <int R>
inline void hadamard_pass(float* x, int vectors, int step, const float* before, const float* after, float scale) {
  for (int base = 0; base < vectors; base += R * step)
    for (int offset = 0; offset < step; ++offset) {
      const int start = (base + offset) * lanes, distance = step * lanes;
      F v[R];
      for (int i = 0; i < R; ++i) v[i] = load(x + start + i * distance);
      if (step == 1) {
        if (before)
          for (int i = 0; i < R; ++i) v[i] = hn::Mul(v[i], load(before + start + i * distance));
        for (int i = 0; i < R; ++i) v[i] = butterflies_in_lanes(v[i]);
      }
      butterflies<R>(v);
      if (R * step == vectors) {
        for (int i = 0; i < R; ++i) v[i] = hn::Mul(v[i], set(scale));
        if (after)
          for (int i = 0; i < R; ++i) v[i] = hn::Mul(v[i], load(after + start + i * distance));
      }
      for (int i = 0; i < R; ++i) store(v[i], x + start + i * distance);
    }
}

inline void hadamard(float* x, int dim, const float* before, const float* after) {
  constexpr int most = lanes == 16 ? 16 : 8;  // as many as registers hold
  const int vectors = dim / lanes;
  const float scale = 1.0f / sqrtf(static_cast<float>(dim));
  for (int step = 1; step < vectors || step == 1;) {
    const int rest = vectors / step;
    const int pass = rest < most ? rest : most;
    switch (pass) {
      case 16:
        hadamard_pass<16>(x, vectors, step, before, after, scale);
        break;
      case 8:
        hadamard_pass<8>(x, vectors, step, before, after, scale);
        break;
      case 4:
        hadamard_pass<4>(x, vectors, step, before, after, scale);
        break;
      case 2:
        hadamard_pass<2>(x, vectors, step, before, after, scale);
        break;
      default:
        hadamard_pass<1>(x, vectors, step, before, after, scale);
        return;
    }
    step *= pass;
  }
}

inline void rotate(float* x, std::ptrdiff_t stride, int n, const float* signs, int dim) {
  for (int i = 0; i < n; ++i, x += stride) hadamard(x, dim, signs, nullptr);
}

inline void unrotate(float* x, std::ptrdiff_t stride, int n, const float* signs, int dim) {
  for (int i = 0; i < n; ++i, x += stride) hadamard(x, dim, nullptr, signs);
}

}  // namespace tqkv::cpu::TQKV_ISA::vec
