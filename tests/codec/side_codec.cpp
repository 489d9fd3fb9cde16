#include "codec/side_codec.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>

#include "base/float16.h"
#include "codec/codebook.h"
#include "codec/rotation.h"
#include "codec/vectors.h"
#include "tqkv/error.h"

using namespace tqkv;
using namespace tqkv::codec;

namespace {

const KvScalar all_scalars[] = {KvScalar::norm, KvScalar::corrected, KvScalar::unbiased, KvScalar::best};

std::vector<SideFormat> rotated_formats() {
  std::vector<SideFormat> formats;
  for (const int bits : {2, 3, 4, 5, 6, 8}) formats.push_back(test::affine(bits, true));
  for (const KvScalar scalar : all_scalars) {
    for (int bits = 2; bits <= 5; ++bits) formats.push_back(test::turboquant(bits, scalar));
    for (int bits = 2; bits <= 4; ++bits) formats.push_back(test::split(bits, scalar));
  }
  formats.insert(formats.end(), {test::trellis(2, 16), test::trellis(3, 8), test::trellis(4, 4, KvScalar::best),
                                 test::trellis(5, 2), test::trellis(5, 8)});
  for (const Projection projection : {Projection::gaussian, Projection::orthogonal}) {
    for (int bits = 2; bits <= 5; ++bits) formats.push_back(test::prod(bits, projection));
    for (const int rows : {64, 256, 320}) formats.push_back(test::qjl(rows, projection));
  }
  formats.push_back(test::polar());
  for (const int bits : {2, 3, 8}) formats.push_back(test::sketch(bits));
  return formats;
}

std::vector<SideFormat> all_formats() {
  std::vector<SideFormat> formats = rotated_formats();
  for (const int bits : {2, 3, 4, 5, 6, 8}) formats.push_back(test::affine(bits));
  formats.insert(formats.end(), {test::plain(16), test::plain(32)});
  return formats;
}

float scalar_of(const test::Encoded& e) {
  return f16_to_f32(load<std::uint16_t>(e.scalars.data()));
}

bool finite(std::span<const float> x) {
  return std::all_of(x.begin(), x.end(), [](float value) { return std::isfinite(value); });
}

// Distortion of the Lloyd-Max codebooks of N(0,1).
double lloyd_max_distortion(int bits) {
  switch (bits) {
    case 2:
      return 0.117482;
    case 3:
      return 0.034548;
    case 4:
      return 0.009501;
    default:
      return 0.002505;
  }
}

std::string refusal(const SideFormat& format, int dim) {
  try {
    side_codec(format, dim);
  } catch (const Error& error) {
    CHECK(error.kind() == ErrorKind::format);
    return error.what();
  }
  return {};
}

}  // namespace

