// Inputs of the kernels, and how far what they give is from what plain operations give.
#pragma once
#include <algorithm>
#include <random>

#include "codec/rotation.h"
#include "runtime/mlx/kernels/kernels.h"

namespace tqkv::test {

namespace mx = ::mlx::core;
namespace kernels = tqkv::mlx;

inline std::vector<float> normal_numbers(std::size_t count, unsigned seed, float size = 1.0f) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal(0.0f, size);
  std::vector<float> values(count);
  for (float& value : values) value = normal(random);
  return values;
}

inline mx::array normal_array(mx::Shape shape, unsigned seed, float size = 1.0f) {
  std::size_t count = 1;
  for (const int extent : shape) count *= static_cast<std::size_t>(extent);
  const std::vector<float> values = normal_numbers(count, seed, size);
  return mx::array(values.begin(), std::move(shape), mx::float32);
}

/// Turboquant, or bf16.
inline SideFormat side_of(int bits, KvScalar scalar = KvScalar::corrected) {
  SideFormat format;
  if (bits == 16) return format;
  format.kind = SideFormat::Kind::turboquant;
  format.bits = bits;
  format.scalar = scalar;
  return format;
}

struct Shape {
  int heads = 16, kv_heads = 2, dim = 256;
};

/// Tokens first..last-1 of stores whose capacities differ.
inline mlx::AttentionInput attention_input(int key_bits, int value_bits, const Shape& shape, int first, int last) {
  const auto stored = [&](int bits, int spare, unsigned seed) {
    const SideFormat format = side_of(bits);
    const mx::array x = normal_array({shape.kv_heads, last + spare, shape.dim}, seed);
    return mlx::StoredSide{format, mlx::Codec(format, shape.kv_heads, shape.dim).encode(x)};
  };
  return {normal_array({shape.heads, shape.dim}, 3, 0.2f), stored(key_bits, 3, 1), stored(value_bits, 5, 2), first,
          last};
}

inline double largest(const mx::array& x) {
  return static_cast<double>(mx::max(mx::abs(x)).item<float>());
}

/// The largest difference, over the largest number that was expected. NaN where there is one.
inline double difference(const mx::array& expected, const mx::array& found) {
  return largest(mx::subtract(expected, found)) / largest(expected);
}

inline double difference(const mlx::Partial& expected, const mlx::Partial& found) {
  return difference(mlx::join({expected}), mlx::join({found}));
}

inline mx::array signs_of(int kv_heads, int dim) {
  std::vector<float> all;
  for (int head = 0; head < kv_heads; ++head) {
    const std::vector<float> own = codec::rotation_signs(7, 3, head, dim);
    all.insert(all.end(), own.begin(), own.end());
  }
  return mx::array(all.begin(), {kv_heads, 1, dim}, mx::float32);
}

}  // namespace tqkv::test
