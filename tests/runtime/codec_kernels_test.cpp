// Encoding and decoding of every kind, by every instruction set, against the scalar codec.
#include <cstring>

#include "base/float16.h"
#include "codec/rotation.h"
#include "encoded_vectors.h"

namespace tqkv::cpu {
namespace {

using Kind = SideFormat::Kind;

/// A zero vector, a constant one, small, large, positive and tiny ones, and normal ones.
std::vector<float> inputs(const codec::SideCodec& codec, int n) {
  const auto dim = size(codec.dim);
  auto x = Normal(21)(size(n) * dim, 2.5f);
  std::fill_n(x.begin(), dim, 0.0f);
  if (codec.format.kind != Kind::prod)  // where equal residuals cancel, rounding alone gives the sign of their sum
    std::fill_n(x.begin() + static_cast<std::ptrdiff_t>(dim), dim, -3.25f);
  for (std::size_t i = 2 * dim; i < 3 * dim; ++i) x[i] *= 1e-6f;
  for (std::size_t i = 3 * dim; i < 4 * dim; ++i) x[i] *= 1e3f;
  for (std::size_t i = 4 * dim; i < 5 * dim; ++i) x[i] = std::abs(x[i]);
  if (codec.format.kind != Kind::affine && codec.format.kind != Kind::plain)
    for (std::size_t i = 5 * dim; i < 6 * dim; ++i) x[i] *= 1e-38f;
  return x;
}

constexpr int vectors = 13;

/// Rows of x apart by `gap`, encoded by the kernels; the byte behind the last one must stay.
Encoded fast_encode(const Kernels& kernels, const codec::SideCodec& codec, const std::vector<float>& x, int n,
                    int gap) {
  const auto dim = size(codec.dim), stride = dim + size(gap);
  std::vector<float> strided(size(n) * stride);
  for (std::size_t i = 0; i < size(n); ++i)
    std::copy_n(x.begin() + static_cast<std::ptrdiff_t>(i * dim), dim,
                strided.begin() + static_cast<std::ptrdiff_t>(i * stride));
  auto encoded = room(codec, n);
  encoded.codes.push_back(std::byte{0xa5});
  encoded.scalars.push_back(std::byte{0x5a});
  kernels.attention.encode(codec, strided.data(), static_cast<std::ptrdiff_t>(stride), n, encoded.codes.data(),
                           encoded.scalars.data());
  CHECK(encoded.codes.back() == std::byte{0xa5});
  CHECK(encoded.scalars.back() == std::byte{0x5a});
  encoded.codes.pop_back();
  encoded.scalars.pop_back();
  return encoded;
}

std::size_t differences(const std::vector<std::byte>& a, const std::vector<std::byte>& b) {
  std::size_t count = 0;
  for (std::size_t i = 0; i < a.size(); ++i) count += a[i] != b[i];
  return count;
}

int half_at(const std::vector<std::byte>& scalars, std::size_t i) {
  return load<std::uint16_t>(scalars.data() + 2 * i);
}

void check_same_bytes(const Codecs& codecs) {
  for_every_isa([&](const Kernels& kernels) {
    for (const auto& codec : codecs.all()) {
      const std::string format = codec.format.describe();
      CAPTURE(format);
      CAPTURE(codec.dim);
      const auto x = inputs(codec, vectors);
      const auto expected = reference_encode(codec, x, vectors);
      const auto got = fast_encode(kernels, codec, x, vectors, 3);
      CHECK(got.codes == expected.codes);
      CHECK(got.scalars == expected.scalars);
    }
  });
}

/// Sums in f32 here and in double there may differ at a threshold: a byte in 10,000, a scalar in its last place.
void check_nearly_same_bytes(const Codecs& codecs) {
  for_every_isa([&](const Kernels& kernels) {
    std::size_t bytes = 0, different = 0;
    for (const auto& codec : codecs.all()) {
      const std::string format = codec.format.describe();
      CAPTURE(format);
      CAPTURE(codec.dim);
      const auto x = inputs(codec, vectors);
      const auto expected = reference_encode(codec, x, vectors);
      const auto got = fast_encode(kernels, codec, x, vectors, 3);
      bytes += got.codes.size();
      different += differences(got.codes, expected.codes);
      for (std::size_t i = 0; i < got.scalars.size() / 2; ++i)
        CHECK(std::abs(half_at(got.scalars, i) - half_at(expected.scalars, i)) <= 1);
    }
    CHECK(static_cast<double>(different) <= 1e-4 * static_cast<double>(bytes));
  });
}

/// To the bit, from any bytes of codes.
void check_decoding(const Codecs& codecs) {
  for_every_isa([&](const Kernels& kernels) {
    for (const auto& codec : codecs.all()) {
      const std::string format = codec.format.describe();
      CAPTURE(format);
      CAPTURE(codec.dim);
      const int n = 9;
      Normal normal(22);
      auto encoded = reference_encode(codec, normal(size(n * codec.dim), 0.7f), n);
      if (codec.format.kind != Kind::plain)
        for (auto& byte : encoded.codes) byte = static_cast<std::byte>(normal.below(256));
      if (codec.format.kind != Kind::plain && codec.format.kind != Kind::affine &&
          codec.format.kind != Kind::rotated_affine)
        store(encoded.scalars.data(), std::uint16_t{0x0003});  // a subnormal f16, or a tiny bf16
      std::vector<float> x(size(n * codec.space()), -1.0f);
      kernels.attention.decode(codec, encoded.codes.data(), encoded.scalars.data(), n, x.data());
      const auto expected = reference_decode(codec, encoded, n);
      CHECK(std::memcmp(x.data(), expected.data(), 4 * x.size()) == 0);
    }
  });
}

Codecs codecs_of(void (*add)(Codecs&)) {
  Codecs codecs;
  add(codecs);
  return codecs;
}

}  // namespace

TEST_CASE("Fast encoding of plain and affine vectors writes the bytes of the scalar codec") {
  check_same_bytes(codecs_of(add_plain));
  check_same_bytes(codecs_of(add_affine));
}

TEST_CASE("Fast encoding of turboquant, whole and split, writes the bytes of the scalar codec but for rounding") {
  check_nearly_same_bytes(codecs_of(add_turboquant));
}

TEST_CASE("Fast encoding of trellis writes the bytes of the scalar codec but for rounding") {
  check_nearly_same_bytes(codecs_of(add_trellis));
}

TEST_CASE("Fast encoding with signs of S writes the bytes of the scalar codec but for rounding") {
  check_nearly_same_bytes(codecs_of(add_signs));
  check_nearly_same_bytes(codecs_of(add_sketch));
}

TEST_CASE("Fast polar encoding writes the bytes of the scalar codec but for rounding") {
  check_nearly_same_bytes(codecs_of(add_polar));
}

TEST_CASE("Fast decoding of plain and affine vectors gives the floats of the scalar codec to the bit, for any bytes") {
  check_decoding(codecs_of(add_plain));
  check_decoding(codecs_of(add_affine));
}

TEST_CASE("Fast decoding of turboquant, split and trellis gives the floats of the scalar codec to the bit") {
  check_decoding(codecs_of(add_turboquant));
  check_decoding(codecs_of(add_trellis));
}

TEST_CASE("Fast decoding of signs, sketches and polar angles gives the floats of the scalar codec to the bit") {
  check_decoding(codecs_of(add_signs));
  check_decoding(codecs_of(add_sketch));
  check_decoding(codecs_of(add_polar));
}

TEST_CASE("A vector's bytes do not depend on the vectors that are encoded with it") {
  Codecs codecs;
  for (const auto projection : both_projections) {
    auto format = format_of(Kind::prod, 3);
    format.projection = projection;
    codecs.add(format, 128);
    format.kind = Kind::signs;
    format.rows = 256;
    codecs.add(format, 128);
  }
  codecs.add(format_of(Kind::sketch, 3, 64), 128);
  codecs.add(format_of(Kind::polar, 4), 128);
  codecs.add(format_of(Kind::split, 3), 128);
  for_every_isa([&](const Kernels& kernels) {
    for (const auto& codec : codecs.all()) {
      const std::string format = codec.format.describe();
      CAPTURE(format);
      const int n = 7;  // one full batch of four and a part of one
      auto x = Normal(29)(size(n * codec.dim));
      std::fill_n(x.begin() + 2 * codec.dim, codec.dim, 0.0f);  // left to the scalar codec in the middle of a batch
      const auto together = fast_encode(kernels, codec, x, n, 0);
      for (int i = 0; i < n; ++i) {
        const std::vector<float> one(x.begin() + i * codec.dim, x.begin() + (i + 1) * codec.dim);
        const auto alone = fast_encode(kernels, codec, one, 1, 0);
        CHECK(std::memcmp(alone.codes.data(), together.codes.data() + size(i) * codec.code_bytes, codec.code_bytes) ==
              0);
        CHECK(std::memcmp(alone.scalars.data(), together.scalars.data() + size(i) * codec.scalar_bytes,
                          codec.scalar_bytes) == 0);
      }
    }
  });
}

TEST_CASE("The fast rotation is the scalar one and undoes itself, for every size and stride") {
  for_every_isa([](const Kernels& kernels) {
    for (const int dim : {16, 32, 64, 128, 256, 512, 1024}) {
      CAPTURE(dim);
      const int n = 3, stride = dim + 16;
      const auto signs = codec::rotation_signs(7, 3, 1, dim);
      auto x = Normal(23)(size(n * stride));
      const auto before = x;
      auto expected = doubles(x);
      for (int i = 0; i < n; ++i) {
        std::vector<float> row(x.begin() + i * stride, x.begin() + i * stride + dim);
        codec::rotate(row, signs);
        std::copy(row.begin(), row.end(), expected.begin() + i * stride);
      }
      kernels.attention.rotate(x.data(), stride, n, signs.data(), dim);
      CHECK(distance(x, expected) < 1e-6);
      kernels.attention.unrotate(x.data(), stride, n, signs.data(), dim);
      CHECK(distance(x, doubles(before)) < 2e-6);
    }
  });
}

}  // namespace tqkv::cpu
