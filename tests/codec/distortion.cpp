// Distortion of the codecs on random vectors. Expected figures: 200,000 to 400,000 vectors measured apart from this
// code, with the codebook of the sphere of each dimension; that of N(0,1) used here is within 0.4% of it.
#include <doctest/doctest.h>

#include <cmath>
#include <numbers>
#include <vector>

#include "codec/method.h"
#include "codec/rotation.h"
#include "codec/vectors.h"
#include "support/sanitized.h"

using namespace tqkv;

namespace {

struct Measured {
  double error = 0.0;    // mean ‖u - û‖², û the decoded vector divided by the norm of its input
  double product = 0.0;  // mean ⟨u,û⟩
  double cosine = 0.0;   // mean cosine of the angle between them
};

Measured measure(const SideFormat& format, int dim, int count, std::uint64_t seed, std::span<const float> signs = {}) {
  const codec::SideCodec codec = codec::side_codec(format, dim);
  test::Normal normal(seed);
  std::vector<float> y(static_cast<std::size_t>(dim)), back(y.size());
  std::vector<std::byte> codes(codec.code_bytes), scalars(codec.scalar_bytes);
  Measured sum;
  for (int i = 0; i < count; ++i) {
    normal.fill(y);
    if (!signs.empty()) codec::rotate(y, signs);
    codec::encode(codec, y, codes.data(), scalars.data());
    codec::decode(codec, codes.data(), scalars.data(), back);
    const double yy = test::dot(y, y), yb = test::dot(y, back), bb = test::dot(back, back);
    sum.error += (yy - 2.0 * yb + bb) / yy;
    sum.product += yb / yy;
    sum.cosine += yb / std::sqrt(yy * bb);
  }
  return {sum.error / count, sum.product / count, sum.cosine / count};
}

// Of codes of one bit, which only turboquant_prod stores, with any scalar.
double one_bit_distortion(KvScalar scalar, int dim, int count) {
  test::Normal normal(39);
  std::vector<std::uint8_t> index(static_cast<std::size_t>(dim));
  double error = 0.0;
  for (int i = 0; i < count; ++i) {
    const std::vector<float> y = normal.vector(dim);
    const codec::LloydMax sums = codec::lloyd_max(1, y, test::norm(y), index);
    const double cosine = sums.products / dim, square = sums.squares / dim;
    const double s = codec::stored_scalar(scalar, 1.0, cosine, square);
    error += 1.0 - 2.0 * s * cosine + s * s * square;
  }
  return error / count;
}

double upper_bound(int bits) {
  return std::numbers::sqrt3 * std::numbers::pi / 2.0 * std::pow(4.0, -bits);
}

}  // namespace

TEST_CASE("distortion at 128 channels is that of the published table, within one percent") {
  const double expected[] = {0.116020, 0.033974, 0.009317, 0.002452};
  for (int bits = 2; bits <= 5; ++bits) {
    CAPTURE(bits);
    const Measured measured = measure(test::turboquant(bits), 128, 20000, 31);
    CHECK(measured.error == doctest::Approx(expected[bits - 2]).epsilon(0.01));
    CHECK(measured.error < upper_bound(bits));
  }
}

TEST_CASE("distortion is the same behind signs and the Walsh-Hadamard transform") {
  const double expected[] = {0.116020, 0.033974, 0.009317};
  const std::vector<float> signs = codec::rotation_signs(0, 3, 0, 128);
  for (int bits = 2; bits <= 4; ++bits) {
    CAPTURE(bits);
    const Measured measured = measure(test::turboquant(bits), 128, 20000, 32, signs);
    CHECK(measured.error == doctest::Approx(expected[bits - 2]).epsilon(0.01));
    CHECK(measured.error < upper_bound(bits));
  }
}