TEST_CASE("the bytes of a vector are its bits a channel and its scalars, at every dimension") {
  for (const int dim : {64, 128, 256}) {
    CAPTURE(dim);
    const auto d = static_cast<std::size_t>(dim);
    CHECK(side_codec(test::plain(16), dim).vector_bytes() == 2 * d);
    CHECK(side_codec(test::plain(32), dim).vector_bytes() == 4 * d);
    for (const std::size_t b : {2u, 3u, 4u, 5u, 6u, 8u}) {
      for (const std::size_t group : {32u, 64u, 128u}) {
        if (d % group != 0) continue;
        const int bits = static_cast<int>(b);
        for (const bool rotated : {false, true}) {
          const SideFormat format = test::affine(bits, rotated, static_cast<int>(group));
          CHECK(side_codec(format, dim).code_bytes == d * b / 8);
          CHECK(side_codec(format, dim).scalar_bytes == 4 * d / group);
          CHECK(bits_per_value(format, dim) == bits + 32.0 / static_cast<double>(group));
        }
        const SideCodec sketch = side_codec(test::sketch(bits, static_cast<int>(group)), dim);
        CHECK(sketch.code_bytes == d * b / 8 + d / 8);
        CHECK(sketch.scalar_bytes == 4 * d / group + 2);
      }
    }
    for (int bits = 2; bits <= 5; ++bits) {
      const auto b = static_cast<std::size_t>(bits);
      for (const KvScalar scalar : all_scalars) {
        const SideCodec codec = side_codec(test::turboquant(bits, scalar), dim);
        CHECK(codec.code_bytes == d * b / 8);
        CHECK(codec.scalar_bytes == 2);
        CHECK(bits_per_value(codec.format, dim) == bits + 16.0 / dim);
      }
      const SideCodec prod = side_codec(test::prod(bits, Projection::gaussian), dim);
      CHECK(prod.code_bytes == d * b / 8);
      CHECK(prod.scalar_bytes == 4);
      const SideCodec trellis = side_codec(test::trellis(bits, bits == 5 ? 4 : 8), dim);
      CHECK(trellis.code_bytes == d * b / 8);
      CHECK(trellis.scalar_bytes == 2);
      if (bits == 5) continue;
      const SideCodec split = side_codec(test::split(bits), dim);
      CHECK(split.code_bytes == d / 4 * (b + 1) / 8 + d / 4 * 3 * b / 8);
      CHECK(split.scalar_bytes == 4);
    }
    for (const std::size_t rows : {64u, 256u, 1024u}) {
      const SideCodec qjl = side_codec(test::qjl(static_cast<int>(rows), Projection::orthogonal), dim);
      CHECK(qjl.code_bytes == rows / 8);
      CHECK(qjl.scalar_bytes == 2);
    }
    CHECK(side_codec(test::polar(), dim).code_bytes == d / 16 * 46 / 8);
    CHECK(side_codec(test::polar(), dim).scalar_bytes == d / 16 * 2);
    CHECK(bits_per_value(test::polar(), dim) == 3.875);
  }
  // The published sizes of one vector of 256 channels.
  CHECK(side_codec(test::qjl(256, Projection::orthogonal), 256).vector_bytes() == 34);
  CHECK(side_codec(test::sketch(3), 256).vector_bytes() == 146);
  CHECK(side_codec(test::polar(), 256).vector_bytes() == 124);
  CHECK(side_codec(test::affine(4, false, 32), 256).vector_bytes() == 160);
  CHECK(bits_per_value(test::prod(4, Projection::gaussian), 256) == 4.125);
  CHECK(bits_per_value(test::split(2), 256) == 2.375);
  CHECK(bits_per_value(test::split(3), 256) == 3.375);
}

TEST_CASE("a decoded vector has its channels, and behind them as many numbers as there are signs of S") {
  for (const SideFormat& format : all_formats()) {
    CAPTURE(format.describe());
    const SideCodec codec = side_codec(format, 128);
    switch (format.kind) {
      case SideFormat::Kind::signs:
        CHECK(codec.direct == 0);
        CHECK(codec.signs == format.rows);
        break;
      case SideFormat::Kind::prod:
      case SideFormat::Kind::sketch:
        CHECK(codec.direct == 128);
        CHECK(codec.signs == 128);
        break;
      default:
        CHECK(codec.direct == 128);
        CHECK(codec.signs == 0);
        break;
    }
    CHECK(codec.space() == codec.direct + codec.signs);
  }
}

TEST_CASE("a format refuses the dimensions and bits that it cannot store, and says which it can") {
  const std::string rotation = "a power of two from 16 to 1024, for the rotation";
  for (const SideFormat& format : all_formats()) {
    CAPTURE(format.describe());
    for (const int dim : {64, 128, 256}) CHECK(refusal(format, dim).empty());
    if (format.rotated())
      CHECK(refusal(format, 96).find("the vectors have 96 channels, expected " + rotation) != std::string::npos);
    else if (format.kind == SideFormat::Kind::affine)
      CHECK(refusal(format, 96).find("a multiple of its group of 64") != std::string::npos);
    else
      CHECK(refusal(format, 96).empty());
    for (const int dim : {0, -256, 4096}) CHECK_FALSE(refusal(format, dim).empty());
  }
  CHECK(refusal(test::affine(3, false, 32), 96).empty());
  CHECK(refusal(test::affine(4), 192).empty());
  CHECK(refusal(test::plain(16), 80).empty());
  CHECK(refusal(test::turboquant(4), 16).empty());
  CHECK(refusal(test::affine(5, true, 128), 64).find("a multiple of its group of 128") != std::string::npos);
  CHECK(refusal(test::affine(4, true), 32).find("group") != std::string::npos);
  CHECK(refusal(test::affine(4, false, 16), 256).find("a group of 16 was asked for, there are 32, 64 and 128") !=
        std::string::npos);
  CHECK(refusal(test::sketch(3, 64), 192).find(rotation) != std::string::npos);
  CHECK(refusal(test::sketch(3, 128), 64).find("group of 128") != std::string::npos);
  CHECK(refusal(test::polar(), 32).find("64 or more") != std::string::npos);
  CHECK(refusal(test::split(3), 32).find("64 or more") != std::string::npos);

  for (const int bits : {1, 7, 9}) {
    CHECK(refusal(test::affine(bits), 128).find("2, 3, 4, 5, 6 and 8") != std::string::npos);
    CHECK(refusal(test::sketch(bits), 128).find("2, 3, 4, 5, 6 and 8") != std::string::npos);
  }
  for (const int bits : {1, 6}) {
    CHECK(refusal(test::turboquant(bits), 128).find("2 to 5") != std::string::npos);
    CHECK(refusal(test::prod(bits, Projection::gaussian), 128).find("2 to 5") != std::string::npos);
  }
  for (const int bits : {1, 5}) CHECK(refusal(test::split(bits), 128).find("2 to 4") != std::string::npos);
  CHECK(refusal(test::plain(8), 128).find("16 and 32") != std::string::npos);
  for (const int rows : {0, 32, 100, 1088})
    CHECK(refusal(test::qjl(rows, Projection::orthogonal), 128).find("multiples of 64 up to 1024") !=
          std::string::npos);
}

