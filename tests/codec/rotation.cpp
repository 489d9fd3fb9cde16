#include "codec/rotation.h"

#include <doctest/doctest.h>

#include <bit>
#include <cmath>
#include <string>

#include "codec/vectors.h"

using namespace tqkv;
using namespace tqkv::codec;

namespace {

std::string signs_as_text(std::uint64_t seed, int layer, int head) {
  std::string text;
  for (const float sign : rotation_signs(seed, layer, head, 32)) text += sign > 0 ? '+' : '-';
  return text;
}

}  // namespace

TEST_CASE("the signs of the rotation are those of the hash in docs/formats.md") {
  CHECK(signs_as_text(0, 3, 0) == "++-+++-+++--+-+---+-+++-++-+-+-+");
  CHECK(signs_as_text(0, 3, 1) == "++-++---+--+--++--+++--+--+--+++");
  CHECK(signs_as_text(1, 3, 0) == "+--+-+--+--+---+-++--+--++---++-");
  CHECK(signs_as_text(12345678901234567890u, 39, 1) == "+-++-++++++-+-++----+--+-+---+-+");
  CHECK(rotation_sign(0, 0, 0, 0) == -1.0f);
  CHECK(rotation_sign(42, 39, 0, 128) == -1.0f);
  CHECK(rotation_sign(~std::uint64_t{0}, 7, 1, 17) == 1.0f);
}

TEST_CASE("signs are balanced and differ between seeds, layers and heads") {
  const int dim = 256;
  double sum = 0.0;
  std::vector<std::vector<float>> all;
  for (std::uint64_t seed = 0; seed < 3; ++seed) {
    for (int layer = 3; layer < 40; layer += 4) {
      for (int head = 0; head < 2; ++head) {
        all.push_back(rotation_signs(seed, layer, head, dim));
        for (const float sign : all.back()) sum += static_cast<double>(sign);
      }
    }
  }
  CHECK(std::abs(sum) < 4.0 * std::sqrt(static_cast<double>(all.size()) * dim));
  for (std::size_t a = 0; a < all.size(); ++a) {
    for (std::size_t b = a + 1; b < all.size(); ++b)
      CHECK(std::abs(test::dot(all[a], all[b])) < 5.5 * std::sqrt(double{dim}));
  }
}

TEST_CASE("the Walsh-Hadamard transform has the rows of its definition") {
  // H[i][j] = (-1)^popcount(i & j) / sqrt(d)
  const std::size_t dim = 64;
  for (std::size_t column = 0; column < dim; ++column) {
    std::vector<float> x(dim, 0.0f);
    x[column] = 1.0f;
    hadamard(x);
    for (std::size_t row = 0; row < dim; ++row)
      CHECK(x[row] == (std::popcount(row & column) % 2 == 0 ? 0.125f : -0.125f));
  }
}

TEST_CASE("rotation keeps norms and scalar products, and unrotation takes it back") {
  for (const int dim : {16, 32, 64, 128, 256, 512, 1024}) {
    REQUIRE(can_rotate(dim));
    test::Normal normal(static_cast<std::uint64_t>(dim));
    const std::vector<float> signs = rotation_signs(9, 11, 1, dim);
    const std::vector<float> x = normal.vector(dim), q = normal.vector(dim);
    std::vector<float> rotated_x = x, rotated_q = q;
    rotate(rotated_x, signs);
    rotate(rotated_q, signs);
    CHECK(test::norm(rotated_x) == doctest::Approx(test::norm(x)).epsilon(1e-6));
    CHECK(test::dot(rotated_x, rotated_q) == doctest::Approx(test::dot(x, q)).epsilon(1e-5));
    CHECK(test::relative_error(x, rotated_x) > 0.5);
    unrotate(rotated_x, signs);
    CHECK(test::relative_error(x, rotated_x) < 1e-12);
  }
}

TEST_CASE("only powers of two from 16 to 1024 can be rotated") {
  for (const int dim : {-64, -1, 0, 1, 8, 15, 17, 48, 80, 96, 192, 320, 1023, 2048}) CHECK_FALSE(can_rotate(dim));
}
