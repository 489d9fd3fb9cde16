#include "codec/rotation.h"

#include <bit>
#include <cassert>
#include <cmath>
#include <cstddef>

namespace tqkv::codec {
namespace {

/// One output of SplitMix64 (Steele, Lea and Flood 2014) at state x: a bijection of 64 bits.
std::uint64_t mix(std::uint64_t x) {
  x += 0x9e3779b97f4a7c15u;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
  return x ^ (x >> 31);
}

}  // namespace

float rotation_sign(std::uint64_t seed, int layer, int head, int channel) {
  assert(layer >= 0 && head >= 0 && head < 65536 && channel >= 0 && channel < 65536);
  const std::uint64_t place = (static_cast<std::uint64_t>(layer) << 32) | (static_cast<std::uint64_t>(head) << 16) |
                              static_cast<std::uint64_t>(channel);
  return mix(mix(seed) ^ place) >> 63 ? -1.0f : 1.0f;
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