TEST_CASE("distortion at 128 and 256 channels is that of the published table for each scalar, from 1 to 5 bits" *
          doctest::skip(test::sanitized)) {
  const struct {
    int dim;
    KvScalar scalar;
    double error[5];
  } expected[] = {{128, KvScalar::norm, {0.360848, 0.116020, 0.033974, 0.009317, 0.002452}},
                  {128, KvScalar::corrected, {0.401060, 0.118840, 0.033816, 0.009173, 0.002405}},
                  {128, KvScalar::best, {0.360499, 0.115242, 0.033520, 0.009151, 0.002403}},
                  {128, KvScalar::unbiased, {0.567153, 0.130596, 0.034726, 0.009240, 0.002409}},
                  {256, KvScalar::norm, {0.362113, 0.116731, 0.034270, 0.009403, 0.002480}},
                  {256, KvScalar::corrected, {0.402643, 0.119976, 0.034340, 0.009341, 0.002456}},
                  {256, KvScalar::best, {0.361937, 0.116343, 0.034040, 0.009319, 0.002455}},
                  {256, KvScalar::unbiased, {0.568973, 0.131836, 0.035262, 0.009409, 0.002461}}};
  for (const auto& row : expected) {
    CAPTURE(row.dim);
    CAPTURE(name(row.scalar));
    const int count = 640000 / row.dim;
    CHECK(one_bit_distortion(row.scalar, row.dim, count) == doctest::Approx(row.error[0]).epsilon(0.01));
    for (int bits = 2; bits <= 5; ++bits) {
      CAPTURE(bits);
      CHECK(measure(test::turboquant(bits, row.scalar), row.dim, count, 33).error ==
            doctest::Approx(row.error[bits - 1]).epsilon(0.01));
    }
  }
}

TEST_CASE("the channels of turboquant_prod are turboquant's of one bit less") {
  const double expected[] = {0.362113, 0.116731, 0.034270, 0.009403};
  for (int bits = 2; bits <= 5; ++bits) {
    CAPTURE(bits);
    test::Codecs codecs;
    const auto codec = codecs(test::prod(bits, Projection::orthogonal), 256);
    test::Normal normal(38);
    test::Mean error;
    for (int i = 0; i < 2000; ++i) {
      const std::vector<float> y = normal.vector(256), back = test::round_trip(codec, y);
      error.add(test::relative_error(y, std::span(back).first(256)));
    }
    CHECK(error.mean() == doctest::Approx(expected[bits - 2]).epsilon(0.01));
  }
}

TEST_CASE("mean cosines at 256 channels are those of the published table") {
  const double expected[] = {0.940012, 0.982830, 0.995329, 0.998772};
  for (int bits = 2; bits <= 5; ++bits)
    CHECK(1.0 - measure(test::turboquant(bits), 256, 4000, 34).cosine ==
          doctest::Approx(1.0 - expected[bits - 2]).epsilon(0.01));
}

TEST_CASE("the norm as scalar shrinks scores by one minus the distortion, the unbiased scalar does not") {
  for (int bits = 2; bits <= 5; ++bits) {
    CAPTURE(bits);
    const Measured norm = measure(test::turboquant(bits, KvScalar::norm), 256, 4000, 35);
    CHECK(1.0 - norm.product == doctest::Approx(norm.error).epsilon(0.03));
    const Measured unbiased = measure(test::turboquant(bits, KvScalar::unbiased), 256, 4000, 35);
    CHECK(std::abs(unbiased.product - 1.0) < 2e-5);
  }
}

TEST_CASE("every dimension divides its centroids by its own square root") {
  // With the square root of another dimension the distortion would be several times the table's.
  const double expected[4][4] = {{0.114526, 0.033391, 0.009132, 0.002399},
                                 {0.116000, 0.033966, 0.009315, 0.002451},
                                 {0.116740, 0.034256, 0.009408, 0.002478},
                                 {0.117482, 0.034548, 0.009501, 0.002505}};
  const int dims[] = {64, 128, 256, 1024};
  for (std::size_t d = 0; d < 4; ++d) {
    for (int bits = 2; bits <= 5; ++bits)
      CHECK(measure(test::turboquant(bits), dims[d], 200000 / dims[d], 36).error ==
            doctest::Approx(expected[d][bits - 2]).epsilon(0.03));
  }
}

TEST_CASE("distortion of rotated affine is a twelfth of the square of its step, within five percent") {
  // The mean square of the range of 32, 64 and 128 normal numbers.
  const struct {
    int group;
    double range_square;
  } rows[] = {{32, 17.57}, {64, 22.38}, {128, 27.44}};
  for (const auto& row : rows) {
    for (const int bits : {3, 4, 5, 6, 8}) {
      CAPTURE(row.group);
      CAPTURE(bits);
      const double step_square = row.range_square / std::pow((1 << bits) - 1, 2.0);
      CHECK(measure(test::affine(bits, true, row.group), 256, 4000, 37).error ==
            doctest::Approx(step_square / 12.0).epsilon(0.05));
    }
  }
}