TEST_CASE("plain sides store bf16 or f32, little endian") {
  const std::vector<float> x{1.0f, -2.5f, 0.0f, 3.1415927f};
  const SideCodec bf16 = side_codec(test::plain(16), 4), f32 = side_codec(test::plain(32), 4);
  const test::Encoded stored = test::encoded(bf16, x);
  CHECK(stored.codes == std::vector<std::byte>{std::byte{0x80}, std::byte{0x3f}, std::byte{0x20}, std::byte{0xc0},
                                               std::byte{0}, std::byte{0}, std::byte{0x49}, std::byte{0x40}});
  CHECK(test::decoded(bf16, stored) == std::vector<float>{1.0f, -2.5f, 0.0f, 3.140625f});
  CHECK(test::round_trip(f32, x) == x);
}

TEST_CASE("a turboquant vector holds the nearest centroids of y / norm and the chosen scalar") {
  test::Normal normal(21);
  const int dim = 128;
  const std::vector<float> y = normal.vector(dim);
  const double n = test::norm(y), root = std::sqrt(double{dim});
  for (int bits = 2; bits <= 5; ++bits) {
    const auto table = centroids(bits);
    std::vector<float> unit(y.size());  // ũ
    for (std::size_t i = 0; i < y.size(); ++i) {
      const double z = static_cast<double>(y[i]) * root / n;
      const auto nearest = std::min_element(table.begin(), table.end(), [&](float a, float b) {
        return std::abs(static_cast<double>(a) - z) < std::abs(static_cast<double>(b) - z);
      });
      unit[i] = static_cast<float>(static_cast<double>(*nearest) / root);
    }
    const double cosine = test::dot(y, unit) / n, square = test::dot(unit, unit);
    const double expected[] = {n, n / std::sqrt(square), n / cosine, n * cosine / square};
    for (std::size_t s = 0; s < 4; ++s) {
      const SideCodec codec = side_codec(test::turboquant(bits, all_scalars[s]), dim);
      const test::Encoded stored = test::encoded(codec, y);
      CHECK(load<std::uint16_t>(stored.scalars.data()) == f32_to_f16(static_cast<float>(expected[s])));
      const std::vector<float> back = test::decoded(codec, stored);
      for (std::size_t i = 0; i < y.size(); ++i)
        CHECK(back[i] ==
              doctest::Approx(static_cast<double>(unit[i]) * static_cast<double>(scalar_of(stored))).epsilon(1e-5));
    }
  }
}

TEST_CASE("each scalar does what its name says") {
  test::Normal normal(22);
  for (int bits = 2; bits <= 5; ++bits) {
    const std::vector<float> y = normal.vector(256);
    const auto back = [&](KvScalar scalar) {
      return test::round_trip(side_codec(test::turboquant(bits, scalar), 256), y);
    };
    CHECK(test::norm(back(KvScalar::corrected)) == doctest::Approx(test::norm(y)).epsilon(1e-3));
    CHECK(test::dot(y, back(KvScalar::unbiased)) == doctest::Approx(test::dot(y, y)).epsilon(1e-3));
    const double best = test::relative_error(y, back(KvScalar::best));
    for (const KvScalar other : all_scalars) CHECK(best <= test::relative_error(y, back(other)) + 1e-6);
  }
}

