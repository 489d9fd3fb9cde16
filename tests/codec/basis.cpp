// The basis of a side, and the split of channels into two parts.
#include "codec/basis.h"

#include <doctest/doctest.h>

#include <cmath>
#include <set>
#include <string>

#include "codec/rotation.h"
#include "codec/vectors.h"

using namespace tqkv;
using namespace tqkv::codec;

namespace {

std::vector<int> every_fourth(int dim) {
  std::vector<int> strong;
  for (int i = 3; i < dim; i += 4) strong.push_back(i);
  return strong;
}

Basis split_of(int dim) {
  return Basis::split(every_fourth(dim), 9, 3, 1, dim);
}

}  // namespace

TEST_CASE("the transform of order 12 is orthonormal, has entries of one size, and is taken back by its transpose") {
  std::vector<std::vector<float>> columns;
  for (std::size_t i = 0; i < 12; ++i) {
    std::vector<float> x(12, 0.0f);
    x[i] = 1.0f;
    hadamard12(x);
    for (const float value : x) CHECK(std::abs(value) == doctest::Approx(1.0 / std::sqrt(12.0)).epsilon(1e-6));
    for (std::size_t j = 0; j < columns.size(); ++j) CHECK(std::abs(test::dot(columns[j], x)) < 1e-6);
    columns.push_back(x);
    hadamard12_transposed(x);
    for (std::size_t j = 0; j < 12; ++j) CHECK(std::abs(x[j] - (i == j ? 1.0f : 0.0f)) < 1e-6f);
  }
  // Row 0 of Paley's matrix is all ones; below it column 0 is -1, and 1 and 3 are squares modulo 11.
  const auto sign = [&](std::size_t row, std::size_t column) { return columns[column][row] > 0.0f; };
  for (std::size_t i = 0; i < 12; ++i) CHECK(sign(0, i));
  for (std::size_t i = 1; i < 12; ++i) CHECK_FALSE(sign(i, 0));
  CHECK(sign(2, 1));
  CHECK(sign(4, 1));
  CHECK_FALSE(sign(3, 1));
  CHECK_FALSE(sign(1, 2));
}

TEST_CASE("the transform of 12 n channels is that of order 12 of Walsh-Hadamard transforms") {
  for (const int n : {2, 4, 8, 16, 64}) {
    const int dim = 12 * n;
    test::Normal normal(static_cast<std::uint64_t>(n));
    const std::vector<float> x = normal.vector(dim);
    std::vector<float> expected(x.size(), 0.0f), parts = x;
    for (int i = 0; i < 12; ++i)
      hadamard(std::span(parts).subspan(static_cast<std::size_t>(i * n), static_cast<std::size_t>(n)));
    for (int c = 0; c < n; ++c) {
      std::vector<float> column(12);
      for (int i = 0; i < 12; ++i) column[static_cast<std::size_t>(i)] = parts[static_cast<std::size_t>(i * n + c)];
      hadamard12(column);
      for (int i = 0; i < 12; ++i) expected[static_cast<std::size_t>(i * n + c)] = column[static_cast<std::size_t>(i)];
    }
    std::vector<float> y = x;
    hadamard12(y);
    CHECK(test::relative_error(expected, y) < 1e-12);
    CHECK(test::norm(y) == doctest::Approx(test::norm(x)).epsilon(1e-6));
    hadamard12_transposed(y);
    CHECK(test::relative_error(x, y) < 1e-12);
  }
}

TEST_CASE("every basis keeps scalar products and takes its map back") {
  for (const int dim : {64, 128, 256, 1024}) {
    const Basis bases[] = {Basis(), Basis::rotation(9, 3, 1, dim), split_of(dim)};
    for (const Basis& basis : bases) {
      test::Normal normal(71);
      const std::vector<float> x = normal.vector(dim), q = normal.vector(dim);
      std::vector<float> y = x, p = q;
      basis.apply(y);
      basis.apply(p);
      CHECK(test::dot(y, p) == doctest::Approx(test::dot(x, q)).epsilon(1e-4));
      CHECK((basis.kind() == Basis::Kind::identity ? test::relative_error(x, y) == 0.0
                                                   : test::relative_error(x, y) > 0.5));
      basis.revert(y);
      CHECK(test::relative_error(x, y) < 1e-12);
    }
  }
}

TEST_CASE("plain and affine sides keep their channels, the others rotate them as docs/formats.md says") {
  CHECK(Basis::of(test::plain(16), 0, 3, 0, 256).kind() == Basis::Kind::identity);
  CHECK(Basis::of(test::affine(4), 0, 3, 0, 96).kind() == Basis::Kind::identity);
  for (const SideFormat& format :
       {test::affine(4, true), test::turboquant(4), test::trellis(4, 4), test::prod(3, Projection::gaussian),
        test::qjl(256, Projection::orthogonal), test::polar(), test::sketch()}) {
    const Basis basis = Basis::of(format, 5, 3, 1, 64);
    REQUIRE(basis.kind() == Basis::Kind::rotation);
    test::Normal normal(72);
    std::vector<float> x = normal.vector(64), y = x;
    basis.apply(x);
    rotate(y, rotation_signs(5, 3, 1, 64));
    CHECK(x == y);
  }
}

