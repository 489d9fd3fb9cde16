// Every byte in which the codecs on MLX and the scalar codecs differ is a tie: the exact number lies between two that
// can be stored, up to the rounding of f32.
#include "ties.h"

#include <doctest/doctest.h>

#include <cmath>
#include <functional>

#include "base/splitmix64.h"
#include "codec/codebook.h"
#include "codec/rotation.h"
#include "codec/side_codec.h"
#include "emulator/emulator.h"
#include "kernel_inputs.h"
#include "runtime/mlx/codec.h"

using namespace tqkv;
using namespace tqkv::test;

namespace {

SideFormat affine_of(SideFormat::Kind kind, int bits, int group) {
  SideFormat format;
  format.kind = kind;
  format.bits = bits;
  format.group = group;
  return format;
}

/// Vectors of every kind that a cache could be given, one behind another.
class Vectors {
 public:
  explicit Vectors(int dim) : dim_(static_cast<std::size_t>(dim)) {}
  const std::vector<float>& values() const { return values_; }
  int count() const { return static_cast<int>(values_.size() / dim_); }

  void add(const std::function<float(std::size_t channel)>& value) {
    for (std::size_t channel = 0; channel < dim_; ++channel) values_.push_back(value(channel));
  }
  void add_normal(int vectors, unsigned seed, float size, int power = 1) {
    for (const float value : normal_numbers(static_cast<std::size_t>(vectors) * dim_, seed))
      values_.push_back(size * std::pow(value, static_cast<float>(power)));
  }
  /// Coordinates on the thresholds, but for the rounding of f32 and what makes the norm right.
  void add_thresholds(int vectors, std::uint64_t seed, int bits) {
    const auto threshold = codec::thresholds(bits);
    for (int vector = 0; vector < vectors; ++vector) {
      std::vector<double> z(dim_);
      double squares = 0;
      for (std::size_t i = 0; i + 16 < dim_; ++i) {
        const std::uint64_t any = splitmix64(seed, static_cast<std::uint64_t>(vector) * dim_ + i);
        z[i] = static_cast<double>(threshold[threshold.size() / 4 + any % (threshold.size() - threshold.size() / 2)]);
        squares += z[i] * z[i];
      }
      const double rest = std::sqrt(std::max(static_cast<double>(dim_) - squares, 0.0) / 16.0);
      std::fill(z.end() - 16, z.end(), rest);
      const double size = 0.1 + 3.0 * static_cast<double>(vector) / vectors;
      add([&](std::size_t channel) { return static_cast<float>(size * z[channel]); });
    }
  }

 private:
  std::size_t dim_;
  std::vector<float> values_;
};

Vectors all_kinds(int dim, int bits) {
  Vectors all(dim);
  all.add_normal(300, 1, 1.0f);
  all.add_normal(100, 2, 1.0f, 3);  // a few large channels
  all.add_normal(30, 3, 1e-6f);     // f16 scalars below the normal ones
  all.add_normal(30, 4, 2500.0f);   // near the largest f16
  all.add_normal(30, 5, 5000.0f);   // beyond it
  for (const float size : {1e-42f, 1e-38f, 1e-30f, 1e-22f, 1e-19f, 1e15f, 1e18f, 1e25f, 1e36f})
    all.add_normal(5, 6, size);
  for (const float size : {0.0f, 1.0f, -1.0f, 0.3f, 1e-38f, 4000.0f, 1e-45f, 3e38f}) {
    all.add([&](std::size_t) { return size; });
    all.add([&](std::size_t channel) { return channel == 5 ? size : 0.0f; });
    all.add([&](std::size_t channel) { return channel % 2 == 0 ? size : -size; });
  }
  all.add_thresholds(200, 7, bits);
  return all;
}

void encode_both(const SideFormat& format, int dim, const std::vector<float>& x, Ties& ties) {
  const int count = static_cast<int>(x.size()) / dim;
  const codec::SideCodec scalar = codec::side_codec(format, dim);
  const tqkv::mlx::Codec own(format, 1, dim);
  const mx::array bytes = own.to_bytes(own.encode(mx::array(x.begin(), {1, count, dim}, mx::float32)));
  std::vector<std::byte> expected(scalar.vector_bytes());
  for (int i = 0; i < count; ++i) {
    const auto one = std::span(x).subspan(static_cast<std::size_t>(i) * static_cast<std::size_t>(dim),
                                          static_cast<std::size_t>(dim));
    codec::encode(scalar, one, expected.data(), expected.data() + scalar.code_bytes);
    compare(format, one, expected.data(), bytes.data<std::byte>() + static_cast<std::size_t>(i) * expected.size(),
            ties);
  }
}

void report(const std::string& what, const Ties& ties) {
  for (std::size_t i = 0; i < std::min<std::size_t>(ties.others.size(), 5); ++i) MESSAGE(ties.others[i]);
  CHECK_MESSAGE(ties.others.empty(), what);
  MESSAGE(what << ": " << ties.bytes << " bytes of " << ties.vectors << " vectors differ by " << ties.codes
               << " codes and " << ties.scalars << " scalars that tie, within " << ties.of_codes << " and "
               << ties.of_scalars << " times 2^-24");
}

}  // namespace