TEST_CASE("encoding a decoded turboquant vector gives the same indices") {
  test::Normal normal(23);
  for (int bits = 2; bits <= 5; ++bits) {
    const SideCodec codec = side_codec(test::turboquant(bits, KvScalar::corrected), 256);
    for (int i = 0; i < 50; ++i) {
      const test::Encoded first = test::encoded(codec, normal.vector(256));
      CHECK(test::encoded(codec, test::decoded(codec, first)).codes == first.codes);
    }
  }
}

TEST_CASE("a zero vector decodes to zeros in every format") {
  const std::vector<float> zero(256, 0.0f), negative_zero(256, -0.0f);
  test::Codecs codecs;
  for (const SideFormat& format : all_formats()) {
    CAPTURE(format.describe());
    const SideCodec codec = codecs(format, 256);
    for (const std::vector<float>& x : {zero, negative_zero}) {
      for (const float value : test::round_trip(codec, x)) CHECK(value == 0.0f);
    }
    if (format.kind == SideFormat::Kind::turboquant) {
      const test::Encoded stored = test::encoded(codec, zero);
      CHECK(load<std::uint16_t>(stored.scalars.data()) == 0);
      // Index 2^(bits-1) - 1 everywhere: planes of 1, 3, 7 and 15, and no top bit.
      const int low[] = {0x55, 0xff, 0x77, 0xff};
      CHECK(std::to_integer<int>(stored.codes.front()) == low[format.bits - 2]);
      CHECK(std::to_integer<int>(stored.codes.back()) == (format.bits % 2 == 0 ? low[format.bits - 2] : 0));
    }
  }
}

TEST_CASE("norms at the ends of f16 and f32 never give a number that is not finite") {
  test::Normal normal(24);
  test::Codecs codecs;
  const std::vector<float> direction = normal.vector(256);
  std::vector<SideCodec> every;
  for (const SideFormat& format : rotated_formats()) every.push_back(codecs(format, 256));
  for (const float size : {1e-45f, 1e-42f, 1e-38f, 1e-30f, 1e-20f, 1e-10f, 5.9e-8f, 1e-6f, 6.1e-5f, 1.0f, 4000.0f,
                           4094.0f, 4100.0f, 1e5f, 1e10f, 1e20f, 1e30f, 1e36f}) {
    std::vector<float> y = direction;
    const double largest = static_cast<double>(std::abs(*std::max_element(y.begin(), y.end())));
    for (float& value : y) value = static_cast<float>(static_cast<double>(value) * static_cast<double>(size) / largest);
    const double n = test::norm(y);
    for (const SideCodec& codec : every) {
      const SideFormat& format = codec.format;
      CAPTURE(format.describe());
      CAPTURE(size);
      const std::vector<float> back = test::round_trip(codec, y);
      CHECK(finite(back));
      if (format.kind != SideFormat::Kind::turboquant) continue;
      if (n > 7e-5 && n < 50000.0)
        CHECK(test::relative_error(y, back) < 1.5 * lloyd_max_distortion(format.bits) + 1e-6);
      if (n < 1e-8) CHECK(test::norm(back) == 0.0);                        // below half the smallest f16
      if (n > 1e5) CHECK(scalar_of(test::encoded(codec, y)) == 65504.0f);  // saturated, not infinite
    }
  }
}

TEST_CASE("a norm at the largest f16 is stored without becoming infinite") {
  for (const float n : {65472.0f, 65504.0f, 65519.0f, 65520.0f, 65536.0f}) {
    std::vector<float> y(16, 0.0f);
    for (float& value : y) value = n / 4.0f;
    const test::Encoded stored = test::encoded(side_codec(test::turboquant(4), 16), y);
    CHECK(scalar_of(stored) == std::min(n, 65504.0f));
  }
}

