// Matrices, activations and products for the tests of the matrix kernels: loops written out in double and 64-bit
// integer arithmetic. Sizes divide nothing, weights lie at odd addresses.
#pragma once
#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <memory>
#include <random>
#include <utility>
#include <vector>

#include "base/float16.h"
#include "runtime/cpu/kernels.h"

namespace tqkv::test::matrices {

using cpu::Additions;
using cpu::available_isas;
using cpu::kernels;
using cpu::MatrixKernels;
using cpu::Planes;
using cpu::Row16;
using cpu::Rows16;
using tqkv::Matrix;
using Storage = tqkv::Matrix::Storage;
using Random = std::mt19937;

inline std::size_t as_size(std::ptrdiff_t n) {
  return static_cast<std::size_t>(n);
}
inline int uniform(Random& random, int low, int high) {
  return std::uniform_int_distribution<int>(low, high)(random);
}

/// Floats that start at a multiple of 64 bytes.
class Floats {
 public:
  explicit Floats(std::ptrdiff_t size, float value = 0) : bytes_(as_size(size) * sizeof(float) + 64) {
    void* p = bytes_.data();
    std::size_t space = bytes_.size();
    data_ = static_cast<float*>(std::align(64, space - 64, p, space));
    std::fill_n(data_, size, value);
  }
  Floats(const Floats&) = delete;
  Floats& operator=(const Floats&) = delete;
  float* data() { return data_; }
  float& operator[](std::ptrdiff_t i) { return data_[i]; }

 private:
  std::vector<std::byte> bytes_;
  float* data_ = nullptr;
};

/// Bytes at an odd address, with nothing readable behind them as far as a sanitizer sees.
class OddBytes {
 public:
  void assign(const void* data, std::size_t size) {
    bytes_.assign(size + 1, std::byte{0});
    bytes_.shrink_to_fit();
    odd_ = reinterpret_cast<std::uintptr_t>(bytes_.data()) % 2 ? 0 : 1;
    if (size > 0) std::memcpy(bytes_.data() + odd_, data, size);
  }
  const std::byte* data() const { return bytes_.data() + odd_; }

 private:
  std::vector<std::byte> bytes_;
  std::size_t odd_ = 0;
};

/// A matrix, or `count` of them, with the numbers that its bytes stand for beside it.
struct Weights {
  Matrix matrix;
  std::vector<int> q;                     // [count, out, in] of q4 and q8
  std::vector<float> scale, bias, value;  // [count, out, in/64] twice; [count, out, in] of the rest
  OddBytes weight_bytes, scale_bytes, bias_bytes;

  void pack(Storage storage, int count, int out, int in) {
    matrix.storage = storage;
    matrix.count = count;
    matrix.out = out;
    matrix.in = in;
    std::vector<std::uint8_t> bytes;
    std::vector<std::uint16_t> halves;
    switch (storage) {
      case Storage::q4:
        for (std::size_t i = 0; i < q.size(); i += 2) bytes.push_back(static_cast<std::uint8_t>(q[i] | q[i + 1] << 4));
        weight_bytes.assign(bytes.data(), bytes.size());
        break;
      case Storage::q8:
        for (const int v : q) bytes.push_back(static_cast<std::uint8_t>(v));
        weight_bytes.assign(bytes.data(), bytes.size());
        break;
      case Storage::f32:
        weight_bytes.assign(value.data(), 4 * value.size());
        break;
      case Storage::bf16:
      case Storage::f16:
        for (float& v : value) {
          halves.push_back(storage == Storage::bf16 ? tqkv::f32_to_bf16(v) : tqkv::f32_to_f16(v));
          v = storage == Storage::bf16 ? tqkv::bf16_to_f32(halves.back()) : tqkv::f16_to_f32(halves.back());
        }
        weight_bytes.assign(halves.data(), 2 * halves.size());
        break;
    }
    for (auto [from, to] : {std::pair{&scale, &scale_bytes}, std::pair{&bias, &bias_bytes}}) {
      halves.clear();
      for (float& v : *from) {
        halves.push_back(tqkv::f32_to_bf16(v));
        v = tqkv::bf16_to_f32(halves.back());
      }
      to->assign(halves.data(), 2 * halves.size());
    }
    matrix.weight = weight_bytes.data();
    if (matrix.quantized()) {
      matrix.scales = scale_bytes.data();
      matrix.biases = bias_bytes.data();
    }
  }

