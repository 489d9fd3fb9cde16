// The trellis against what docs/formats.md says of it: the shift register, the layout, the search and its ties, and the
// distortion of every table.
#include <doctest/doctest.h>
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "base/float16.h"
#include "codec/packing.h"
#include "codec/trellis/levels.h"
#include "codec/trellis/viterbi.h"
#include "codec/vectors.h"
#include "support/sanitized.h"
#include "tqkv/error.h"

using namespace tqkv;
using namespace tqkv::codec;

namespace {

template <class Use>
void for_every_table(Use use) {
  for (const int bits : {2, 3, 4, 5}) {
    for (const int states : trellis_states(bits)) {
      CAPTURE(bits);
      CAPTURE(states);
      use(bits, states);
    }
  }
}

float scalar_of(const test::Encoded& e) {
  return f16_to_f32(load<std::uint16_t>(e.scalars.data()));
}

/// Bit c of a plane of one bit a channel.
int bit_at(const std::byte* plane, int c) {
  return std::to_integer<int>(plane[c / 8]) >> (c % 8) & 1;
}

/// The codes of levels as the document has them: from bits c - m to c, bits before channel 0 being zero.
std::vector<int> codes_by_definition(const SideCodec& codec, const std::byte* codes) {
  const TrellisTable& table = trellis_table(codec.format.bits, codec.format.states);
  const std::byte* planes = codes + codec.dim / 8;
  std::vector<int> out;
  for (int c = 0; c < codec.dim; ++c) {
    int window = 0;
    for (int back = table.memory; back >= 0; --back) window = 2 * window + (c >= back ? bit_at(codes, c - back) : 0);
    int choice = 0;
    if (codec.format.bits == 2) choice = bit_at(planes, c);
    if (codec.format.bits == 3 || codec.format.bits == 4)
      choice = std::to_integer<int>(planes[c / 4]) >> (2 * (c % 4)) & 3;
    if (codec.format.bits == 5) choice = std::to_integer<int>(planes[c / 2]) >> (4 * (c % 2)) & 15;
    if (codec.format.bits == 4) choice += 4 * bit_at(planes + codec.dim / 4, c);
    out.push_back(table.code[window * table.choices + choice]);
  }
  return out;
}

double squared_error(const TrellisTable& table, std::span<const float> z, std::span<const std::uint8_t> window,
                     std::span<const std::uint8_t> choice) {
  double error = 0.0;
  for (std::size_t c = 0; c < z.size(); ++c) {
    const double difference =
        static_cast<double>(z[c]) - static_cast<double>(table.level[window[c] * table.choices + choice[c]]);
    error += difference * difference;
  }
  return error;
}

/// The least squared error of all paths from state 0, by trying each sequence of shift bits.
double least_error(const TrellisTable& table, std::span<const float> z, std::size_t c, int state) {
  if (c == z.size()) return 0.0;
  double least = std::numeric_limits<double>::infinity();
  for (int bit = 0; bit < 2; ++bit) {
    const int window = 2 * state + bit;
    double nearest = std::numeric_limits<double>::infinity();
    for (int k = 0; k < table.choices; ++k)
      nearest = std::min(
          nearest, std::abs(static_cast<double>(z[c]) - static_cast<double>(table.level[window * table.choices + k])));
    least = std::min(least, nearest * nearest + least_error(table, z, c + 1, window % table.states));
  }
  return least;
}

std::string refusal(const SideFormat& format, int dim) {
  try {
    side_codec(format, dim);
  } catch (const Error& error) {
    return error.what();
  }
  return "";
}

}  // namespace

TEST_CASE("a trellis vector decodes by windows of its shift bits and its choices, for any bytes") {
  test::Normal normal(51);
  for_every_table([&](int bits, int states) {
    for (const int dim : {16, 64, 256}) {
      const SideCodec codec = side_codec(test::trellis(bits, states), dim);
      REQUIRE(codec.code_bytes == static_cast<std::size_t>(dim * bits / 8));
      REQUIRE(codec.scalar_bytes == 2);
      test::Encoded any{std::vector<std::byte>(codec.code_bytes), std::vector<std::byte>(2)};
      for (std::byte& byte : any.codes) byte = static_cast<std::byte>(normal.bits() & 255u);
      store(any.scalars.data(), f32_to_f16(1.0f));
      const std::vector<float> back = test::decoded(codec, any);
      const std::vector<int> expected = codes_by_definition(codec, any.codes.data());
      const double unit = static_cast<double>(trellis_table(bits, states).step) / std::sqrt(static_cast<double>(dim));
      for (std::size_t c = 0; c < back.size(); ++c)
        CHECK(static_cast<double>(back[c]) == doctest::Approx(unit * expected[c]).epsilon(1e-6));
    }
  });
}