TEST_CASE("inputs made to defeat the rotation stay below three times the distortion of a random vector") {
  const int dim = 256;
  const auto d = static_cast<std::size_t>(dim);
  std::vector<std::vector<float>> inputs;
  for (std::size_t i = 0; i < d; i += 5) {  // one channel, two channels, a Hadamard row
    std::vector<float> one(d, 0.0f), two(d, 0.0f), row(d, 0.0f);
    one[i] = 1.0f;
    two[i] = two[(i * 7 + 3) % d] = 1.0f;
    row[i] = 1.0f;
    hadamard(row);
    inputs.insert(inputs.end(), {one, two, row});
  }
  inputs.emplace_back(d, 1.0f);
  inputs.emplace_back(d, -3.0f);
  for (std::size_t period = 1; period <= 128; period *= 2) {
    std::vector<float> pattern(d);
    for (std::size_t i = 0; i < d; ++i) pattern[i] = i / period % 2 == 0 ? 1.0f : -1.0f;
    inputs.push_back(pattern);
  }
  test::Normal normal(25);
  for (int i = 0; i < 10; ++i) {  // strong channels in a normal vector
    std::vector<float> spiked = normal.vector(dim);
    for (int j = 0; j <= i % 4; ++j) spiked[normal.bits() % d] *= 30.0f;
    inputs.push_back(spiked);
  }
  test::Codecs codecs;
  std::vector<SideCodec> every;
  std::vector<double> bounds;
  const auto add = [&](const SideFormat& format, double distortion, double times = 3.0) {
    every.push_back(codecs(format, dim));
    bounds.push_back(times * distortion);  // of a random vector
  };
  for (int bits = 2; bits <= 5; ++bits) add(test::turboquant(bits), lloyd_max_distortion(bits));
  for (int bits = 3; bits <= 5; ++bits)
    add(test::prod(bits, Projection::orthogonal), 0.571 * lloyd_max_distortion(bits - 1));
  add(test::trellis(2, 16), 0.0791);
  add(test::trellis(3, 8), 0.0213);
  add(test::trellis(4, 4), 0.0059);
  add(test::trellis(5, 2), 0.00186);
  add(test::polar(), 0.0321, 5.0);  // channels of equal magnitude lie on the edges of its bins
  add(test::affine(4, true), 0.0083);
  add(test::sketch(3), 0.0217);
  add(test::qjl(dim, Projection::orthogonal), 0.571);
  for (const int layer : {3, 7, 39}) {
    for (int head = 0; head < 2; ++head) {
      const std::vector<float> signs = rotation_signs(0, layer, head, dim);
      for (std::vector<float> y : inputs) {
        rotate(y, signs);
        for (std::size_t i = 0; i < every.size(); ++i) {
          CAPTURE(every[i].format.describe());
          CHECK(test::relative_error(y, test::lowered(every[i], test::round_trip(every[i], y))) < bounds[i]);
        }
      }
    }
  }
}

TEST_CASE("scores and outputs in the rotated basis are those of the vectors rotated back") {
  const int dim = 256, tokens = 40;
  test::Normal normal(26);
  const std::vector<float> signs = rotation_signs(5, 3, 1, dim);
  test::Codecs codecs;
  for (const SideFormat& format : rotated_formats()) {
    if (format.kind == SideFormat::Kind::split) continue;  // has a basis of its own: tests/codec/basis.cpp
    CAPTURE(format.describe());
    const SideCodec codec = codecs(format, dim);
    const std::vector<float> query = normal.vector(dim);
    std::vector<float> rotated_query = query;
    rotate(rotated_query, signs);
    std::vector<double> output(static_cast<std::size_t>(dim), 0.0);
    std::vector<float> sum(static_cast<std::size_t>(codec.space()), 0.0f);
    const std::vector<float> lifted_query = test::lifted(codec, rotated_query);
    for (int t = 0; t < tokens; ++t) {
      std::vector<float> y = normal.vector(dim);
      rotate(y, signs);
      const std::vector<float> stored = test::round_trip(codec, y);
      std::vector<float> back = test::lowered(codec, stored);
      unrotate(back, signs);
      CHECK(std::abs(test::dot(lifted_query, stored) - test::dot(query, back)) <
            1e-5 * test::norm(query) * test::norm(back));
      const float weight = 1.0f / static_cast<float>(t + 1);
      for (std::size_t i = 0; i < back.size(); ++i)
        output[i] += static_cast<double>(weight) * static_cast<double>(back[i]);
      for (std::size_t i = 0; i < stored.size(); ++i) sum[i] += weight * stored[i];
    }
    std::vector<float> rotated_output = test::lowered(codec, sum);  // the sum is lowered once
    unrotate(rotated_output, signs);
    std::vector<float> expected(output.begin(), output.end());
    CHECK(test::relative_error(expected, rotated_output) < 1e-10);
  }
}
