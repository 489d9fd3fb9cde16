// A warp's tensor products on the host, from the registers that its 32 lanes hold (PTX: mma.m16n8k32 of bytes,
// mma.m16n8k16 of halves, whose two values of a word are doubles here).
#pragma once
#include <cstdint>

namespace tqkv::test {

/// A [16, 32]: lane l = 4r + j has in words 0 and 2 row r, in 1 and 3 row r + 8; columns 4j to 4j + 3, and 16 more in
/// words 2 and 3.
struct FragmentA {
  std::uint32_t words[32][4] = {};
};
/// B [32, 8]: lane l = 4n + j has of column n the rows 4j to 4j + 3, and 16 more in word 1.
struct FragmentB {
  std::uint32_t words[32][2] = {};
};
/// C [16, 8]: lane l = 4r + j has columns 2j and 2j + 1 of row r, then of row r + 8.
struct Accumulators {
  std::int32_t values[32][4] = {};
};

/// C += A B, A unsigned and B signed bytes.
inline void multiply_u8s8(const FragmentA& a, const FragmentB& b, Accumulators& c) {
  const auto byte = [](std::uint32_t word, int i) { return word >> (8 * i) & 255u; };
  for (int lane = 0; lane < 32; ++lane)
    for (int i = 0; i < 4; ++i) {
      const int row = lane / 4 + i / 2 * 8, column = lane % 4 * 2 + i % 2;
      for (int k = 0; k < 32; ++k) {
        const int j = k % 16 / 4;
        const std::uint32_t left = byte(a.words[row % 8 * 4 + j][k / 16 * 2 + row / 8], k % 4);
        const std::uint32_t right = byte(b.words[column * 4 + j][k / 16], k % 4);
        c.values[lane][i] += static_cast<std::int32_t>(left) * static_cast<std::int8_t>(right);
      }
    }
}

/// A [16, 16] of halves: lane l = 4r + j has in pairs 0 and 2 row r, in 1 and 3 row r + 8; columns 2j and 2j + 1, and 8
/// more in pairs 2 and 3.
struct HalvesA {
  double pairs[32][4][2] = {};
};
/// B [16, 8]: lane l = 4n + j has of column n the rows 2j and 2j + 1, and 8 more in pair 1.
struct HalvesB {
  double pairs[32][2][2] = {};
};
struct Sums {
  double values[32][4] = {};
};

inline void multiply_halves(const HalvesA& a, const HalvesB& b, Sums& c) {
  for (int lane = 0; lane < 32; ++lane)
    for (int i = 0; i < 4; ++i) {
      const int row = lane / 4 + i / 2 * 8, column = lane % 4 * 2 + i % 2;
      for (int k = 0; k < 16; ++k)
        c.values[lane][i] += a.pairs[row % 8 * 4 + k % 8 / 2][k / 8 * 2 + row / 8][k % 2] *
                             b.pairs[column * 4 + k % 8 / 2][k / 8][k % 2];
    }
}

}  // namespace tqkv::test
