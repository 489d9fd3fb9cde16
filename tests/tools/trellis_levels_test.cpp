// The committed trellis levels are what tools/trellis_levels trains.
#include <doctest/doctest.h>

#include <cmath>
#include <cstddef>
#include <vector>

#include "codec/trellis/levels.h"
#include "support/sanitized.h"
#include "training.h"

using namespace tqkv;
using namespace tqkv::tools;

namespace {

std::vector<float> committed(int bits, int states) {
  const codec::TrellisTable& table = codec::trellis_table(bits, states);
  return {table.level, table.level + table.levels};
}

}  // namespace

TEST_CASE("Training from the committed levels stays at them, and gains nothing" * doctest::skip(test::sanitized)) {
  for (const int bits : {2, 3, 4, 5}) {
    const int states = codec::trellis_states(bits).front();
    CAPTURE(bits);
    CAPTURE(states);
    const std::vector<float> before = committed(bits, states);
    const auto step = static_cast<double>(codec::trellis_table(bits, states).step);
    const Encoded once = encode_vectors(codec::trellis_table(bits, states), {71, 3000, 2});
    for (std::size_t i = 0; i < before.size(); ++i) {
      REQUIRE(once.count[i] > 100);
      const double noise = once.spread[i] / std::sqrt(once.count[i]);
      // Half a step was rounded away, and a level answers to what rounding did to its neighbours.
      CHECK(std::abs(once.mean[i] - static_cast<double>(before[i])) < step + 5 * noise);
    }
    std::vector<float> after = before;
    for (std::uint64_t round = 0; round < 4; ++round) train_round(bits, states, {72 + round, 3000, 2}, 1.0, after);
    const Vectors held_out{99, 2000, 2};
    const double trained = encode_vectors(codec::trellis_table_of(bits, states, after), held_out).distortion;
    CHECK(trained > 0.99 * encode_vectors(codec::trellis_table(bits, states), held_out).distortion);
  }
}

TEST_CASE(
    "Training from Ungerboeck's sets of Lloyd-Max points comes near the committed levels' distortion in a few rounds") {
  std::vector<float> levels = first_levels(3, 4);
  REQUIRE(levels.size() == 32);
  const Vectors held_out{98, 2000, 2};
  const double first = encode_vectors(codec::trellis_table_of(3, 4, levels), held_out).distortion;
  for (std::uint64_t round = 0; round < 12; ++round) train_round(3, 4, {round, 1500, 2}, 1.5, levels);
  const double trained = encode_vectors(codec::trellis_table_of(3, 4, levels), held_out).distortion;
  const double best = encode_vectors(codec::trellis_table(3, 4), held_out).distortion;
  CHECK(trained < 0.97 * first);
  CHECK(trained < 1.05 * best);
}

TEST_CASE("What training sees does not depend on the number of threads") {
  const codec::TrellisTable& table = codec::trellis_table(2, 8);
  const Encoded one = encode_vectors(table, {5, 350, 1}), three = encode_vectors(table, {5, 350, 3});
  CHECK(one.distortion == three.distortion);
  CHECK(one.mean == three.mean);
}

TEST_CASE("Levels rounded to 8 bits keep the largest at the last code and lose less than half a step each") {
  const std::vector<float> levels{-1.0f, -0.3f, 0.004f, 0.9f};
  const Rounded rounded = round_levels(levels, {1, 1, 1, 1});
  for (std::size_t i = 0; i < levels.size(); ++i)
    CHECK(std::abs(static_cast<double>(levels[i]) - rounded.codes[i] * static_cast<double>(rounded.step)) <
          0.51 * static_cast<double>(rounded.step));
  CHECK(rounded.codes.front() == -127);
}
