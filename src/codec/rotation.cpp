#include "codec/rotation.h"

#include <array>
#include <bit>
#include <cassert>
#include <cmath>
#include <cstddef>

#include "base/splitmix64.h"

namespace tqkv::codec {
namespace {

std::uint64_t mix(std::uint64_t x) {
  return splitmix64(x, 0);
}

// Entry (i, j) of Paley's Hadamard matrix of order 12: I + S, S skew with a border of ones, χ(i - j) modulo 11 inside.
constexpr bool residue(int n) {
  return n == 1 || n == 3 || n == 4 || n == 5 || n == 9;
}
constexpr float paley(int i, int j) {
  if (i == j) return 1.0f;
  if (i == 0) return 1.0f;
  if (j == 0) return -1.0f;
  return residue((i - j + 11) % 11) ? 1.0f : -1.0f;
}

template <bool transposed>
void hadamard12_of(std::span<float> x) {
  assert(x.size() % 12 == 0 && x.size() <= 12 * 256);
  const std::size_t n = x.size() / 12;
  if (n > 1)
    for (std::size_t i = 0; i < 12; ++i) hadamard(x.subspan(i * n, n));
  const auto scale = static_cast<float>(1.0 / std::sqrt(12.0));
  std::array<float, 12> in{}, out{};
  for (std::size_t c = 0; c < n; ++c) {
    for (std::size_t j = 0; j < 12; ++j) in[j] = x[j * n + c];
    for (int i = 0; i < 12; ++i) {
      float sum = 0.0f;
      for (int j = 0; j < 12; ++j) sum += (transposed ? paley(j, i) : paley(i, j)) * in[static_cast<std::size_t>(j)];
      out[static_cast<std::size_t>(i)] = sum * scale;
    }
    for (std::size_t i = 0; i < 12; ++i) x[i * n + c] = out[i];
  }
}

}  // namespace

float rotation_sign(std::uint64_t seed, int layer, int head, int channel) {
  assert(layer >= 0 && head >= 0 && head < 65536 && channel >= 0 && channel < 65536);
  const std::uint64_t place = (static_cast<std::uint64_t>(layer) << 32) | (static_cast<std::uint64_t>(head) << 16) |
                              static_cast<std::uint64_t>(channel);
  return mix(mix(seed) ^ place) >> 63 ? -1.0f : 1.0f;
}

std::uint64_t matrix_hash(std::uint64_t seed, int row, int column) {
  assert(row >= 0 && row < 65536 && column >= 0 && column < 65536);
  const std::uint64_t place =
      (std::uint64_t{1} << 63) | (static_cast<std::uint64_t>(row) << 16) | static_cast<std::uint64_t>(column);
  return mix(mix(seed) ^ place);
}

void hadamard12(std::span<float> x) {
  hadamard12_of<false>(x);
}
void hadamard12_transposed(std::span<float> x) {
  hadamard12_of<true>(x);
}

std::vector<float> rotation_signs(std::uint64_t seed, int layer, int head, int dim) {
  std::vector<float> signs(static_cast<std::size_t>(dim));
  for (int channel = 0; channel < dim; ++channel)
    signs[static_cast<std::size_t>(channel)] = rotation_sign(seed, layer, head, channel);
  return signs;
}

void hadamard(std::span<float> x) {
  const std::size_t dim = x.size();
  assert(std::has_single_bit(dim));
  for (std::size_t half = 1; half < dim; half *= 2) {
    for (std::size_t block = 0; block < dim; block += 2 * half) {
      for (std::size_t i = block; i < block + half; ++i) {
        const float a = x[i], b = x[i + half];
        x[i] = a + b;
        x[i + half] = a - b;
      }
    }
  }
  const auto scale = static_cast<float>(1.0 / std::sqrt(static_cast<double>(dim)));
  for (float& value : x) value *= scale;
}

void rotate(std::span<float> x, std::span<const float> signs) {
  assert(x.size() == signs.size());
  for (std::size_t i = 0; i < x.size(); ++i) x[i] *= signs[i];
  hadamard(x);
}

void unrotate(std::span<float> y, std::span<const float> signs) {
  assert(y.size() == signs.size());
  hadamard(y);
  for (std::size_t i = 0; i < y.size(); ++i) y[i] *= signs[i];
}

bool can_rotate(int dim) {
  return dim >= 16 && dim <= 1024 && std::has_single_bit(static_cast<unsigned>(dim));
}

}  // namespace tqkv::codec
