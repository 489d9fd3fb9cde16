#include "codec/sign_matrix.h"

#include <doctest/doctest.h>

#include <cmath>
#include <numbers>
#include <string>

#include "codec/rotation.h"
#include "codec/vectors.h"

using namespace tqkv;
using namespace tqkv::codec;

namespace {

std::vector<float> product(const SignMatrix& matrix, std::span<const float> x) {
  std::vector<float> out(static_cast<std::size_t>(matrix.rows()));
  matrix.multiply(x, out);
  return out;
}

std::vector<float> transposed_product(const SignMatrix& matrix, std::span<const float> z) {
  std::vector<float> out(static_cast<std::size_t>(matrix.dim()), 0.0f);
  matrix.add_transposed(z, out);
  return out;
}

std::vector<float> unit(int dim, int channel) {
  std::vector<float> x(static_cast<std::size_t>(dim), 0.0f);
  x[static_cast<std::size_t>(channel)] = 1.0f;
  return x;
}

}  // namespace

TEST_CASE("quantiles of the normal distribution are right to seven digits") {
  CHECK(normal_quantile(0.5) == 0.0);
  const struct {
    double p, z;
  } known[] = {{0.6, 0.253347103},   {0.925, 1.439531471}, {0.9251, 1.440237656}, {0.975, 1.959963985},
               {0.999, 3.090232306}, {1e-6, -4.753424309}, {1e-10, -6.361340902}, {1e-12, -7.034483825}};
  for (const auto& [p, z] : known) CHECK(normal_quantile(p) == doctest::Approx(z).epsilon(1e-6));
  for (int i = 1; i < 1000; ++i) {
    const double p = i / 1000.0, z = normal_quantile(p);
    CHECK(0.5 * std::erfc(-z / std::numbers::sqrt2) == doctest::Approx(p).epsilon(1e-6));
    CHECK(std::abs(normal_quantile(1.0 - p) + z) < 1e-6);
  }
}

TEST_CASE("Gaussian entries are those that docs/formats.md gives") {
  CHECK(matrix_hash(0, 0, 0) == 0x5385d77ff33b218du);
  CHECK(matrix_hash(42, 1023, 511) == 0xd512073d3c52e675u);
  CHECK(gaussian_entry(0, 0, 0) == -0.451171875f);
  CHECK(gaussian_entry(0, 0, 1) == 0.4453125f);
  CHECK(gaussian_entry(0, 1, 0) == 2.640625f);
  CHECK(gaussian_entry(0, 255, 255) == 1.0703125f);
  CHECK(gaussian_entry(1, 3, 17) == 0.56640625f);
  CHECK(gaussian_entry(42, 1023, 511) == 0.96484375f);
  CHECK(gaussian_entry(12345678901234567890u, 7, 200) == 0.494140625f);
  CHECK(gaussian_entry(~std::uint64_t{0}, 64, 0) == 0.5390625f);
}

TEST_CASE("Gaussian entries have the moments of N(0,1), within three standard errors") {
  test::Mean first, second, third, fourth, neighbours;
  for (int row = 0; row < 256; ++row) {
    for (int column = 0; column < 256; ++column) {
      const double x = static_cast<double>(gaussian_entry(7, row, column));
      first.add(x);
      second.add(x * x);
      third.add(x * x * x);
      fourth.add(x * x * x * x);
      neighbours.add(x * static_cast<double>(gaussian_entry(7, row, column + 1)));
    }
  }
  CHECK(std::abs(first.mean()) < 3.0 * first.error());
  CHECK(std::abs(second.mean() - 1.0) < 3.0 * second.error());
  CHECK(std::abs(third.mean()) < 3.0 * third.error());
  CHECK(std::abs(fourth.mean() - 3.0) < 3.0 * fourth.error());
  CHECK(std::abs(neighbours.mean()) < 3.0 * neighbours.error());
}

TEST_CASE("a Gaussian S is made of its entries, row by row") {
  const SignMatrix matrix(Projection::gaussian, 192, 80, 3);
  REQUIRE(matrix.values().size() == 192 * 80);
  for (int row = 0; row < 192; row += 7) {
    for (int column = 0; column < 80; ++column)
      CHECK(matrix.values()[static_cast<std::size_t>(row * 80 + column)] == gaussian_entry(3, row, column));
  }
  const std::vector<float> second = product(matrix, unit(80, 2));
  for (int row = 0; row < 192; ++row) CHECK(second[static_cast<std::size_t>(row)] == gaussian_entry(3, row, 2));
}

