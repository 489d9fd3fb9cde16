#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <numbers>
#include <vector>

#include "base/float16.h"
#include "codec/polarquant/angles.h"
#include "codec/vectors.h"

using namespace tqkv;

namespace {

// Lloyd's iteration for the density sin^power(2 psi) on [0, pi/2], by the midpoint rule in each cell.
std::array<double, 4> lloyd_max_of_angles(int power) {
  constexpr int steps = 500;
  std::array<double, 4> centroid{0.3, 0.6, 0.9, 1.2};
  for (double change = 1.0; change > 1e-9;) {
    change = 0.0;
    std::array<double, 4> next{};
    for (std::size_t i = 0; i < 4; ++i) {
      const double from = i == 0 ? 0.0 : 0.5 * (centroid[i - 1] + centroid[i]);
      const double to = i == 3 ? std::numbers::pi / 2.0 : 0.5 * (centroid[i] + centroid[i + 1]);
      double mass = 0.0, moment = 0.0;
      for (int step = 0; step < steps; ++step) {
        const double psi = from + (to - from) * (step + 0.5) / steps, density = std::pow(std::sin(2.0 * psi), power);
        mass += density;
        moment += density * psi;
      }
      next[i] = moment / mass;
      change = std::max(change, std::abs(next[i] - centroid[i]));
    }
    centroid = next;
  }
  return centroid;
}

}  // namespace

TEST_CASE("the centroids of polar angles are fixed points of Lloyd's iteration for their densities") {
  for (std::size_t level = 2; level <= 4; ++level) {
    CAPTURE(level);
    const auto expected = lloyd_max_of_angles((1 << (level - 1)) - 1);
    for (std::size_t i = 0; i < 4; ++i) {
      CHECK(std::abs(codec::polar_centroids[level - 2][i] - expected[i]) < 1e-4);
      CHECK(std::abs(codec::polar_centroids[level - 2][i] + codec::polar_centroids[level - 2][3 - i] -
                     std::numbers::pi / 2.0) < 2e-5);
    }
  }
}

TEST_CASE("the distortion of polar coding is 0.0321 a channel of unit variance, in every dimension") {
  for (const int dim : {64, 128, 256, 1024}) {
    CAPTURE(dim);
    const auto codec = codec::side_codec(test::polar(), dim);
    test::Normal normal(61);
    double errors = 0.0;
    const int count = 500000 / dim;
    for (int i = 0; i < count; ++i) {
      const std::vector<float> y = normal.vector(dim);
      errors += test::relative_error(y, test::round_trip(codec, y)) * test::dot(y, y) / dim;
    }
    CHECK(errors / count == doctest::Approx(0.0321).epsilon(0.01));
  }
}

TEST_CASE("a polar block holds its angles level by level, and its radius") {
  const auto codec = codec::side_codec(test::polar(), 64);
  for (const bool rising : {true, false}) {  // at each level the second radius is ten times the first, or a tenth of it
    std::vector<float> y(64, 0.0f);
    for (std::size_t i = 0; i < 64; i += 2) {
      const int tens = std::popcount(i / 2 % 8);
      y[i] = static_cast<float>(std::pow(10.0, rising ? tens : 3 - tens));
    }
    const test::Encoded stored = test::encoded(codec, y);
    REQUIRE(stored.codes.size() == 23);  // 16 bytes of level 1, 4, 2 and 1 of the others
    REQUIRE(stored.scalars.size() == 8);
    for (std::size_t i = 0; i < 16; ++i) CHECK(std::to_integer<int>(stored.codes[i]) == 0);
    for (std::size_t i = 16; i < 23; ++i) CHECK(std::to_integer<int>(stored.codes[i]) == (rising ? 0xff : 0));
    for (std::size_t i = 0; i < 4; ++i)
      CHECK(f16_to_f32(load<std::uint16_t>(stored.scalars.data() + 2 * i)) ==
            doctest::Approx(std::pow(101.0, 1.5)).epsilon(1e-3));
    for (int bin = 0; bin < 16; ++bin) {  // the first pair of block 1, turned to the angle of each bin
      const double angle = (bin + 0.5) * std::numbers::pi / 8.0, radius = rising ? 1.0 : 1000.0;
      y[16] = static_cast<float>(radius * std::cos(angle));
      y[17] = static_cast<float>(radius * std::sin(angle));
      CHECK(std::to_integer<int>(test::encoded(codec, y).codes[4]) == bin);
    }
  }
}

TEST_CASE("angles on the axes and on the edges of bins decode next to where they were") {
  const auto codec = codec::side_codec(test::polar(), 64);
  for (int sixteenth = 0; sixteenth < 16; ++sixteenth) {
    const double angle = sixteenth * std::numbers::pi / 8.0;
    std::vector<float> y(64);
    for (std::size_t i = 0; i < 64; i += 2) {
      y[i] = static_cast<float>(std::cos(angle));
      y[i + 1] = static_cast<float>(std::sin(angle));
    }
    // Half a bin of level 1, and the nearest of the centroids to pi/4 at the others.
    CHECK(test::relative_error(y, test::round_trip(codec, y)) < 0.11);
  }
}

TEST_CASE("a block keeps its norm, whatever its angles are") {
  const auto codec = codec::side_codec(test::polar(), 256);
  test::Normal normal(62);
  for (int i = 0; i < 20; ++i) {
    const std::vector<float> y = normal.vector(256), back = test::round_trip(codec, y);
    for (std::size_t block = 0; block < 256; block += 16)
      CHECK(test::norm(std::span(back).subspan(block, 16)) ==
            doctest::Approx(test::norm(std::span(y).subspan(block, 16))).epsilon(1e-3));
  }
}
