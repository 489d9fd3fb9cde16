#include "codec/codebook.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <numbers>
#include <vector>

using namespace tqkv::codec;

namespace {

double density(double t) {
  return std::exp(-0.5 * t * t) / std::sqrt(2.0 * std::numbers::pi);
}
double tail(double t) {
  return 0.5 * std::erfc(t / std::numbers::sqrt2);
}

// Lloyd's iteration on all 2^bits centroids: mean of N(0,1) between midpoints, from evenly spaced ones.
std::vector<double> lloyd_max(int bits) {
  const std::size_t n = std::size_t{1} << bits;
  std::vector<double> centroid(n);
  for (std::size_t i = 0; i < n; ++i)
    centroid[i] = -3.5 + 7.0 * (static_cast<double>(i) + 0.5) / static_cast<double>(n);
  double change = 1.0;
  while (change > 1e-12) {
    change = 0.0;
    std::vector<double> next(n);
    for (std::size_t i = 0; i < n; ++i) {
      const double infinity = std::numeric_limits<double>::infinity();
      const double a = i == 0 ? -infinity : 0.5 * (centroid[i - 1] + centroid[i]);
      const double b = i + 1 == n ? infinity : 0.5 * (centroid[i] + centroid[i + 1]);
      next[i] = (density(a) - density(b)) / (tail(a) - tail(b));
      change = std::max(change, std::abs(next[i] - centroid[i]));
    }
    centroid = next;
  }
  return centroid;
}

// docs/formats.md; published to six digits.
const std::map<int, std::vector<double>> printed{
    {1, {0.797885}},
    {2, {0.452780, 1.510418}},
    {3, {0.245094, 0.756005, 1.343909, 2.151946}},
    {4, {0.128395, 0.388048, 0.656759, 0.942340, 1.256231, 1.618046, 2.069017, 2.732590}},
    {5,
     {0.065890, 0.198052, 0.331378, 0.466700, 0.604934, 0.747136, 0.894565, 1.048783, 1.211804, 1.386340, 1.576228,
      1.787233, 2.028728, 2.317739, 2.691120, 3.260732}}};

const std::map<int, std::vector<double>> printed_thresholds{
    {2, {0.981599}},
    {3, {0.500550, 1.049957, 1.747927}},
    {4, {0.258222, 0.522404, 0.799550, 1.099286, 1.437139, 1.843532, 2.400803}}};

}  // namespace

TEST_CASE("the codebooks are fixed points of Lloyd's iteration for N(0,1)") {
  for (int bits = 1; bits <= 5; ++bits) {
    const std::vector<double> expected = lloyd_max(bits);
    const auto table = centroids(bits);
    REQUIRE(table.size() == expected.size());
    for (std::size_t i = 0; i < table.size(); ++i) CHECK(std::abs(static_cast<double>(table[i]) - expected[i]) < 1e-6);
  }
}

TEST_CASE("the codebooks equal the published tables to the digits printed there") {
  for (const auto& [bits, positive] : printed) {
    const auto table = centroids(bits);
    REQUIRE(table.size() == 2 * positive.size());
    for (std::size_t i = 0; i < positive.size(); ++i)
      CHECK(std::abs(static_cast<double>(table[positive.size() + i]) - positive[i]) < 6e-6);
  }
  for (const auto& [bits, positive] : printed_thresholds) {
    const auto table = thresholds(bits);
    REQUIRE(table.size() == 2 * positive.size() + 1);
    for (std::size_t i = 0; i < positive.size(); ++i)
      CHECK(std::abs(static_cast<double>(table[positive.size() + 1 + i]) - positive[i]) < 6e-6);
  }
}

TEST_CASE("codebooks ascend, are odd, and thresholds are the midpoints of their neighbours") {
  for (int bits = 1; bits <= 5; ++bits) {
    const auto table = centroids(bits);
    const auto middle = thresholds(bits);
    const std::size_t n = table.size();
    REQUIRE(n == std::size_t{1} << bits);
    REQUIRE(middle.size() == n - 1);
    for (std::size_t i = 0; i < n; ++i) CHECK(table[i] == -table[n - 1 - i]);
    for (std::size_t i = 0; i + 1 < n; ++i) {
      CHECK(table[i] < table[i + 1]);
      CHECK(middle[i] == -middle[n - 2 - i]);
      CHECK(middle[i] ==
            doctest::Approx(0.5 * (static_cast<double>(table[i]) + static_cast<double>(table[i + 1]))).epsilon(1e-7));
    }
    CHECK(middle[n / 2 - 1] == 0.0f);
  }
}

TEST_CASE("every centroid is quantized to its own index") {
  for (int bits = 1; bits <= 5; ++bits) {
    const auto table = centroids(bits);
    for (std::size_t i = 0; i < table.size(); ++i) {
      std::size_t index = 0;
      for (const float t : thresholds(bits)) index += table[i] > t ? 1u : 0u;
      CHECK(index == i);
    }
  }
}
