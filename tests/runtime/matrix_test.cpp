// The matrix kernels of every instruction set that this machine has, against loops written out here in double and
// 64-bit integer arithmetic. Sizes divide nothing, weights lie at odd addresses.
#include <doctest/doctest.h>

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

using tqkv::Matrix;
using tqkv::cpu::available_isas;
using tqkv::cpu::kernels;
using tqkv::cpu::MatrixKernels;
using tqkv::cpu::Planes;
using tqkv::cpu::Row16;
using tqkv::cpu::Rows16;
using Storage = tqkv::Matrix::Storage;

namespace {

using Random = std::mt19937;

std::size_t as_size(std::ptrdiff_t n) {
  return static_cast<std::size_t>(n);
}
int uniform(Random& random, int low, int high) {
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
void fill(Weights& w, Storage storage, int count, int out, int in, Random& random) {
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
void fill_constant(Weights& w, Storage storage, int out, int in, int q) {
  w.q.assign(as_size(out) * as_size(in), q);
  w.scale.assign(as_size(out) * as_size(in / 64), 1);
  w.bias.assign(w.scale.size(), 0);
  w.pack(storage, 1, out, in);
}

/// The two signed bytes of q = 256 high + low.
std::int8_t low_byte(int q) {
  return static_cast<std::int8_t>((q + 128 + 65536) % 256 - 128);
}
std::int8_t high_byte(int q) {
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

constexpr Planes every_planes[] = {Planes::both, Planes::high};

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
bool near(float found, const Expected& expected, int terms) {
  return std::abs(found - expected.value) <= (terms + 8) * 0x1p-24 * expected.magnitude;
}

constexpr float untouched = 12345.0f;

}  // namespace

TEST_CASE("multiply_rows agrees with integer arithmetic on every instruction set, for sizes that divide nothing") {
  Random random(1);
  for (const auto isa : available_isas()) {
    const MatrixKernels& kernel = kernels(isa).matrix;
    for (const Storage storage : {Storage::q4, Storage::q8})
      for (const int out : {1, 3, 17, 33})
        for (const int groups : {1, 2, 3, 5, 7, 16, 33})
          for (const int tokens : {1, 2, 3, 7, 9, 17}) {
            Weights w;
            fill(w, storage, 1, out, 64 * groups, random);
            ActivationRows x(tokens, 64 * groups);
            x.randomize(random);
            const int stride = out + 3;
            int wrong = 0;
            for (const Planes planes : every_planes) {
              Floats y(tokens * stride, untouched);
              kernel.multiply_rows(w.matrix, 0, out, x.view, planes, nullptr, tokens, y.data(), stride);
              for (int t = 0; t < tokens; ++t)
                for (int o = 0; o < stride; ++o) {
                  const float found = y[t * stride + o];
                  if (o >= out)
                    wrong += found != untouched;
                  else
                    wrong += !near(found,
                                   integer_product(w, o, x.numbers(planes, t), x.scales(planes, t), x.sums(planes, t)),
                                   2 * groups);
                }
            }
            CHECK_MESSAGE(wrong == 0, isa << " storage " << static_cast<int>(storage) << " out " << out << " groups "
                                          << groups << " tokens " << tokens);
          }
  }
}

TEST_CASE("integer sums are exact at the ends of the ranges, where narrow sums would saturate") {
  Random random(2);
  for (const auto isa : available_isas()) {
    const MatrixKernels& kernel = kernels(isa).matrix;
    for (const Storage storage : {Storage::q4, Storage::q8})
      for (const int groups : {1, 2, 5, 8})
        for (const int pattern : {0, 1, 2, 3}) {
          const int out = 19, in = 64 * groups, tokens = 5, top = storage == Storage::q4 ? 15 : 255;
          Weights w;
          fill_constant(w, storage, out, in, top);
          if (pattern == 3) {
            for (int& q : w.q) q = uniform(random, 0, 1) * top;
            w.pack(storage, 1, out, in);
          }
          ActivationRows x(tokens, in);
          for (std::size_t i = 0; i < x.q.size(); ++i)
            x.q[i] = pattern == 0   ? 32639
                     : pattern == 1 ? -32639
                     : pattern == 2 ? (i % 4 < 2 ? 32639 : -32639)
                                    : uniform(random, 0, 1) * 65278 - 32639;
          x.finish();
          int wrong = 0;
          for (const Planes planes : every_planes) {
            if (planes ==
                Planes::high)  // 8 * 64 * 255 * 127 is below 2^24: with a scale of 1 all sums are exact in f32
              std::fill(x.high_scale.begin(), x.high_scale.end(), 1.0f);
            Floats y(tokens * out);
            kernel.multiply_rows(w.matrix, 0, out, x.view, planes, nullptr, tokens, y.data(), out);
            for (int t = 0; t < tokens; ++t)
              for (int o = 0; o < out; ++o) {
                const Expected expected =
                    integer_product(w, o, x.numbers(planes, t), x.scales(planes, t), x.sums(planes, t));
                const float found = y[t * out + o];
                wrong += planes == Planes::high ? found != static_cast<float>(expected.value)
                                                : !near(found, expected, 2 * groups);
              }
          }
          CHECK_MESSAGE(wrong == 0, isa << " storage " << static_cast<int>(storage) << " groups " << groups
                                        << " pattern " << pattern);
        }
  }
}

TEST_CASE("multiply16 agrees with integer arithmetic on every instruction set, for sizes that divide nothing") {
  Random random(3);
  for (const auto isa : available_isas()) {
    const MatrixKernels& kernel = kernels(isa).matrix;
    for (const Storage storage : {Storage::q4, Storage::q8})
      for (const int out : {1, 2, 3, 17, 33})
        for (const int groups : {1, 2, 3, 5, 7, 16, 17, 33})
          for (const bool extreme : {false, true}) {
            Weights w;
            fill(w, storage, 1, out, 64 * groups, random);
            Activations16 x(64 * groups);
            std::normal_distribution<float> normal;
            for (auto& s : x.scale) s = std::abs(normal(random));
            for (auto& v : x.q)
              v = static_cast<std::int16_t>(extreme ? uniform(random, 0, 1) * 65278 - 32639
                                                    : uniform(random, -32639, 32639));
            x.finish();
            if (extreme) {
              for (int& q : w.q) q = storage == Storage::q4 ? 15 : 255;
              w.pack(storage, 1, out, 64 * groups);
            }
            Floats y(out + 3, untouched);
            kernel.multiply16(w.matrix, 0, out, x.view, y.data());
            int wrong = y[out] != untouched || y[out + 1] != untouched || y[out + 2] != untouched;
            for (int o = 0; o < out; ++o) {
              Expected expected = integer_product(w, o, x.q.data(), x.scale.data(), x.sum.data());
              // Lanes of a group are rounded apart, so rounding is relative to the terms inside the group.
              for (int i = 0; i < 64 * groups; ++i)
                expected.magnitude +=
                    std::abs(static_cast<double>(w.scale[as_size(o * groups + i / 64)]) * x.scale[as_size(i / 64)] *
                             w.q[as_size(o * 64 * groups + i)] * x.q[as_size(i)]);
              wrong += !near(y[o], expected, 2 * groups);
            }
            CHECK_MESSAGE(wrong == 0, isa << " storage " << static_cast<int>(storage) << " out " << out << " groups "
                                          << groups << " extreme " << extreme);
          }
  }
}

TEST_CASE("multiply16 is exact where every sum fits 24 bits") {
  Random random(4);
  for (const auto isa : available_isas()) {
    const MatrixKernels& kernel = kernels(isa).matrix;
    for (const Storage storage : {Storage::q4, Storage::q8})
      for (const int groups : {1, 2, 3, 5, 33}) {
        const bool q4 = storage == Storage::q4;
        const int out = 6, in = 64 * groups;
        Weights w;
        fill_constant(w, storage, out, in, 0);
        for (int& q : w.q) q = uniform(random, 0, q4 ? 15 : 255);
        w.pack(storage, 1, out, in);
        Activations16 x(in);
        // One large value in some groups; their products add up to less than 2^24.
        for (int g = 0; g < groups && (q4 || g < 2); ++g)
          x.q[as_size(64 * g + uniform(random, 0, 63))] = static_cast<std::int16_t>(g % 2 ? -32639 : 32639);
        x.finish();
        Floats y(out);
        kernel.multiply16(w.matrix, 0, out, x.view, y.data());
        for (int o = 0; o < out; ++o)
          CHECK_MESSAGE(
              y[o] == static_cast<float>(integer_product(w, o, x.q.data(), x.scale.data(), x.sum.data()).value),
              isa << " groups " << groups);
      }
  }
}

TEST_CASE("the rows of a range have the same bits as in the whole, and a token's bits do not depend on its company") {
  Random random(5);
  const std::vector<std::pair<int, int>> ranges{{0, 1}, {1, 17}, {7, 45}, {16, 40}, {44, 45}};
  for (const auto isa : available_isas()) {
    const MatrixKernels& kernel = kernels(isa).matrix;
    for (const Storage storage : {Storage::q4, Storage::q8}) {
      const int out = 45, groups = 19, in = 64 * groups, tokens = 21;
      Weights w;
      fill(w, storage, 1, out, in, random);
      ActivationRows x(tokens, in);
      x.randomize(random);
      Floats whole(tokens * out);
      kernel.multiply_rows(w.matrix, 0, out, x.view, Planes::both, nullptr, tokens, whole.data(), out);
      for (const auto& range : ranges) {
        const int first = range.first, last = range.second;
        const int rows = last - first;
        Floats part(tokens * rows);
        kernel.multiply_rows(w.matrix, first, last, x.view, Planes::both, nullptr, tokens, part.data(), rows);
        int wrong = 0;
        for (int t = 0; t < tokens; ++t)
          wrong += std::memcmp(part.data() + t * rows, whole.data() + t * out + first, 4 * as_size(rows)) != 0;
        CHECK_MESSAGE(wrong == 0, isa << " rows " << first << ".." << last);
      }
      for (const int count : {1, 2, 3, 5, 8, 11, 16}) {
        Floats part(count * out);
        std::vector<int> index(as_size(count));
        for (int& i : index) i = uniform(random, 0, tokens - 1);
        kernel.multiply_rows(w.matrix, 0, out, x.view, Planes::both, index.data(), count, part.data(), out);
        int wrong = 0;
        for (int t = 0; t < count; ++t)
          wrong += std::memcmp(part.data() + t * out, whole.data() + index[as_size(t)] * out, 4 * as_size(out)) != 0;
        CHECK_MESSAGE(wrong == 0, isa << " tokens " << count);
      }
      Activations16 x16(in);
      for (auto& v : x16.q) v = static_cast<std::int16_t>(uniform(random, -32639, 32639));
      x16.finish();
      Floats whole16(out), part16(out);
      kernel.multiply16(w.matrix, 0, out, x16.view, whole16.data());
      for (const auto& range : ranges) {
        const int first = range.first, last = range.second;
        kernel.multiply16(w.matrix, first, last, x16.view, part16.data());
        CHECK_MESSAGE(std::memcmp(part16.data(), whole16.data() + first, 4 * as_size(last - first)) == 0,
                      isa << " rows " << first << ".." << last);
      }
    }
  }
}

TEST_CASE("an expert's rows are multiplied as if they stood alone") {
  Random random(6);
  const int experts = 3, out = 21, groups = 3, in = 64 * groups, tokens = 4;
  for (const auto isa : available_isas()) {
    const MatrixKernels& kernel = kernels(isa).matrix;
    for (const Storage storage : {Storage::q4, Storage::q8}) {
      Weights w;
      fill(w, storage, experts, out, in, random);
      ActivationRows x(tokens, in);
      x.randomize(random);
      Activations16 x16(in);
      for (auto& v : x16.q) v = static_cast<std::int16_t>(uniform(random, -3000, 3000));
      x16.finish();
      for (int e = 0; e < experts; ++e) {
        const Matrix expert = w.matrix.expert(e);
        Floats y(tokens * out), y16(out), row(in);
        kernel.multiply_rows(expert, 0, out, x.view, Planes::both, nullptr, tokens, y.data(), out);
        kernel.multiply16(expert, 0, out, x16.view, y16.data());
        int wrong = 0;
        for (int o = 0; o < out; ++o) {
          const std::ptrdiff_t global = e * out + o;
          for (int t = 0; t < tokens; ++t)
            wrong += !near(y[t * out + o],
                           integer_product(w, global, x.numbers(Planes::both, t), x.scales(Planes::both, t),
                                           x.sums(Planes::both, t)),
                           2 * groups);
          wrong += !near(y16[o], integer_product(w, global, x16.q.data(), x16.scale.data(), x16.sum.data()), 40);
          kernel.dequantize_row(expert, o, row.data());
          for (int i = 0; i < in; ++i) wrong += row[i] != static_cast<float>(w.at(global, i));
        }
        CHECK_MESSAGE(wrong == 0, isa << " expert " << e);
      }
    }
  }
}

TEST_CASE("multiply_f32 agrees with double arithmetic for every storage, any width and any number of tokens") {
  Random random(7);
  std::normal_distribution<float> normal;
  for (const auto isa : available_isas()) {
    const MatrixKernels& kernel = kernels(isa).matrix;
    for (const Storage storage : {Storage::q4, Storage::q8, Storage::bf16, Storage::f16, Storage::f32})
      for (const int out : {1, 3, 17, 33, 70})
        for (const int in : {1, 5, 63, 64, 128, 130, 192, 333, 448}) {
          if ((storage == Storage::q4 || storage == Storage::q8) && in % 64 != 0) continue;
          Weights w;
          fill(w, storage, 1, out, in, random);
          for (const int tokens : {1, 2, 3, 4, 7, 9, 17}) {
            const int x_stride = in + 5, stride = out + 3;
            Floats x(20 * x_stride), y(tokens * stride, untouched),
                scratch(static_cast<std::ptrdiff_t>(kernel.f32_scratch(in)));
            for (int i = 0; i < 20 * x_stride; ++i) x[i] = normal(random);
            std::vector<int> index(as_size(tokens));
            for (int& i : index) i = uniform(random, 0, 19);
            const bool gather = tokens % 2 == 1;
            kernel.multiply_f32(w.matrix, 0, out, x.data(), x_stride, gather ? index.data() : nullptr, tokens, y.data(),
                                stride, scratch.data());
            int wrong = 0;
            for (int t = 0; t < tokens; ++t)
              for (int o = 0; o < stride; ++o) {
                if (o >= out) {
                  wrong += y[t * stride + o] != untouched;
                  continue;
                }
                Expected expected;
                for (int i = 0; i < in; ++i) {
                  const double term = w.at(o, i) * x[(gather ? index[as_size(t)] : t) * x_stride + i];
                  expected.value += term;
                  expected.magnitude += std::abs(term);
                }
                wrong += !near(y[t * stride + o], expected, 128);  // sums of blocks of 128 channels
              }
            CHECK_MESSAGE(wrong == 0, isa << " storage " << static_cast<int>(storage) << " out " << out << " in " << in
                                          << " tokens " << tokens);
            // Sub-ranges have the same bits.
            const int first = out / 3, rows = out - first;
            Floats part(tokens * rows);
            kernel.multiply_f32(w.matrix, first, out, x.data(), x_stride, gather ? index.data() : nullptr, tokens,
                                part.data(), rows, scratch.data());
            for (int t = 0; t < tokens; ++t)
              wrong += std::memcmp(part.data() + t * rows, y.data() + t * stride + first, 4 * as_size(rows)) != 0;
            CHECK_MESSAGE(wrong == 0, isa << " sub-range, storage " << static_cast<int>(storage) << " out " << out
                                          << " in " << in << " tokens " << tokens);
          }
        }
  }
}

TEST_CASE("dequantize_row gives the floats that the bytes stand for") {
  Random random(8);
  for (const auto isa : available_isas()) {
    const MatrixKernels& kernel = kernels(isa).matrix;
    for (const Storage storage : {Storage::q4, Storage::q8, Storage::bf16, Storage::f16, Storage::f32})
      for (const int in : {1, 7, 64, 192, 300, 448}) {
        if ((storage == Storage::q4 || storage == Storage::q8) && in % 64 != 0) continue;
        Weights w;
        fill(w, storage, 1, 3, in, random);
        for (int o = 0; o < 3; ++o) {
          Floats row(in + 1, untouched);
          kernel.dequantize_row(w.matrix, o, row.data());
          int wrong = row[in] != untouched;
          for (int i = 0; i < in; ++i) wrong += row[i] != static_cast<float>(w.at(o, i));
          CHECK_MESSAGE(wrong == 0, isa << " storage " << static_cast<int>(storage) << " in " << in << " row " << o);
        }
      }
  }
}

TEST_CASE(
    "activations are rounded to the nearest integer, ties to even, with the same result in every instruction set") {
  Random random(9);
  std::normal_distribution<float> normal;
  const int rows = 5, cols = 7 * 64, stride = cols + 9, groups = cols / 64;
  Floats x(rows * stride);
  for (int i = 0; i < rows * stride; ++i)
    x[i] = normal(random) * std::exp2(static_cast<float>(uniform(random, -20, 20)));
  for (int i = 0; i < 64; ++i) {
    x[i] = 0;  // a group of zeros
    x[128 + i] = std::numeric_limits<float>::denorm_min() * static_cast<float>(i);
    x[192 + i] = (i % 2 ? 1.0f : -1.0f) * std::numeric_limits<float>::max();
  }
  x[64] = 16319.5f;  // factor 2: quarters become ties
  for (int i = 1; i < 64; ++i) x[64 + i] = static_cast<float>(i - 32) * 0.25f;
  for (const auto isa : available_isas()) {
    const MatrixKernels& kernel = kernels(isa).matrix;
    ActivationRows a(rows + 1, cols), expected(rows + 1, cols);
    kernel.quantize_rows(x.data(), rows, stride, &a.view, 1);
    int wrong = 0;
    for (int r = 0; r < rows; ++r) {
      Activations16 b(cols), twin(cols);
      kernel.quantize16(x.data() + r * stride, &b.view);
      for (int g = 0; g < groups; ++g) {
        const float* from = x.data() + r * stride + 64 * g;
        float absmax = 0;
        for (int i = 0; i < 64; ++i) absmax = std::max(absmax, std::abs(from[i]));
        if (absmax < 0x1p-100f) absmax = 0;
        const float inverse = absmax > 0 ? 32639 / absmax : 0;
        for (int i = 0; i < 64; ++i) {
          const auto q = static_cast<int>(std::nearbyint(from[i] * inverse));
          wrong += std::abs(q) > 32639;
          twin.q[as_size(64 * g + i)] = static_cast<std::int16_t>(q);
          expected.q[as_size((r + 1) * cols + 64 * g + i)] = q;
        }
        twin.scale[as_size(g)] = expected.scale[as_size((r + 1) * groups + g)] = absmax / 32639;
      }
      twin.finish();
      wrong += b.q != twin.q || b.high != twin.high || b.low != twin.low || b.scale != twin.scale || b.sum != twin.sum;
    }
    std::fill_n(expected.scale.begin(), groups, 1.0f);  // the row before the first is not written
    expected.finish();
    const auto same_from = [&](const auto& found, const auto& wanted, int first) {
      return std::equal(found.begin() + first, found.end(), wanted.begin() + first);
    };
    wrong += a.high != expected.high || a.low != expected.low;
    for (auto member :
         {&ActivationRows::scale, &ActivationRows::sum, &ActivationRows::high_scale, &ActivationRows::high_sum})
      wrong += !same_from(a.*member, expected.*member, groups);
    CHECK_MESSAGE(wrong == 0, isa);
  }
}

TEST_CASE("an infinity or NaN among the activations shows in the output and stays in its row") {
  Random random(10);
  const int cols = 128, out = 5;
  Weights w;
  fill(w, Storage::q4, 1, out, cols, random);
  for (const auto isa : available_isas()) {
    const MatrixKernels& kernel = kernels(isa).matrix;
    for (const float bad : {std::numeric_limits<float>::infinity(), -std::numeric_limits<float>::infinity(),
                            std::numeric_limits<float>::quiet_NaN()}) {
      Floats x(2 * cols, 0.5f), y(2 * out), y16(out);
      x[77] = bad;
      ActivationRows a(2, cols);
      kernel.quantize_rows(x.data(), 2, cols, &a.view, 0);
      kernel.multiply_rows(w.matrix, 0, out, a.view, Planes::both, nullptr, 2, y.data(), out);
      Activations16 b(cols);
      kernel.quantize16(x.data(), &b.view);
      kernel.multiply16(w.matrix, 0, out, b.view, y16.data());
      for (int o = 0; o < out; ++o) {
        CHECK_MESSAGE(std::isnan(y[o]), isa);
        CHECK_MESSAGE(std::isfinite(y[out + o]), isa);
        CHECK_MESSAGE(std::isnan(y16[o]), isa);
      }
    }
  }
}

TEST_CASE("quantized activations times weights stay close to the exact product") {
  Random random(11);
  std::normal_distribution<float> normal;
  const int in = 1024, out = 24, tokens = 6;
  for (const auto isa : available_isas()) {
    const MatrixKernels& kernel = kernels(isa).matrix;
    Weights w;
    fill(w, Storage::q4, 1, out, in, random);
    Floats x(tokens * in), exact(tokens * out), fast(tokens * out), coarse(tokens * out), fine(out),
        scratch(static_cast<std::ptrdiff_t>(kernel.f32_scratch(in)));
    for (int i = 0; i < tokens * in; ++i) x[i] = normal(random);
    kernel.multiply_f32(w.matrix, 0, out, x.data(), in, nullptr, tokens, exact.data(), out, scratch.data());
    ActivationRows a(tokens, in);
    kernel.quantize_rows(x.data(), tokens, in, &a.view, 0);
    kernel.multiply_rows(w.matrix, 0, out, a.view, Planes::high, nullptr, tokens, coarse.data(), out);
    kernel.multiply_rows(w.matrix, 0, out, a.view, Planes::both, nullptr, tokens, fast.data(), out);
    double error8 = 0, error_both = 0, error16 = 0, power = 0;
    for (int t = 0; t < tokens; ++t) {
      Activations16 b(in);
      kernel.quantize16(x.data() + t * in, &b.view);
      kernel.multiply16(w.matrix, 0, out, b.view, fine.data());
      for (int o = 0; o < out; ++o) {
        const double e = exact[t * out + o];
        error8 += std::pow(coarse[t * out + o] - e, 2);
        error_both += std::pow(fast[t * out + o] - e, 2);
        error16 += std::pow(fine[o] - e, 2);
        power += e * e;
      }
    }
    CHECK_MESSAGE(std::sqrt(error8 / power) < 0.01, isa);      // step absmax/127, absmax about 2.5 deviations: 0.6 %
    CHECK_MESSAGE(std::sqrt(error_both / power) < 4e-5, isa);  // 257 times finer
    CHECK_MESSAGE(std::sqrt(error16 / power) < 4e-5, isa);
  }
}
