#include "base/float16.h"

#include <doctest/doctest.h>

#include <cmath>
#include <limits>

using namespace tqkv;

TEST_CASE("every f16 number survives the way to f32 and back") {
  for (std::uint32_t bits = 0; bits < 65536; ++bits) {
    const auto half = static_cast<std::uint16_t>(bits);
    const float value = f16_to_f32(half);
    if (std::isnan(value)) {
      CHECK_MESSAGE(std::isnan(f16_to_f32(f32_to_f16(value))), bits);
    } else if (f32_to_f16(value) != half) {
      FAIL("bits " << bits << " became " << f32_to_f16(value));
    }
  }
}

TEST_CASE("rounding to f16 takes the nearest number, and the even one of two") {
  for (std::uint32_t bits = 0; bits < 0x7bff; ++bits) {  // all pairs of neighbours, subnormal ones too
    const float low = f16_to_f32(static_cast<std::uint16_t>(bits)),
                high = f16_to_f32(static_cast<std::uint16_t>(bits + 1));
    const float middle = 0.5f * (low + high);  // exact in f32
    const std::uint32_t even = bits + (bits & 1u);
    if (f32_to_f16(middle) != even || f32_to_f16(std::nextafter(middle, low)) != bits ||
        f32_to_f16(std::nextafter(middle, high)) != bits + 1 || f32_to_f16(-middle) != (even | 0x8000u))
      FAIL("between " << bits << " and its neighbour");
  }
  CHECK(f32_to_f16(65519.996f) == 0x7bff);
  CHECK(f32_to_f16(65520.0f) == 0x7c00);
  CHECK(f32_to_f16(-1e30f) == 0xfc00);
  CHECK(f32_to_f16(1e-10f) == 0);
}

TEST_CASE("rounding to bf16 takes the nearest number, and the even one of two") {
  CHECK(f32_to_bf16(1.0f) == 0x3f80);
  CHECK(f32_to_bf16(std::bit_cast<float>(0x3f808000u)) == 0x3f80);
  CHECK(f32_to_bf16(std::bit_cast<float>(0x3f818000u)) == 0x3f82);
  CHECK(f32_to_bf16(std::bit_cast<float>(0x3f808001u)) == 0x3f81);
  CHECK(f32_to_bf16(std::numeric_limits<float>::max()) == 0x7f80);
  CHECK(f32_to_bf16(-std::numeric_limits<float>::infinity()) == 0xff80);
  CHECK(std::isnan(bf16_to_f32(f32_to_bf16(std::bit_cast<float>(0x7f800001u)))));
  CHECK(bf16_to_f32(0x4049) == 3.140625f);
}

TEST_CASE("numbers are read and written at odd addresses") {
  std::byte buffer[9] = {};
  store(buffer + 1, 3.25f);
  store(buffer + 5, std::uint16_t{0xbeef});
  CHECK(load<float>(buffer + 1) == 3.25f);
  CHECK(load<std::uint16_t>(buffer + 5) == 0xbeef);
}
