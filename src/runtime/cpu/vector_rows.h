// The element-wise kernels over Rows: shapes come with the memory, and debug builds assert that they fit.
#pragma once
#include <cassert>
#include <iterator>
#include <span>

#include "model/rows.h"
#include "runtime/cpu/kernels.h"

namespace tqkv::cpu {

/// out[r] = w * x[r] / sqrt(mean(x[r]^2) + eps); out may be x.
inline void rms_norm(const VectorKernels& kernels, Rows<const float> x, std::span<const float> weight, float eps,
                     Rows<float> out) {
  assert(x.rows == out.rows && x.columns == out.columns && std::ssize(weight) == x.columns);
  kernels.rms_norm(x.data, x.stride, weight.data(), x.rows, x.columns, eps, out.data, out.stride);
}

/// x[r] <- factor * x[r] / sqrt(sum(x[r]^2) + eps)
inline void l2_norm(const VectorKernels& kernels, Rows<float> x, float eps, float factor) {
  kernels.l2_norm(x.data, x.stride, x.rows, x.columns, eps, factor);
}

/// x += y
inline void add(const VectorKernels& kernels, Rows<float> x, Rows<const float> y) {
  assert(x.rows == y.rows && x.columns == y.columns);
  kernels.add(x.data, y.data, x.size());
}

/// out = silu(gate) * up; out may be either.
inline void silu_multiply(const VectorKernels& kernels, Rows<const float> gate, Rows<const float> up, Rows<float> out) {
  assert(gate.size() == out.size() && up.size() == out.size());
  kernels.silu_multiply(gate.data, up.data, out.data, out.size());
}

/// RoPE on the first `rotary` channels of each row; cosine, sine [rotary / 2].
inline void rope(const VectorKernels& kernels, Rows<float> heads, int rotary, const float* cosine, const float* sine) {
  assert(rotary <= heads.columns);
  kernels.rope(heads.data, heads.stride, heads.rows, rotary, cosine, sine);
}

}  // namespace tqkv::cpu
