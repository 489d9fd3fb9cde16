// Kernels of the gated delta net. State of a head: [value_dim, key_dim] in f32.
#pragma once
#include <cstddef>

#include "runtime/cpu/kernels/gemm-inl.h"
#include "runtime/cpu/kernels/isa.h"
#include "runtime/cpu/kernels/simd-inl.h"

namespace tqkv::cpu::TQKV_ISA::vec {

//   out[t, c] = silu(sum_j w[j, c] u[t + j, c])
// Bound by the sigmoid (some thirty operations a vector), not by the 8 bytes a channel of u and out.
template <int taps>
HWY_INLINE void convolve_row(const float* u, std::ptrdiff_t stride, const float* w, int kernel, int first_channel,
                             int last_channel, float* out) {
  for_runs(static_cast<std::size_t>(last_channel - first_channel), [=](std::size_t i, int n) {
    const float* from = u + first_channel + i;
    const float* tap = w + first_channel + i;
    F sum = zero();
    for (int j = 0; j < (taps ? taps : kernel); ++j)
      sum = hn::MulAdd(load_run(tap + j * stride, n), load_run(from + j * stride, n), sum);
    store_run(hn::Mul(sum, sigmoid(sum)), out + first_channel + i, n);
  });
}

inline void convolve(const float* u, std::ptrdiff_t stride, const float* w, int kernel, int tokens, int first_channel,
                     int last_channel, float* out, std::ptrdiff_t out_stride) {
  for (int t = 0; t < tokens; ++t, u += stride, out += out_stride) {
    if (kernel == 4)
      convolve_row<4>(u, stride, w, kernel, first_channel, last_channel, out);
    else
      convolve_row<0>(u, stride, w, kernel, first_channel, last_channel, out);
  }
}

//   for each row s of the state:  r = g <s, k>;  d = beta (v - r);  out = g <s, q> + d <k, q>;  s = g s + d k
// (the two reads of the row share one pass). Bound by the 8 bytes of each of key_dim * value_dim numbers, read and
// written once.
template <int R>
HWY_INLINE void step_rows(float* state, const float* q, const float* k, const float* v, float g, float beta, float kq,
                          int key_dim, float* out) {
  F read[2][4];  // by k, by q
  for (int r = 0; r < 4; ++r) read[0][r] = read[1][r] = zero();
  int c = 0;
  for (; c + lanes <= key_dim; c += lanes) {
    const F key = load(k + c), query = load(q + c);
    for (int r = 0; r < R; ++r) {
      const F s = load(state + r * key_dim + c);
      read[0][r] = hn::MulAdd(s, key, read[0][r]);
      read[1][r] = hn::MulAdd(s, query, read[1][r]);
    }
  }
  const int tail = key_dim - c;
  if (tail > 0) {
    const F key = load_tail(k + c, tail), query = load_tail(q + c, tail);
    for (int r = 0; r < R; ++r) {
      const F s = load_tail(state + r * key_dim + c, tail);
      read[0][r] = hn::MulAdd(s, key, read[0][r]);
      read[1][r] = hn::MulAdd(s, query, read[1][r]);
    }
  }
  alignas(64) float sums[8];
  store_dots<2>(read, sums, 4);
  F d[R];
  for (int r = 0; r < R; ++r) {
    const float change = beta * (v[r] - g * sums[r]);
    out[r] = g * sums[4 + r] + change * kq;
    d[r] = set(change);
  }
  const F decay = set(g);
  for (c = 0; c + lanes <= key_dim; c += lanes) {
    const F key = load(k + c);
    for (int r = 0; r < R; ++r)
      store(hn::MulAdd(d[r], key, hn::Mul(decay, load(state + r * key_dim + c))), state + r * key_dim + c);
  }
  if (tail > 0) {
    const F key = load_tail(k + c, tail);
    for (int r = 0; r < R; ++r)
      store_tail(hn::MulAdd(d[r], key, hn::Mul(decay, load_tail(state + r * key_dim + c, tail))),
                 state + r * key_dim + c, tail);
  }
}

inline void delta_step(float* state, const float* q, const float* k, const float* v, float g, float beta, int key_dim,
                       int value_dim, float* out) {
  const float kq = dot(k, q, key_dim);
  int row = 0;
  for (; row + 4 <= value_dim; row += 4)
    step_rows<4>(state + row * key_dim, q, k, v + row, g, beta, kq, key_dim, out + row);
  for (; row < value_dim; ++row) step_rows<1>(state + row * key_dim, q, k, v + row, g, beta, kq, key_dim, out + row);
}

// ---- chunks

constexpr int chunk_most = 64;
HWY_INLINE int padded(int n) {
  return (n + 15) / 16 * 16;
}

struct DeltaScratch {
  float* state;   // [key_dim, padded value_dim]: the entering state, transposed (S0)
  float* keys;    // [key_dim, 64]: K transposed
  float* decay;   // [64, 64]: exp(L_t - L_s), s <= t, else 0
  float* m;       // [64, 64]: M
  float* p;       // [64, 64]: P
  float* values;  // [64, padded value_dim]: the right side, then Vn
  float* faded;   // [64, padded key_dim]: exp(L_C - L_t) k_t
  float* reach;   // [64]: exp(L_t)
  std::size_t floats;
};

HWY_INLINE DeltaScratch delta_scratch(float* at, int key_dim, int value_dim) {
  DeltaScratch s;
  std::size_t used = 0;
  const auto take = [&](int rows, int cols) {
    float* here = at ? at + used : nullptr;
    used += static_cast<std::size_t>(rows) * static_cast<std::size_t>(cols);
    return here;
  };
  s.state = take(key_dim, padded(value_dim));
  s.keys = take(key_dim, chunk_most);
  s.decay = take(chunk_most, chunk_most);
  s.m = take(chunk_most, chunk_most);
  s.p = take(chunk_most, chunk_most);
  s.values = take(chunk_most, padded(value_dim));
  s.faded = take(chunk_most, padded(key_dim));
  s.reach = take(1, chunk_most);
  s.floats = used;
  return s;
}

inline std::size_t delta_chunk_scratch(int key_dim, int value_dim) {
  return delta_scratch(nullptr, key_dim, value_dim).floats;
}

/// decay[t, s] = exp(L_t - L_s) for s <= t, else 0; reach[t] = exp(L_t); L the running sums of log_g, kept in two
/// floats each.
HWY_INLINE void decays(const float* log_g, int tokens, float* decay, float* reach) {
  alignas(64) float high[chunk_most] = {}, low[chunk_most] = {};
  double sum = 0;
  for (int t = 0; t < tokens; ++t) {
    sum += static_cast<double>(log_g[t] > -200.0f ? log_g[t]
                                                  : -200.0f);  // exp(-200) is 0 in f32: no infinities to subtract
    high[t] = static_cast<float>(sum);
    low[t] = static_cast<float>(sum - static_cast<double>(high[t]));
  }
  for (int t = 0; t < tokens; t += lanes) store(exp(load(high + t)), reach + t);
  for (int t = 0; t < tokens; ++t)
    for (int s = 0; s < chunk_most; s += lanes) {
      F e = zero();
      if (s <= t) {
        const F difference = hn::Add(hn::Sub(set(high[t]), load(high + s)), hn::Sub(set(low[t]), load(low + s)));
        e = t - s + 1 < lanes ? exp(hn::IfThenElse(first(t - s + 1), difference, set(-1000.0f))) : exp(difference);
      }
      store(e, decay + t * chunk_most + s);
    }
}

// With S0 the entering state [key_dim, value_dim], K, Q, V the rows of the chunk, L_t = sum_{s<=t} log_g_s and C the
// last row:
//   M_ts = beta_t exp(L_t - L_s) <k_t, k_s> for s < t;  P_ts = exp(L_t - L_s) <q_t, k_s> for s <= t
//   (I + M) Vn = diag(beta) (V - diag(e^L) K S0);  O = diag(e^L) Q S0 + P Vn;  S = e^{L_C} S0 + (diag(e^{L_C - L}) K)^T
//   Vn
// The two systems of the paper's form, U and W, are one here because S0 is at hand: Vn = U - W S0. 64 tokens of 128 x
// 128 take 4 million multiply-adds, four times those of the state's update alone.
inline void delta_chunk(float* state, const float* q, const float* k, std::ptrdiff_t qk_stride, const float* v,
                        std::ptrdiff_t v_stride, const float* log_g, const float* beta, int tokens, int key_dim,
                        int value_dim, float* out, std::ptrdiff_t out_stride, float* scratch) {
  if (tokens <= 0) return;
  const DeltaScratch s = delta_scratch(scratch, key_dim, value_dim);
  const std::ptrdiff_t value_stride = padded(value_dim), key_stride = padded(key_dim);
  decays(log_g, tokens, s.decay, s.reach);
  transpose(state, key_dim, value_dim, key_dim, s.state, value_stride);
  transpose(k, qk_stride, tokens, key_dim, s.keys, chunk_most);

  const FloatProduct key_key{k, qk_stride, 1, s.keys, chunk_most, s.m, chunk_most};
  const FloatProduct query_key{q, qk_stride, 1, s.keys, chunk_most, s.p, chunk_most};
  for (int t = 0; t < tokens; t += 4) {
    const int rows = rows_of_block(t, tokens),
              cols = (t + rows + lanes - 1) / lanes * lanes;  // the lower triangle is enough
    product_rows<Start::zero>(key_key, t, rows, key_dim, 0, cols);
    product_rows<Start::zero>(query_key, t, rows, key_dim, 0, cols);
    for (int r = t; r < t + rows; ++r)
      for (int c = 0; c < cols; c += lanes) {
        float* m = s.m + r * chunk_most + c;
        float* p = s.p + r * chunk_most + c;
        const F decay = load(s.decay + r * chunk_most + c);
        store(hn::Mul(hn::Mul(set(beta[r]), decay), load(m)), m);
        store(hn::Mul(decay, load(p)), p);
      }
  }

  product<Start::zero>({k, qk_stride, 1, s.state, value_stride, s.values, value_stride}, tokens, key_dim,
                       static_cast<int>(value_stride));
  for (int t = 0; t < tokens; ++t) {
    const F reach = set(s.reach[t]), b = set(beta[t]);
    float* right = s.values + t * value_stride;
    const float* value = v + t * v_stride;
    for_runs(static_cast<std::size_t>(value_dim), [=](std::size_t i, int n) {
      store(hn::Mul(b, hn::NegMulAdd(reach, load(right + i), load_run(value + i, n))), right + i);
    });
  }

  // Forward substitution: four rows at a time take away what the solved rows above give, then each other's.
  const FloatProduct solve{s.m, chunk_most, 1, s.values, value_stride, s.values, value_stride};
  for (int t = 0; t < tokens; t += 4) {
    const int rows = rows_of_block(t, tokens);
    product_rows<Start::keep, true>(solve, t, rows, t, 0, static_cast<int>(value_stride));
    for (int r = t + 1; r < t + rows; ++r) {
      const FloatProduct within{s.m + r * chunk_most + t,    0, 1, s.values + t * value_stride, value_stride,
                                s.values + r * value_stride, 0};
      product_rows<Start::keep, true>(within, 0, 1, r - t, 0, static_cast<int>(value_stride));
    }
  }

  product<Start::zero>({q, qk_stride, 1, s.state, value_stride, out, out_stride}, tokens, key_dim, value_dim);
  const FloatProduct read{s.p, chunk_most, 1, s.values, value_stride, out, out_stride, s.reach};
  for (int t = 0; t < tokens; t += 4)
    product_rows<Start::scaled>(read, t, rows_of_block(t, tokens), t + rows_of_block(t, tokens), 0, value_dim);

  const float* to_end = s.decay + (tokens - 1) * chunk_most;
  for (int t = 0; t < tokens; ++t) {
    const F fade = set(to_end[t]);
    const float* key = k + t * qk_stride;
    float* faded = s.faded + t * key_stride;
    for_runs(static_cast<std::size_t>(key_dim),
             [=](std::size_t i, int n) { store(hn::Mul(fade, load_run(key + i, n)), faded + i); });
  }
  const float end = s.reach[tokens - 1];
  const float ends[4] = {end, end, end, end};
  for (int row = 0; row < value_dim; row += 4) {
    const FloatProduct update{s.values + row, 1,          value_stride,
                              s.faded,        key_stride, state + static_cast<std::ptrdiff_t>(row) * key_dim,
                              key_dim,        ends};
    product_rows<Start::scaled>(update, 0, rows_of_block(row, value_dim), tokens, 0, key_dim);
  }
}

}  // namespace tqkv::cpu::TQKV_ISA::vec