  double at(std::ptrdiff_t row, int i) const {  // row counts through all experts
    const std::size_t element = as_size(row * matrix.in + i);
    if (!matrix.quantized()) return value[element];
    const std::size_t group = as_size(row * (matrix.in / 64) + i / 64);
    return static_cast<double>(scale[group]) * q[element] + bias[group];
  }
};

/// Random weights with scales of both signs.
inline void fill(Weights& w, Storage storage, int count, int out, int in, Random& random) {
  const std::size_t rows = as_size(count) * as_size(out);
  std::normal_distribution<float> normal;
  if (storage == Storage::q4 || storage == Storage::q8) {
    for (std::size_t i = 0; i < rows * as_size(in); ++i)
      w.q.push_back(uniform(random, 0, storage == Storage::q4 ? 15 : 255));
    for (std::size_t i = 0; i < rows * as_size(in / 64); ++i) {
      w.scale.push_back(0.01f * normal(random));
      w.bias.push_back(0.1f * normal(random));
    }
  } else {
    for (std::size_t i = 0; i < rows * as_size(in); ++i) w.value.push_back(normal(random));
  }
  w.pack(storage, count, out, in);
}

/// Every weight `q`, scale 1 and bias 0.
inline void fill_constant(Weights& w, Storage storage, int out, int in, int q) {
  w.q.assign(as_size(out) * as_size(in), q);
  w.scale.assign(as_size(out) * as_size(in / 64), 1);
  w.bias.assign(w.scale.size(), 0);
  w.pack(storage, 1, out, in);
}

/// The two signed bytes of q = 256 high + low.
inline std::int8_t low_byte(int q) {
  return static_cast<std::int8_t>((q + 128 + 65536) % 256 - 128);
}
inline std::int8_t high_byte(int q) {
  return static_cast<std::int8_t>((q - low_byte(q)) / 256);
}

/// Rows16 with memory of its own; planes, sums and the scales of the high plane are derived from q and scale here, not
/// by the kernel.
struct ActivationRows {
  Rows16 view;
  std::vector<int> q, top;  // top: the high plane as numbers
  std::vector<std::int8_t> high, low;
  std::vector<float> scale, sum, high_scale, high_sum;
  ActivationRows(int rows, int cols)
      : q(as_size(rows) * as_size(cols)),
        top(q.size()),
        high(q.size()),
        low(q.size()),
        scale(as_size(rows) * as_size(cols / 64), 1),
        sum(scale.size()),
        high_scale(scale.size()),
        high_sum(scale.size()) {
    view = {rows, cols, high.data(), low.data(), scale.data(), sum.data(), high_scale.data(), high_sum.data()};
  }
  void randomize(Random& random) {
    for (auto& v : q) v = uniform(random, -32639, 32639);
    std::normal_distribution<float> normal;
    for (auto& s : scale) s = std::abs(normal(random));
    finish();
  }
  void finish() {
    for (std::size_t i = 0; i < q.size(); ++i) {
      low[i] = low_byte(q[i]);
      high[i] = high_byte(q[i]);
      top[i] = high[i];
    }
    for (std::size_t g = 0; g < scale.size(); ++g) {
      int total = 0, high_total = 0;
      for (std::size_t i = 64 * g; i < 64 * g + 64; ++i) {
        total += q[i];
        high_total += high[i];
      }
      sum[g] = scale[g] * static_cast<float>(total);
      high_scale[g] = 256 * scale[g];
      high_sum[g] = high_scale[g] * static_cast<float>(high_total);
    }
  }
  // What a product with these planes sees of row `row`.
  const int* numbers(Planes planes, int row) const {
    return (planes == Planes::both ? q : top).data() + row * view.cols;
  }
  const float* scales(Planes planes, int row) const {
    return (planes == Planes::both ? scale : high_scale).data() + row * (view.cols / 64);
  }
  const float* sums(Planes planes, int row) const {
    return (planes == Planes::both ? sum : high_sum).data() + row * (view.cols / 64);
  }
};

inline constexpr Planes every_planes[] = {Planes::both, Planes::high};

/// Row16 with memory of its own; the planes are derived from q here, not by the kernel.
struct Activations16 {
  Row16 view;
  std::vector<std::int16_t> q;
  std::vector<std::int8_t> high, low;
  std::vector<float> scale, sum;
  explicit Activations16(int cols)
      : q(as_size(cols)), high(q.size()), low(q.size()), scale(as_size(cols / 64), 1), sum(scale.size()) {
    view = {cols, q.data(), high.data(), low.data(), scale.data(), sum.data()};
  }
  void finish() {
    for (std::size_t i = 0; i < q.size(); ++i) {
      const std::size_t first = i / 128 * 128, half = std::min<std::size_t>(128, q.size() - first) / 2;
      const std::size_t at = first + i % 2 * half + i % 128 / 2;
      low[at] = low_byte(q[i]);
      high[at] = high_byte(q[i]);
    }
    for (std::size_t g = 0; g < scale.size(); ++g) {
      int total = 0;
      for (std::size_t i = 0; i < 64; ++i) total += q[64 * g + i];
      sum[g] = scale[g] * static_cast<float>(total);
    }
  }
};

struct Expected {
  double value = 0, magnitude = 0;  // magnitude: sum of the absolute terms, what rounding is relative to
};

/// sum_g s * sx * (integer sum) + b * sum, for row `row` of w.
template <class Int>
Expected integer_product(const Weights& w, std::ptrdiff_t row, const Int* x, const float* x_scale, const float* x_sum) {
  Expected out;
  const int groups = w.matrix.in / 64;
  for (int g = 0; g < groups; ++g) {
    std::int64_t total = 0;
    for (int i = 64 * g; i < 64 * g + 64; ++i) total += std::int64_t{w.q[as_size(row * w.matrix.in + i)]} * x[i];
    const std::size_t at = as_size(row * groups + g);
    const double a = static_cast<double>(w.scale[at]) * x_scale[g] * static_cast<double>(total);
    const double b = static_cast<double>(w.bias[at]) * x_sum[g];
    out.value += a + b;
    out.magnitude += std::abs(a) + std::abs(b);
  }
  return out;
}

// A sum of n terms in f32, each with a few roundings of its own.
inline bool near(float found, const Expected& expected, int terms) {
  return std::abs(found - expected.value) <= (terms + 8) * 0x1p-24 * expected.magnitude;
}

inline constexpr float untouched = 12345.0f;

}  // namespace tqkv::test::matrices
