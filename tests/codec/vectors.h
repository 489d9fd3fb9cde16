// Helpers of the codec tests: random vectors that are the same on every platform, and the codec as one call.
#pragma once
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <list>
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

inline SideFormat affine(int bits, bool rotated = false, int group = 64) {
  SideFormat format;
  format.kind = rotated ? SideFormat::Kind::rotated_affine : SideFormat::Kind::affine;
  format.bits = bits;
  format.group = group;
  return format;
}

inline SideFormat plain(int bits) {
  SideFormat format;
  format.bits = bits;
  return format;
}

inline SideFormat split(int bits, KvScalar scalar = KvScalar::norm) {
  SideFormat format = turboquant(bits, scalar);
  format.kind = SideFormat::Kind::split;
  return format;
}

inline SideFormat trellis(int bits, int states, KvScalar scalar = KvScalar::norm) {
  SideFormat format = turboquant(bits, scalar);
  format.kind = SideFormat::Kind::trellis;
  format.states = states;
  return format;
}

inline SideFormat prod(int bits, Projection projection) {
  SideFormat format;
  format.kind = SideFormat::Kind::prod;
  format.bits = bits;
  format.projection = projection;
  return format;
}

inline SideFormat qjl(int rows, Projection projection) {
  SideFormat format;
  format.kind = SideFormat::Kind::signs;
  format.bits = 1;
  format.rows = rows;
  format.projection = projection;
  return format;
}

inline SideFormat polar() {
  SideFormat format;
  format.kind = SideFormat::Kind::polar;
  format.bits = 4;
  return format;
}

inline SideFormat sketch(int bits = 3, int group = 64) {
  SideFormat format = affine(bits, true, group);
  format.kind = SideFormat::Kind::sketch;
  return format;
}

/// Makes codecs, and keeps the matrix S of those that have one.
class Codecs {
 public:
  Codecs() = default;
  Codecs(const Codecs&) = delete;
  codec::SideCodec operator()(const SideFormat& format, int dim, std::uint64_t seed = 0) {
    const codec::SideCodec sizes = codec::side_codec(format, dim);
    if (sizes.signs == 0) return sizes;
    matrices_.emplace_back(format.projection, sizes.signs, dim, seed);
    return codec::side_codec(format, dim, &matrices_.back());
  }

 private:
  std::list<codec::SignMatrix> matrices_;
};

struct Encoded {
  std::vector<std::byte> codes, scalars;
};

inline Encoded encoded(const codec::SideCodec& codec, std::span<const float> x) {
  Encoded result{std::vector<std::byte>(codec.code_bytes), std::vector<std::byte>(codec.scalar_bytes)};
  codec::encode(codec, x, result.codes.data(), result.scalars.data());
  return result;
}

inline std::vector<float> decoded(const codec::SideCodec& codec, const Encoded& e) {
  std::vector<float> x(static_cast<std::size_t>(codec.space()));
  codec::decode(codec, e.codes.data(), e.scalars.data(), x);
  return x;
}

inline std::vector<float> round_trip(const codec::SideCodec& codec, std::span<const float> x) {
  return decoded(codec, encoded(codec, x));
}

/// (q, S q): what meets decoded vectors.
inline std::vector<float> lifted(const codec::SideCodec& codec, std::span<const float> q) {
  std::vector<float> out(q.begin(), q.begin() + codec.direct);
  if (codec.signs > 0) {
    out.resize(static_cast<std::size_t>(codec.space()));
    codec.matrix->multiply(q, std::span(out).subspan(static_cast<std::size_t>(codec.direct)));
  }
  return out;
}

/// The vector [dim] that a decoded one stands for: its channels and the transposed S times its signs.
inline std::vector<float> lowered(const codec::SideCodec& codec, std::span<const float> decoded) {
  const auto direct = static_cast<std::size_t>(codec.direct);
  std::vector<float> out(static_cast<std::size_t>(codec.dim), 0.0f);
  std::copy_n(decoded.begin(), direct, out.begin());
  if (codec.signs > 0) codec.matrix->add_transposed(decoded.subspan(direct), out);
  return out;
}

/// The mean of numbers and its standard error.
class Mean {
 public:
  void add(double value) {
    ++count_;
    sum_ += value;
    squares_ += value * value;
  }
  double mean() const { return sum_ / count_; }
  double variance() const { return (squares_ - sum_ * sum_ / count_) / (count_ - 1.0); }
  double error() const { return std::sqrt(variance() / count_); }

 private:
  double count_ = 0.0, sum_ = 0.0, squares_ = 0.0;
};

}  // namespace tqkv::test