TEST_CASE("the trellis writes the vectors of the document") {
  const struct {
    int bits, states;
    std::string codes, scalar;
  } rows[] = {{2, 8, "04 76 56 af", "ec 4c"},
              {2, 16, "aa 9b 54 ab", "bf 4c"},
              {2, 32, "96 43 54 aa", "6e 4d"},
              {3, 4, "9f 34 74 23 de 89", "ca 4c"},
              {3, 8, "19 b2 74 23 de 8d", "d4 4c"},
              {3, 16, "42 8e 74 23 de 88", "8c 4c"},
              {4, 4, "b6 22 ad 46 bc 16 54 ab", "b9 4c"},
              {4, 8, "3d d8 ac 16 bc 16 54 ab", "7c 4c"},
              {4, 16, "d5 2c ac 56 bc 15 54 ab", "a3 4c"},
              {5, 2, "ba 8a 72 5d 3b 2a d8 c6 b4 93", "a7 4c"},
              {5, 4, "82 52 72 5d 4c 2a e8 c6 b4 93", "bd 4c"},
              {5, 8, "21 2c 71 5d 3c 2a e8 d6 b4 93", "9b 4c"}};
  const auto hex = [](const std::vector<std::byte>& bytes) {
    std::string text;
    for (const std::byte byte : bytes)
      text += fmt::format("{}{:02x}", text.empty() ? "" : " ", std::to_integer<int>(byte));
    return text;
  };
  std::vector<float> y;
  for (int j = 0; j < 16; ++j) y.push_back(static_cast<float>(7 * j % 16) - 7.5f);
  for (const auto& row : rows) {
    const test::Encoded stored =
        test::encoded(side_codec(test::trellis(row.bits, row.states, KvScalar::corrected), 16), y);
    CHECK(hex(stored.codes) == row.codes);
    CHECK(hex(stored.scalars) == row.scalar);
  }
}

TEST_CASE("the search finds the least error of all paths") {
  test::Normal normal(52);
  for_every_table([&](int bits, int states) {
    const TrellisTable& table = trellis_table(bits, states);
    for (int i = 0; i < 5; ++i) {
      const std::vector<float> z = normal.vector(11);
      std::vector<std::uint8_t> window(z.size()), choice(z.size());
      viterbi(table, z, window, choice);
      int state = 0;
      for (const std::uint8_t w : window) {
        CHECK(w / 2 == state);
        state = w % states;
      }
      CHECK(squared_error(table, z, window, choice) == doctest::Approx(least_error(table, z, 0, 0)).epsilon(1e-5));
    }
  });
}

TEST_CASE("ties of the search go to the lower window and to the lower choice") {
  const std::vector<float> same(16, 0.5f);
  std::vector<std::uint8_t> window(20), choice(20);
  viterbi(trellis_table_of(2, 4, same), std::vector<float>(20, 0.0f), window, choice);
  CHECK(window == std::vector<std::uint8_t>(20, 0));
  CHECK(choice == std::vector<std::uint8_t>(20, 0));
  // Two choices as near as each other: -1 and 1 around 0.
  std::vector<float> pairs;
  for (int w = 0; w < 8; ++w) pairs.insert(pairs.end(), {-1.0f, 1.0f});
  viterbi(trellis_table_of(2, 4, pairs), std::vector<float>(20, 0.0f), window, choice);
  CHECK(choice == std::vector<std::uint8_t>(20, 0));
}

TEST_CASE("levels ascend in each window, fill the range of a byte and stand in the stored order at their bits") {
  for_every_table([&](int bits, int states) {
    const TrellisTable& table = trellis_table(bits, states);
    REQUIRE(table.levels == 2 * states * table.choices);
    int largest = 0;
    for (int w = 0; w < 2 * states; ++w) {
      for (int k = 0; k < table.choices; ++k) {
        const int at = w * table.choices + k, code = table.code[at];
        largest = std::max(largest, std::abs(code));
        CHECK(table.level[at] == static_cast<float>(code) * table.step);
        if (k > 0) CHECK(table.code[at - 1] < code);
        int place = k << (table.memory + 1);
        for (int i = 0; i <= table.memory; ++i) place |= (w >> i & 1) << (table.memory - i);
        for (int copy = place; copy < most_trellis_levels; copy += table.levels)
          CHECK(table.stored_order[copy] == code);
      }
    }
    CHECK(largest == 127);
  });
}

