// Kernels on plain rows of floats. Each is bound by the bytes it reads and writes (once each, 4 a float); exp costs
// about twenty operations a vector and is what bounds silu_multiply, sigmoid_multiply and softmax in the caches.
#pragma once
#include <cmath>
#include <cstddef>

#include "runtime/cpu/kernels/isa.h"
#include "runtime/cpu/kernels/simd-inl.h"

namespace tqkv::cpu::TQKV_ISA::vec {

//   for r in rows:  out[r, i] = w[i] * x[r, i] / sqrt(sum_i x[r, i]^2 / dim + eps)
inline void rms_norm(const float* x, std::ptrdiff_t x_stride, const float* w, int rows, int dim, float eps, float* out,
                     std::ptrdiff_t out_stride) {
  for (int r = 0; r < rows; ++r, x += x_stride, out += out_stride) {
    const F scale = set(1.0f / sqrtf(dot(x, x, dim) / static_cast<float>(dim) + eps));
    for_runs(static_cast<std::size_t>(dim), [=](std::size_t i, int n) {
      store_run(hn::Mul(load_run(w + i, n), hn::Mul(load_run(x + i, n), scale)), out + i, n);
    });
  }
}

//   for r in rows:  x[r, i] *= factor / sqrt(sum_i x[r, i]^2 + eps)
inline void l2_norm(float* x, std::ptrdiff_t stride, int rows, int dim, float eps, float factor) {
  for (int r = 0; r < rows; ++r, x += stride) {
    const F scale = set(factor / sqrtf(dot(x, x, dim) + eps));
    for_runs(static_cast<std::size_t>(dim),
             [=](std::size_t i, int n) { store_run(hn::Mul(load_run(x + i, n), scale), x + i, n); });
  }
}

//   x[i] += y[i]
inline void add(float* x, const float* y, std::size_t n) {
  for_runs(n, [=](std::size_t i, int m) { store_run(hn::Add(load_run(x + i, m), load_run(y + i, m)), x + i, m); });
}

//   x[i] += factor * y[i]
inline void add_scaled(float* x, const float* y, float factor, std::size_t n) {
  const F scale = set(factor);
  for_runs(
      n, [=](std::size_t i, int m) { store_run(hn::MulAdd(scale, load_run(y + i, m), load_run(x + i, m)), x + i, m); });
}

//   out[i] = gate[i] / (1 + exp(-gate[i])) * up[i]
inline void silu_multiply(const float* gate, const float* up, float* out, std::size_t n) {
  for_runs(n, [=](std::size_t i, int m) {
    const F g = load_run(gate + i, m);
    store_run(hn::Mul(hn::Mul(g, sigmoid(g)), load_run(up + i, m)), out + i, m);
  });
}

//   x[i] /= 1 + exp(-gate[i])
inline void sigmoid_multiply(float* x, const float* gate, std::size_t n) {
  for_runs(n, [=](std::size_t i, int m) {
    store_run(hn::Mul(load_run(x + i, m), sigmoid(load_run(gate + i, m))), x + i, m);
  });
}

//   x[i] = exp(x[i] - max x) / sum_j exp(x[j] - max x)
// Minus infinity gives 0; a row of nothing else gives zeros.
inline void softmax(float* x, std::size_t n) {
  if (n == 0) return;
  constexpr float lowest = -3.4028235e38f;
  float largest = lowest;
  F maxima = set(lowest);
  std::size_t i = 0;
  for (; i + static_cast<std::size_t>(lanes) <= n; i += static_cast<std::size_t>(lanes))
    maxima = hn::Max(maxima, load(x + i));
  for (; i < n; ++i) largest = x[i] > largest ? x[i] : largest;
  const float vector_largest = hn::GetLane(hn::MaxOfLanes(tag, maxima));
  const F maximum = set(vector_largest > largest ? vector_largest : largest);
  F sums = zero();
  for_runs(n, [=, &sums](std::size_t at, int m) {
    F e = exp(hn::Sub(load_run(x + at, m), maximum));
    if (m < lanes) e = hn::IfThenElseZero(first(m), e);
    sums = hn::Add(sums, e);
    store_run(e, x + at, m);
  });
  const float sum = sum_of_lanes(sums);
  const F scale = set(sum > 0 ? 1.0f / sum : 0.0f);
  for_runs(n, [=](std::size_t at, int m) { store_run(hn::Mul(load_run(x + at, m), scale), x + at, m); });
}

//   for i < rotary/2:  x[i], x[i + rotary/2] = x[i] cos[i] - x[i + rotary/2] sin[i], x[i + rotary/2] cos[i] + x[i]
//   sin[i]
inline void rope(float* x, std::ptrdiff_t stride, int heads, int rotary, const float* cosine, const float* sine) {
  const int half = rotary / 2;
  for (int h = 0; h < heads; ++h, x += stride)
    for_runs(static_cast<std::size_t>(half), [=](std::size_t i, int n) {
      const F a = load_run(x + i, n), b = load_run(x + half + i, n), c = load_run(cosine + i, n),
              s = load_run(sine + i, n);
      store_run(hn::NegMulAdd(b, s, hn::Mul(a, c)), x + i, n);
      store_run(hn::MulAdd(a, s, hn::Mul(b, c)), x + half + i, n);
    });
}

}  // namespace tqkv::cpu::TQKV_ISA::vec