TEST_CASE("a split puts the strong channels first, both parts in ascending order, and mixes no part with the other") {
  const Basis basis = split_of(64);
  const auto order = basis.order();
  REQUIRE(order.size() == 64);
  for (std::size_t i = 0; i < 16; ++i) CHECK(order[i] == static_cast<int>(4 * i + 3));
  CHECK(std::set<int>(order.begin(), order.end()).size() == 64);
  for (std::size_t i = 17; i < 64; ++i) CHECK(order[i - 1] < order[i]);
  for (const int channel : {3, 63, 0, 62}) {
    std::vector<float> x(64, 0.0f);
    x[static_cast<std::size_t>(channel)] = 1.0f;
    basis.apply(x);
    const bool strong = channel % 4 == 3;
    CHECK(test::norm(std::span(x).first(16)) == doctest::Approx(strong ? 1.0 : 0.0).epsilon(1e-5));
    CHECK(test::norm(std::span(x).subspan(16)) == doctest::Approx(strong ? 0.0 : 1.0).epsilon(1e-5));
  }
}

TEST_CASE("the signs of a split are those of the hash in docs/formats.md") {
  const auto text = [](std::span<const float> signs) {
    std::string out;
    for (const float sign : signs.first(32)) out += sign > 0.0f ? '+' : '-';
    return out;
  };
  const Basis basis = Basis::split(every_fourth(256), 0, 3, 0, 256);
  REQUIRE(basis.signs().size() == 64 + 2 * 192);
  CHECK(text(basis.signs()) == "-++----+--+++----++-++-++--+--++");
  CHECK(text(basis.signs().subspan(64)) == "+--++--+-+-+--++-+--++--+++++--+");
  CHECK(text(basis.signs().subspan(64 + 192)) == "-++-++++++-++---+----+++-+----+-");
}

TEST_CASE("the strongest quarter of the channels is chosen, the lower ones among equals") {
  std::vector<double> squares(16, 1.0);
  CHECK(strongest_channels(squares) == std::vector<int>{0, 1, 2, 3});
  squares[15] = 5.0;
  squares[7] = 9.0;
  CHECK(strongest_channels(squares) == std::vector<int>{0, 1, 7, 15});
  for (std::size_t i = 0; i < 16; ++i) squares[i] = static_cast<double>(i);
  CHECK(strongest_channels(squares) == std::vector<int>{12, 13, 14, 15});
  CHECK(strongest_channels(std::vector<double>(64, 0.0)).size() == 16);
}

TEST_CASE("each part of a split has the distortion of its own dimension") {
  // With the square root of the whole dimension the first part would have 0.133 and 0.067, the other 0.038 and 0.011.
  const double quarter[] = {0.033391, 0.009132, 0.002399};  // 64 channels of 3, 4, 5 bits
  const double rest[] = {0.11637, 0.03411, 0.009362};       // 192 channels of 2, 3, 4 bits: between 128 and 256
  for (int bits = 2; bits <= 4; ++bits) {
    CAPTURE(bits);
    const auto codec = side_codec(test::split(bits), 256);
    test::Normal normal(73);
    test::Mean first, second;
    for (int i = 0; i < 4000; ++i) {
      std::vector<float> y = normal.vector(256);
      for (std::size_t c = 0; c < 64; ++c) y[c] *= 20.0f;  // each part has a norm of its own
      const std::vector<float> back = test::round_trip(codec, y);
      first.add(test::relative_error(std::span(y).first(64), std::span(back).first(64)));
      second.add(test::relative_error(std::span(y).subspan(64), std::span(back).subspan(64)));
    }
    const auto b = static_cast<std::size_t>(bits - 2);
    CHECK(first.mean() == doctest::Approx(quarter[b]).epsilon(0.015));
    CHECK(second.mean() == doctest::Approx(rest[b]).epsilon(0.01));
  }
}

TEST_CASE("two rounds of the split's transform leave no trace of a single channel") {
  const Basis basis = split_of(256);
  double largest = 0.0;
  for (int channel = 0; channel < 256; ++channel) {
    if (channel % 4 == 3) continue;
    std::vector<float> x(256, 0.0f);
    x[static_cast<std::size_t>(channel)] = 1.0f;
    basis.apply(x);
    for (const float value : x) largest = std::max(largest, static_cast<double>(std::abs(value)));
  }
  CHECK(largest < 6.0 / std::sqrt(192.0));  // as of 36,864 normal numbers
}