TEST_CASE("turboquant on MLX differs from the scalar codec where numbers tie and nowhere else") {
  for (const int bits : {2, 3, 4, 5}) {
    for (const int dim : {64, 128, 256}) {
      const std::vector<float> x = all_kinds(dim, bits).values();
      Ties ties;
      for (const KvScalar scalar : {KvScalar::norm, KvScalar::corrected, KvScalar::unbiased, KvScalar::best})
        encode_both(side_of(bits, scalar), dim, x, ties);
      report(side_of(bits).describe() + ", " + std::to_string(dim) + " channels", ties);
    }
  }
}

TEST_CASE("the encoding kernel differs from the scalar codec where numbers tie and nowhere else") {
  constexpr int dim = 256;
  const std::vector<float> signs = codec::rotation_signs(7, 3, 0, dim);
  for (const int bits : {2, 3, 4, 5}) {
    Vectors vectors(dim);
    vectors.add_normal(20, 1, 1.0f);
    for (const float size : {0.0f, 1e-38f, 1e-30f, 1e-22f, 1e-19f, 5000.0f, 1e18f, 1e25f, 1e36f})
      vectors.add_normal(2, 6, size);
    const std::size_t rotated = vectors.values().size();
    vectors.add_thresholds(40, 7, bits);
    std::vector<float> x = vectors.values();
    for (std::size_t at = rotated; at < x.size(); at += dim) codec::unrotate(std::span(x).subspan(at, dim), signs);
    const SideFormat format = side_of(bits);
    const int count = vectors.count();
    const kernels::Payload made = kernels::encode(emulator::emulated(), format,
                                                  mx::array(x.begin(), {1, count, dim}, mx::float32), signs_of(1, dim));
    const mx::array bytes = tqkv::mlx::Codec(format, 1, dim).to_bytes(made);
    const codec::SideCodec scalar = codec::side_codec(format, dim);
    std::vector<std::byte> expected(scalar.vector_bytes());
    Ties ties;
    for (std::size_t i = 0; i < static_cast<std::size_t>(count); ++i) {
      const std::span<float> y = std::span(x).subspan(i * dim, dim);
      codec::rotate(y, signs);
      codec::encode(scalar, y, expected.data(), expected.data() + scalar.code_bytes);
      compare(format, y, expected.data(), bytes.data<std::byte>() + i * expected.size(), ties);
    }
    report("kernel, " + format.describe(), ties);
  }
}

TEST_CASE("of vectors that are not made to tie, one in a thousand does") {
  constexpr int dim = 256;
  const std::vector<float> x = normal_numbers(3000 * dim, 8);
  Ties ties;
  for (const int bits : {2, 3, 4, 5}) encode_both(side_of(bits), dim, x, ties);
  report("normal numbers", ties);
  CHECK(ties.bytes <= 12);
}

TEST_CASE("affine and plain vectors have the same bytes on MLX to the last one") {
  for (const int dim : {128, 256}) {
    const std::vector<float> x = all_kinds(dim, 3).values();
    for (const auto kind : {SideFormat::Kind::affine, SideFormat::Kind::rotated_affine}) {
      for (const int bits : {2, 3, 4, 5, 6, 8}) {
        Ties ties;
        for (const int group : {32, 64, 128}) encode_both(affine_of(kind, bits, group), dim, x, ties);
        report(affine_of(kind, bits, 0).describe(), ties);
      }
    }
    Ties ties;
    SideFormat plain;
    encode_both(plain, dim, x, ties);
    plain.bits = 32;
    encode_both(plain, dim, x, ties);
    report("plain", ties);
  }
}

TEST_CASE("the rotation on MLX has the bits of the scalar one") {
  for (const int dim : {64, 128, 256, 512}) {
    const std::vector<float> x = all_kinds(dim, 4).values();
    const int count = static_cast<int>(x.size()) / dim;
    mx::array y = mx::contiguous(
        mx::hadamard_transform(mx::multiply(mx::array(x.begin(), {1, count, dim}, mx::float32), signs_of(1, dim))));
    y.eval();
    const std::vector<float> signs = codec::rotation_signs(7, 3, 0, dim);
    long other = 0;
    for (std::size_t i = 0; i < x.size(); i += signs.size()) {
      std::vector<float> one(x.begin() + static_cast<std::ptrdiff_t>(i),
                             x.begin() + static_cast<std::ptrdiff_t>(i + signs.size()));
      codec::rotate(one, signs);
      for (std::size_t c = 0; c < one.size(); ++c) {
        const float found = y.data<float>()[i + c];
        other += one[c] == found || (std::isnan(one[c]) && std::isnan(found)) ? 0 : 1;
      }
    }
    CAPTURE(dim);
    CHECK(other == 0);
  }
}
