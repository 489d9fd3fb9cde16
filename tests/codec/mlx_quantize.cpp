// mlx_quant stores what MLX's own quantize stores: vectors made by tools/mlx-vectors.
#include <doctest/doctest.h>

#include <cmath>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>

#include "base/float16.h"
#include "codec/vectors.h"
#include "support/places.h"

using namespace tqkv;

namespace {

nlohmann::json golden() {
  std::ifstream file(test::source_dir() + "/tests/golden/mlx-quantize-vectors.json");
  REQUIRE(file);
  return nlohmann::json::parse(file);
}

std::vector<std::byte> bytes_of(const std::string& hex) {
  std::vector<std::byte> bytes;
  for (std::size_t i = 0; i + 1 < hex.size(); i += 2)
    bytes.push_back(static_cast<std::byte>(std::stoi(hex.substr(i, 2), nullptr, 16)));
  return bytes;
}

std::string hex_of(std::span<const std::byte> bytes) {
  std::string hex;
  for (const std::byte b : bytes) {
    hex += "0123456789abcdef"[std::to_integer<unsigned>(b) >> 4];
    hex += "0123456789abcdef"[std::to_integer<unsigned>(b) & 15u];
  }
  return hex;
}

std::vector<float> floats_of(const std::string& hex) {
  const std::vector<std::byte> bytes = bytes_of(hex);
  std::vector<float> x(bytes.size() / 4);
  for (std::size_t i = 0; i < x.size(); ++i) x[i] = load<float>(bytes.data() + 4 * i);
  return x;
}

}  // namespace

TEST_CASE("affine codes, scales and biases equal those of MLX bit for bit, in every width and group") {
  const nlohmann::json file = golden();
  REQUIRE(file["cases"].size() >= 30);
  int stored_vectors = 0;
  for (const auto& item : file["cases"]) {
    const std::vector<float> x = floats_of(item["x"]);
    REQUIRE(x.size() == 256);
    for (const int group : {32, 64, 128}) {
      for (const int bits : {2, 3, 4, 5, 6, 8}) {
        const std::string key =
            "bits " + std::to_string(bits) + (group == 64 ? "" : ", group " + std::to_string(group));
        if (!item.contains(key)) continue;
        CAPTURE(item["name"].get<std::string>());
        CAPTURE(key);
        ++stored_vectors;
        const auto codec = codec::side_codec(test::affine(bits, false, group), 256);
        const test::Encoded stored = test::encoded(codec, x);
        const auto& expected = item[key];
        CHECK(hex_of(stored.codes) == expected["codes"].get<std::string>());
        const auto half = static_cast<std::size_t>(256 / group) * 2;
        REQUIRE(stored.scalars.size() == 2 * half);
        CHECK(hex_of(std::span(stored.scalars).first(half)) == expected["scales"].get<std::string>());
        CHECK(hex_of(std::span(stored.scalars).last(half)) == expected["biases"].get<std::string>());
      }
    }
  }
  CHECK(stored_vectors >= 13 * 18 + 20 * 2);
}

TEST_CASE("affine takes its input rounded to bf16, rotated affine takes it as it is") {
  test::Normal normal(3);
  const std::vector<float> x = normal.vector(256);
  std::vector<float> rounded = x;
  for (float& value : rounded) value = bf16_to_f32(f32_to_bf16(value));
  REQUIRE(x != rounded);
  for (const int bits : {4, 8}) {
    const auto plain = codec::side_codec(test::affine(bits), 256),
               rotated = codec::side_codec(test::affine(bits, true), 256);
    CHECK(test::encoded(plain, x).codes == test::encoded(plain, rounded).codes);
    CHECK(test::encoded(plain, x).scalars == test::encoded(plain, rounded).scalars);
    CHECK(test::encoded(rotated, rounded).codes == test::encoded(plain, rounded).codes);
    CHECK(test::encoded(rotated, rounded).scalars == test::encoded(plain, rounded).scalars);
  }
  // At 8 bits a step is small enough for the rounding to show.
  const auto rotated = codec::side_codec(test::affine(8, true), 256);
  CHECK(test::encoded(rotated, x).codes != test::encoded(rotated, rounded).codes);
}

TEST_CASE("decoded affine values are scale times code plus bias, at most a step from the input") {
  test::Normal normal(4);
  const std::vector<float> x = normal.vector(256);
  for (const std::size_t group : {32u, 64u, 128u}) {
    for (const int bits : {2, 3, 4, 5, 6, 8}) {
      CAPTURE(group);
      CAPTURE(bits);
      const auto codec = codec::side_codec(test::affine(bits, true, static_cast<int>(group)), 256);
      const test::Encoded stored = test::encoded(codec, x);
      const std::vector<float> back = test::decoded(codec, stored);
      for (std::size_t i = 0; i < x.size(); ++i) {
        const float scale = bf16_to_f32(load<std::uint16_t>(stored.scalars.data() + 2 * (i / group)));
        const float bias = bf16_to_f32(load<std::uint16_t>(stored.scalars.data() + 2 * (256 / group + i / group)));
        unsigned code = 0;  // bits i * b … i * b + b - 1 of the stream
        for (std::size_t j = 0; j < static_cast<std::size_t>(bits); ++j) {
          const std::size_t bit = i * static_cast<std::size_t>(bits) + j;
          code |= (std::to_integer<unsigned>(stored.codes[bit / 8]) >> (bit % 8) & 1u) << j;
        }
        CHECK(back[i] == doctest::Approx(static_cast<double>(scale) * code + static_cast<double>(bias)).epsilon(1e-6));
        // Half a step inside the range, up to one at the edge that is not exact; and the rounding of scale and bias to
        // bf16.
        const float rounding = (std::abs(bias) + static_cast<float>(1 << bits) * std::abs(scale)) / 256.0f;
        CHECK(std::abs(back[i] - x[i]) <= std::abs(scale) + rounding);
      }
    }
  }
}