TEST_CASE("each scalar of a trellis vector does what its name says") {
  test::Normal normal(53);
  for_every_table([&](int bits, int states) {
    const std::vector<float> y = normal.vector(256);
    const auto back = [&](KvScalar scalar) {
      return test::round_trip(side_codec(test::trellis(bits, states, scalar), 256), y);
    };
    CHECK(scalar_of(test::encoded(side_codec(test::trellis(bits, states), 256), y)) ==
          doctest::Approx(test::norm(y)).epsilon(1e-3));
    CHECK(test::norm(back(KvScalar::corrected)) == doctest::Approx(test::norm(y)).epsilon(1e-3));
    CHECK(test::dot(y, back(KvScalar::unbiased)) == doctest::Approx(test::dot(y, y)).epsilon(1e-3));
    const double best = test::relative_error(y, back(KvScalar::best));
    for (const KvScalar other : {KvScalar::norm, KvScalar::corrected, KvScalar::unbiased})
      CHECK(best <= test::relative_error(y, back(other)) + 1e-6);
  });
}

TEST_CASE("distortion of every trellis table is that of its trellis, at most one percent above" *
          doctest::skip(test::sanitized)) {
  const struct {
    int bits;
    double expected[3];
  } rows[] = {{2, {0.0820, 0.0791, 0.0767}},
              {3, {0.0227, 0.0213, 0.0203}},
              {4, {0.0059, 0.0054, 0.0052}},
              {5, {0.00186, 0.00152, 0.00141}}};
  test::Normal normal(54);
  for (const auto& row : rows) {
    for (std::size_t s = 0; s < 3; ++s) {
      const int states = trellis_states(row.bits)[s];
      CAPTURE(row.bits);
      CAPTURE(states);
      const SideCodec codec = side_codec(test::trellis(row.bits, states), 256);
      double sum = 0.0;
      for (int i = 0; i < 4000; ++i) {
        const std::vector<float> y = normal.vector(256);
        sum += test::relative_error(y, test::round_trip(codec, y));
      }
      CHECK(sum / 4000 < 1.01 * row.expected[s]);
      CHECK(sum / 4000 > 0.95 * row.expected[s]);
    }
  }
}

TEST_CASE("zero, extreme and adversarial vectors pass through the trellis") {
  test::Normal normal(55);
  for_every_table([&](int bits, int states) {
    const SideCodec codec = side_codec(test::trellis(bits, states, KvScalar::corrected), 256);
    for (const float value : test::round_trip(codec, std::vector<float>(256, 0.0f))) CHECK(value == 0.0f);
    const std::vector<float> direction = normal.vector(256);
    for (const float size : {1e-45f, 1e-38f, 1e-20f, 1e-6f, 1.0f, 4000.0f, 1e10f, 1e30f}) {
      std::vector<float> y = direction;
      for (float& value : y) value *= size;
      const test::Encoded stored = test::encoded(codec, y);
      const std::vector<float> back = test::decoded(codec, stored);
      CHECK(std::all_of(back.begin(), back.end(), [](float value) { return std::isfinite(value); }));
      if (size >= 1e-3f && size <= 4000.0f) CHECK(test::relative_error(y, back) < 2.0 * std::pow(4.0, -bits));
      if (size >= 1e10f) CHECK(scalar_of(stored) == 65504.0f);
    }
    std::vector<float> spike(256, 0.0f);  // all in one channel: the levels end at 3, the norm is 16
    spike[17] = 1.0f;
    CHECK(std::isfinite(scalar_of(test::encoded(codec, spike))));
  });
}

TEST_CASE("the trellis names what it cannot store") {
  CHECK(refusal(test::trellis(4, 4), 96).find("a power of two from 16 to 1024") != std::string::npos);
  CHECK(refusal(test::trellis(6, 4), 256).find("2 to 5") != std::string::npos);
  CHECK(refusal(test::trellis(2, 4), 256).find("8, 16, 32") != std::string::npos);
  CHECK(refusal(test::trellis(4, 0), 256).find("4, 8, 16") != std::string::npos);
  for_every_table([](int bits, int states) {
    for (const int dim : {16, 64, 128, 256, 1024}) CHECK(refusal(test::trellis(bits, states), dim).empty());
  });
  CHECK(side_codec(test::trellis(4, default_states(4), KvScalar::corrected), 256).format.describe() ==
        "trellis 4 bit, 4 states, scalar corrected");
  for (const int bits : {2, 3, 4, 5}) CHECK(trellis_table(bits, default_states(bits)).levels == 64);
}
