#include "measure/figures/statistics.h"

#include <doctest/doctest.h>

#include <rapidcheck.h>
#include <cmath>
#include <limits>

#include "base/numbers.h"
#include "measure/figures/digest.h"
#include "measure/figures/kl.h"
#include "measure/figures/text_table.h"
#include "tqkv/error.h"

using namespace tqkv;
using namespace tqkv::measure;

TEST_CASE("the median of an odd number of samples is the middle one, of an even number the mean of two") {
  const Spread odd = spread_of({3, 1, 10});
  CHECK(odd.median == 3);
  CHECK(odd.min == 1);
  CHECK(odd.max == 10);
  CHECK(spread_of({4, 1, 2, 100}).median == 3);
  CHECK(spread_of({7}).median == 7);
}

TEST_CASE("a paired ratio is taken round by round, so that a drift of the machine cancels") {
  // Both slow down by half between rounds; round by round one is always twice the other.
  const Spread paired = paired_ratio({200, 100, 50}, {100, 50, 25});
  CHECK(paired.median == 2);
  CHECK(paired.min == 2);
  CHECK(paired.max == 2);
  const Spread unpaired = unpaired_ratio(spread_of({200, 100, 50}), spread_of({100, 50, 25}));
  CHECK(unpaired.median == 2);
  CHECK(unpaired.min == 0.5);
  CHECK(unpaired.max == 8);
}

TEST_CASE("KL is zero between equal rows, positive between others, and blind to a shift of all logits") {
  const std::vector<float> a{1.0f, 2.0f, -3.0f, 0.5f};
  std::vector<float> shifted = a, other = a;
  for (float& logit : shifted) logit += 50.0f;
  other[0] = 3.0f;
  CHECK(kl_divergence(a, a) == 0.0);
  CHECK(kl_divergence(a, shifted) == doctest::Approx(0).epsilon(1e-9));
  CHECK(kl_divergence(a, other) > 0.1);
}

TEST_CASE("KL of two rows of two logits agrees with the formula worked out by hand") {
  // p = (3/4, 1/4), q = (1/2, 1/2): 3/4 ln(3/2) + 1/4 ln(1/2)
  const std::vector<float> p{std::log(3.0f), 0.0f}, q{0.0f, 0.0f};
  CHECK(kl_divergence(p, q) == doctest::Approx(0.75 * std::log(1.5) + 0.25 * std::log(0.5)).epsilon(1e-6));
}

TEST_CASE("KL stays finite for large logits and for ids that are ruled out in both rows") {
  const float never = -std::numeric_limits<float>::infinity();
  const std::vector<float> p{1000.0f, 999.0f, never}, q{999.0f, 1000.0f, never};
  CHECK(kl_divergence(p, q) == doctest::Approx(std::tanh(0.5)).epsilon(1e-6));
}

TEST_CASE("the most likely id is the first of the largest logits, and a logit that is no number is an error") {
  CHECK(argmax(std::vector<float>{1, 5, 5, 2}) == 1);
  CHECK(argmax(std::vector<float>{-1}) == 0);
  const float nan = std::numeric_limits<float>::quiet_NaN(), infinity = std::numeric_limits<float>::infinity();
  CHECK_THROWS_AS(argmax(std::vector<float>{1, nan, 2}), Error);
  CHECK_THROWS_AS(argmax(std::vector<float>{nan, 1}), Error);
  CHECK_THROWS_AS(argmax(std::vector<float>{1, infinity}), Error);
}

TEST_CASE("a digest is XXH3 and tells ids, their order and their number apart") {
  CHECK(Digest().hex() == "2d06800538d394c2");  // published: of no bytes
  Digest one, two;
  one.add_list(std::vector<int>{1, 2});
  one.add_list(std::vector<int>{3});
  two.add_list(std::vector<int>{1});
  two.add_list(std::vector<int>{2, 3});
  CHECK(one.hex() != two.hex());
  CHECK(digest_of(std::vector<int>{1, 2}) != digest_of(std::vector<int>{2, 1}));
  CHECK(digest_of(std::vector<int>{0}) != digest_of(std::vector<int>{0, 0}));
  CHECK(digest_of(std::vector<int>{1, 2}) == digest_of(std::vector<int>{1, 2}));
}

TEST_CASE("tables align their columns and group digits") {
  TextTable table({"name", "bytes"});
  table.add({"a", "1"});
  table.add({"longer", grouped(1234567)});
  CHECK(table.text("> ") == "> name        bytes\n> a               1\n> longer  1,234,567\n");
  CHECK(grouped(0) == "0");
  CHECK(grouped(999) == "999");
  CHECK(grouped(1000) == "1,000");
  CHECK(megabytes(80117760) == "80.12");
  CHECK(gigabytes(20396800000) == "20.397");
  CHECK(rounded(0) == "0");
  CHECK(rounded(1234.56) == "1235");
  CHECK(rounded(12.345) == "12.35");
}

TEST_CASE("the spread of any samples holds its median") {
  rc::check([](std::vector<int> values) {
    RC_PRE(!values.empty());
    const std::vector<double> samples(values.begin(), values.end());
    const Spread spread = spread_of(samples);
    RC_ASSERT(spread.min <= spread.median);
    RC_ASSERT(spread.median <= spread.max);
  });
}
