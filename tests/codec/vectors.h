// Helpers of the codec tests: random vectors that are the same on every platform, and the codec as one call.
#pragma once
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <numbers>
#include <random>
#include <span>
#include <vector>

#include "codec/side_codec.h"

namespace tqkv::test {

/// Standard normal numbers by Box and Muller's transform of a Mersenne twister.
class Normal {
 public:
  explicit Normal(std::uint64_t seed) : engine_(seed) {}
  double operator()() {
    if (spare_) {
      spare_ = false;
      return other_;
    }
    const double radius = std::sqrt(-2.0 * std::log(uniform()));
    const double angle = 2.0 * std::numbers::pi * uniform();
    other_ = radius * std::sin(angle);
    spare_ = true;
    return radius * std::cos(angle);
  }
  void fill(std::span<float> x) {
    for (float& value : x) value = static_cast<float>((*this)());
  }
  std::vector<float> vector(int dim) {
    std::vector<float> x(static_cast<std::size_t>(dim));
    fill(x);
    return x;
  }
  std::uint64_t bits() { return engine_(); }

 private:
  double uniform() { return (static_cast<double>(engine_() >> 11) + 0.5) * 0x1p-53; }
  std::mt19937_64 engine_;
  double other_ = 0.0;
  bool spare_ = false;
};

inline double dot(std::span<const float> a, std::span<const float> b) {
  double sum = 0.0;
  for (std::size_t i = 0; i < a.size(); ++i) sum += static_cast<double>(a[i]) * static_cast<double>(b[i]);
  return sum;
}

inline double norm(std::span<const float> a) {
  return std::sqrt(dot(a, a));
}

/// ‖a - b‖² / ‖a‖².
inline double relative_error(std::span<const float> a, std::span<const float> b) {
  double sum = 0.0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    const double difference = static_cast<double>(a[i]) - static_cast<double>(b[i]);
    sum += difference * difference;
  }
  return sum / dot(a, a);
}

inline SideFormat turboquant(int bits, KvScalar scalar = KvScalar::norm) {
  SideFormat format;
  format.kind = SideFormat::Kind::turboquant;
  format.bits = bits;
  format.scalar = scalar;
  return format;
}

inline SideFormat affine(int bits, bool rotated = false) {
  SideFormat format;
  format.kind = rotated ? SideFormat::Kind::rotated_affine : SideFormat::Kind::affine;
  format.bits = bits;
  format.group = 64;
  return format;
}

inline SideFormat plain(int bits) {
  SideFormat format;
  format.bits = bits;
  return format;
}

struct Encoded {
  std::vector<std::byte> codes, scalars;
};

inline Encoded encoded(const codec::SideCodec& codec, std::span<const float> x) {
  Encoded result{std::vector<std::byte>(codec.code_bytes), std::vector<std::byte>(codec.scalar_bytes)};
  codec::encode(codec, x, result.codes.data(), result.scalars.data());
  return result;
}

inline std::vector<float> decoded(const codec::SideCodec& codec, const Encoded& e) {
  std::vector<float> x(static_cast<std::size_t>(codec.dim));
  codec::decode(codec, e.codes.data(), e.scalars.data(), x);
  return x;
}

inline std::vector<float> round_trip(const codec::SideCodec& codec, std::span<const float> x) {
  return decoded(codec, encoded(codec, x));
}

}  // namespace tqkv::test
