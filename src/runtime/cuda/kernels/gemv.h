// Products of 4-bit weights in MLX's layout with one vector, behind a plain function.
#pragma once
#include <cstdint>

#include "runtime/cuda/kernels/activation_planes.h"

struct CUstream_st;

namespace tqkv::cuda {

/// W [rows, in] on the card, as MLX stores it: w = scale code + bias, 8 codes a word, the first channel lowest; scale
/// and bias in bf16 for each 64 channels.
struct QuantizedRows {
  const std::uint32_t* codes = nullptr;   ///< [rows][in / 8]
  const std::uint16_t* scales = nullptr;  ///< [rows][in / 64]
  const std::uint16_t* biases = nullptr;  ///< [rows][in / 64]
  int rows = 0;
  int in = 0;
};
/// Bytes that a product reads of them.
TQKV_HD std::uint64_t bytes_of(const QuantizedRows& w) {
  return static_cast<std::uint64_t>(w.rows) *
         (static_cast<std::uint64_t>(w.in) / 2 + static_cast<std::uint64_t>(w.in) / weight_group * 4);
}

/// y [rows] = W x, x [in] in f32; with `norm` [in], x is normalised first: x / rms(x) * norm. Activations are
/// multiplied in two planes of bytes. `in` 1,024, 2,048 or 4,096; rows a multiple of 4. False where there is no such
/// kernel.
bool multiply(const QuantizedRows& w, const float* x, const float* norm, float eps, float* y, int blocks,
              CUstream_st* stream);

}  // namespace tqkv::cuda