TEST_CASE("an orthogonal S is made of blocks of signs and a Walsh-Hadamard transform") {
  const auto text = [](std::uint64_t seed, int block) {
    const SignMatrix matrix(Projection::orthogonal, 256, 128, seed);
    std::string signs;
    for (std::size_t i = 0; i < 32; ++i)
      signs += matrix.values()[static_cast<std::size_t>(block) * 128 + i] > 0.0f ? '+' : '-';
    return signs;
  };
  CHECK(text(0, 0) == "++-++++++-+-+-+----+++---+-+-+-+");
  CHECK(text(0, 1) == "+---+++---------+---+----+-++---");
  CHECK(text(1, 0) == "--+-++-------+-+-++++--+----++-+");
  // Row 129 is row 1 of the second block: signs of alternating channels.
  const SignMatrix matrix(Projection::orthogonal, 256, 128, 0);
  const std::vector<float> row = transposed_product(matrix, unit(256, 129));
  for (std::size_t i = 0; i < 128; ++i)
    CHECK(row[i] ==
          doctest::Approx((i % 2 == 0 ? 1.0 : -1.0) * static_cast<double>(matrix.values()[128 + i]) / std::sqrt(128.0))
              .epsilon(1e-6));
}

TEST_CASE(
    "rows of an orthogonal S have norm 1 and those of one block are orthogonal, also where a block is cut short") {
  for (const int rows : {64, 128, 192, 256}) {
    CAPTURE(rows);
    const SignMatrix matrix(Projection::orthogonal, rows, 128, 11);
    std::vector<std::vector<float>> all;
    for (int row = 0; row < rows; ++row) all.push_back(transposed_product(matrix, unit(rows, row)));
    for (std::size_t a = 0; a < all.size(); ++a) {
      CHECK(test::dot(all[a], all[a]) == doctest::Approx(1.0).epsilon(1e-5));
      for (std::size_t b = a + 1; b < all.size(); ++b) {
        const double product = test::dot(all[a], all[b]);
        if (a / 128 == b / 128)
          CHECK(std::abs(product) < 1e-6);
        else
          CHECK(std::abs(product) < 6.0 / std::sqrt(128.0));  // blocks have nothing to do with each other
      }
    }
  }
}

TEST_CASE("multiplying by the transposed S is the adjoint of multiplying by S, and adds to what is there") {
  for (const Projection projection : {Projection::gaussian, Projection::orthogonal}) {
    for (const int rows : {64, 192, 256, 512}) {
      for (const int dim : {64, 256}) {
        const SignMatrix matrix(projection, rows, dim, 5);
        test::Normal normal(static_cast<std::uint64_t>(rows + dim));
        const std::vector<float> x = normal.vector(dim), z = normal.vector(rows), start = normal.vector(dim);
        const double forward = test::dot(product(matrix, x), z);
        const std::vector<float> back = transposed_product(matrix, z);
        CHECK(std::abs(test::dot(x, back) - forward) < 1e-5 * test::norm(x) * test::norm(back));
        std::vector<float> added = start;
        matrix.add_transposed(z, added);
        for (std::size_t i = 0; i < added.size(); ++i)
          CHECK(added[i] ==
                doctest::Approx(static_cast<double>(start[i]) + static_cast<double>(back[i])).epsilon(1e-3));
      }
    }
  }
}

TEST_CASE("the factor of S is sqrt(pi/2) over its rows, times sqrt(dim) where these have norm 1") {
  const double root = std::sqrt(std::numbers::pi / 2.0);
  CHECK(SignMatrix(Projection::gaussian, 256, 128, 0).factor() == doctest::Approx(root / 256.0).epsilon(1e-6));
  CHECK(SignMatrix(Projection::orthogonal, 256, 128, 0).factor() ==
        doctest::Approx(root * std::sqrt(128.0) / 256.0).epsilon(1e-6));
  CHECK(SignMatrix(Projection::orthogonal, 64, 256, 0).factor() == doctest::Approx(root * 16.0 / 64.0).epsilon(1e-6));
}
