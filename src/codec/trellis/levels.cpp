#include "codec/trellis/levels.h"

#include <array>
#include <bit>
#include <cassert>
#include <cstddef>
#include <limits>
#include <string>

#include "tqkv/error.h"

namespace tqkv::codec {
namespace {

// Printed by tools/trellis-levels: [window, choice], level = code * step.
// 2 bits, 8 states: distortion 0.082282
constexpr float step_2_8 = 0.0184577294f;
constexpr std::int8_t codes_2_8[] = {-79, 14, -27, 61, -34,  54, -98, 8,  -57, 28, -12, 82, -8,  103, -53, 35,
                                     -27, 59, -83, 13, -127, 9,  -35, 56, -12, 82, -58, 28, -56, 35,  -8,  126};
// 2 bits, 16 states: distortion 0.079266
constexpr float step_2_16 = 0.0203266833f;
constexpr std::int8_t codes_2_16[] = {-67, 15, -21, 60, -30, 47, -84,  7,  -48, 28,  -9,  71, -9,  91, -49, 29,
                                      -84, 6,  -31, 47, -27, 52, -127, 9,  -51, 28,  -10, 88, -9,  68, -51, 27,
                                      -22, 58, -68, 15, -96, 7,  -30,  48, -9,  125, -52, 28, -52, 28, -9,  76,
                                      -30, 45, -96, 6,  -72, 10, -27,  50, -9,  74,  -50, 28, -48, 27, -9,  101};
// 2 bits, 32 states: distortion 0.076836
constexpr float step_2_32 = 0.0216719564f;
constexpr std::int8_t codes_2_32[] = {
    -59,  19, -18,  69, -76, 6,  -26, 42, -30, 40, -92, 3,   -20, 63,  -59, 16, -38, 32, -3,  88, -57, 16,
    -15,  56, -14,  55, -57, 17, -4,  85, -38, 31, -66, 6,   -25, 38,  -83, 7,  -28, 50, -25, 51, -67, 10,
    -28,  38, -104, 4,  -55, 21, -12, 63, -40, 30, -4,  109, -4,  91,  -40, 32, -12, 63, -52, 21, -19, 70,
    -127, 19, -27,  38, -65, 6,  -73, 4,  -31, 39, -97, 14,  -21, 57,  -3,  95, -42, 32, -15, 54, -55, 17,
    -53,  17, -14,  59, -41, 30, -4,  86, -24, 42, -64, 6,   -28, 45,  -83, 8,  -97, 11, -24, 54, -66, 5,
    -27,  41, -12,  64, -49, 21, -4,  89, -41, 31, -41, 31,  -4,  126, -50, 21, -11, 65};
// 3 bits, 4 states: distortion 0.022799
constexpr float step_3_4 = 0.0210648887f;
constexpr std::int8_t codes_3_4[] = {-127, -35, 4,  47, -61,  -15, 24, 82, -82, -24, 15, 61, -47, -5,  35, 126,
                                     -61,  -15, 24, 76, -100, -35, 4,  47, -47, -5,  35, 99, -76, -24, 15, 61};
// 3 bits, 8 states: distortion 0.021307
constexpr float step_3_8 = 0.0229632389f;
constexpr std::int8_t codes_3_8[] = {-86, -30, 5,  43,  -52, -12, 23, 75,  -55,  -13, 21, 66, -104, -32, 4,  40,
                                     -66, -21, 13, 55,  -40, -4,  32, 127, -43,  -5,  30, 89, -71,  -22, 12, 53,
                                     -52, -12, 23, 71,  -89, -30, 5,  43,  -127, -32, 4,  40, -55,  -13, 21, 66,
                                     -40, -4,  32, 104, -66, -21, 13, 55,  -73,  -22, 12, 52, -43,  -5,  30, 86};
// 3 bits, 16 states: distortion 0.020342
constexpr float step_3_16 = 0.0241121519f;
constexpr std::int8_t codes_3_16[] = {
    -74,  -28, 6,    44,  -48, -10, 23,  79,  -49, -12, 19,  60,  -91, -28, 3,   36,  -58,  -18, 14,  54,  -36, -2,
    31,   106, -41,  -6,  26,  76,  -71, -22, 10,  45,  -81, -27, 5,   39,  -47, -11, 20,   64,  -54, -13, 18,  62,
    -101, -31, 3,    37,  -67, -21, 11,  47,  -40, -5,  27,  78,  -37, -3,  30,  98,  -59,  -19, 13,  52,  -49, -10,
    23,   71,  -106, -28, 6,   42,  -87, -28, 3,   36,  -48, -12, 18,  57,  -36, -2,  31,   89,  -61, -18, 14,  53,
    -71,  -22, 10,   45,  -42, -6,  26,  72,  -47, -11, 21,  67,  -80, -27, 5,   39,  -127, -31, 3,   37,  -54, -13,
    19,   61,  -40,  -4,  27,  127, -67, -21, 11,  47,  -60, -19, 13,  52,  -36, -3,  30,   90};
// 4 bits, 4 states: distortion 0.005906
constexpr float step_4_4 = 0.0248979889f;
constexpr std::int8_t codes_4_4[] = {-127, -57, -33, -15, 2,  19, 38, 65,  -76,  -44, -24, -7,  10, 28, 50, 85,
                                     -85,  -50, -28, -10, 6,  24, 44, 76,  -65,  -38, -19, -2,  15, 33, 57, 127,
                                     -73,  -44, -24, -7,  10, 28, 50, 93,  -106, -57, -33, -15, 2,  19, 38, 64,
                                     -64,  -38, -19, -2,  15, 33, 57, 106, -93,  -50, -28, -10, 6,  24, 44, 73};
// 4 bits, 8 states: distortion 0.005467
constexpr float step_4_8 = 0.026725987f;
constexpr std::int8_t codes_4_8[] = {
    -125, -51, -29, -13, 2,   17,  34,   59,  -69, -39, -21, -5,  10,  25,  45,  82,  -64, -39, -21, -5,  10,  25,
    44,   75,  -95, -50, -29, -13, 2,    17,  34,  56,  -81, -45, -25, -9,  6,   21,  39,  69,  -58, -34, -17, -2,
    13,   30,  51,  91,  -56, -34, -17,  -2,  13,  29,  50,  98,  -74, -44, -25, -9,  6,   21,  39,  64,  -67, -39,
    -21,  -5,  10,  25,  45,  83,  -106, -51, -29, -13, 2,   17,  34,  58,  -89, -50, -29, -13, 2,   17,  34,  57,
    -64,  -38, -21, -5,  9,   25,  44,   75,  -58, -34, -17, -2,  13,  30,  51,  109, -81, -44, -25, -9,  6,   21,
    39,   68,  -74, -44, -25, -9,  6,    21,  39,  64,  -56, -34, -17, -2,  13,  29,  50,  127};
// 4 bits, 16 states: distortion 0.005160
constexpr float step_4_16 = 0.0279486086f;
constexpr std::int8_t codes_4_16[] = {
    -82,  -45, -26, -12, 2,  16, 33, 59,  -59, -35, -19, -5,  9,  24, 44, 87, -64,  -38, -20, -6,  8,  22, 39, 70,
    -110, -49, -28, -13, 1,  15, 30, 51,  -76, -42, -24, -9,  5,  19, 34, 57, -55,  -32, -16, -2,  12, 26, 44, 101,
    -50,  -30, -15, -1,  13, 28, 49, 112, -68, -39, -22, -8,  6,  20, 38, 64, -95,  -48, -28, -12, 1,  15, 30, 51,
    -63,  -37, -20, -5,  8,  22, 39, 69,  -57, -34, -18, -4,  9,  24, 43, 76, -82,  -44, -26, -11, 3,  16, 33, 55,
    -68,  -39, -22, -8,  6,  20, 37, 63,  -50, -30, -15, -1,  13, 28, 49, 79, -55,  -33, -16, -2,  11, 26, 44, 91,
    -74,  -43, -24, -9,  5,  18, 34, 58,  -58, -35, -19, -5,  9,  24, 43, 74, -127, -44, -26, -11, 2,  16, 33, 56,
    -86,  -49, -28, -13, 1,  15, 30, 50,  -63, -37, -20, -6,  8,  22, 39, 67, -55,  -32, -16, -2,  12, 26, 44, 96,
    -76,  -42, -24, -9,  5,  19, 35, 57,  -67, -39, -22, -8,  6,  20, 38, 64, -50,  -30, -15, -1,  13, 28, 49, 84,
    -63,  -37, -20, -5,  8,  22, 39, 68,  -90, -48, -28, -12, 1,  15, 30, 50, -101, -44, -26, -11, 2,  16, 33, 55,
    -57,  -34, -18, -4,  9,  24, 42, 74,  -51, -30, -15, -1,  13, 28, 48, 81, -68,  -39, -22, -8,  6,  20, 38, 63,
    -75,  -42, -24, -9,  4,  18, 34, 57,  -55, -32, -16, -2,  11, 26, 44, 127};

struct Trained {
  int bits, states;
  float step;
  std::span<const std::int8_t> codes;
};
constexpr std::array<Trained, 9> trained{
    Trained{2, 8, step_2_8, codes_2_8}, Trained{2, 16, step_2_16, codes_2_16}, Trained{2, 32, step_2_32, codes_2_32},
    Trained{3, 4, step_3_4, codes_3_4}, Trained{3, 8, step_3_8, codes_3_8},    Trained{3, 16, step_3_16, codes_3_16},
    Trained{4, 4, step_4_4, codes_4_4}, Trained{4, 8, step_4_8, codes_4_8},    Trained{4, 16, step_4_16, codes_4_16}};

constexpr int states_2[] = {8, 16, 32}, states_3[] = {4, 8, 16}, states_4[] = {4, 8, 16};

/// The `count` low bits of w in the opposite order.
int reversed(int w, int count) {
  int out = 0;
  for (int i = 0; i < count; ++i) out |= (w >> i & 1) << (count - 1 - i);
  return out;
}

}  // namespace

TrellisTable trellis_table_of(int bits, int states, std::span<const float> levels) {
  assert(bits >= 2 && bits <= 4 && std::has_single_bit(static_cast<unsigned>(states)) && states >= 2);
  TrellisTable table;
  table.bits = bits;
  table.states = states;
  table.memory = std::bit_width(static_cast<unsigned>(states)) - 1;
  table.choices = 1 << (bits - 1);
  table.levels = 2 * states * table.choices;
  assert(states <= most_trellis_states && levels.size() == static_cast<std::size_t>(table.levels));
  for (int w = 0; w < 2 * states; ++w) {
    const float* row = levels.data() + w * table.choices;
    for (int k = 0; k < table.choices; ++k) {
      table.level[w * table.choices + k] = row[k];
      table.by_choice[k * 2 * states + w] = row[k];
    }
    for (int k = 0; k < most_trellis_choices; ++k)
      table.threshold[w * most_trellis_choices + k] =
          k + 1 < table.choices ? 0.5f * (row[k] + row[k + 1]) : std::numeric_limits<float>::infinity();
  }
  return table;
}

TrellisTable trellis_table_of(int bits, int states, std::span<const std::int8_t> codes, float step) {
  std::array<float, most_trellis_levels> levels;
  assert(codes.size() <= levels.size());
  for (std::size_t i = 0; i < codes.size(); ++i) levels[i] = static_cast<float>(codes[i]) * step;
  TrellisTable table = trellis_table_of(bits, states, {levels.data(), codes.size()});
  table.step = step;
  for (int i = 0; i < most_trellis_levels; ++i) {
    const int at = i % table.levels, memory = table.memory, window = reversed(at % (2 * states), memory + 1);
    table.stored_order[i] = codes[static_cast<std::size_t>(window * table.choices + (at >> (memory + 1)))];
  }
  for (std::size_t i = 0; i < codes.size(); ++i) table.code[i] = codes[i];
  return table;
}

const TrellisTable& trellis_table(int bits, int states) {
  static const std::array<TrellisTable, trained.size()> tables = [] {
    std::array<TrellisTable, trained.size()> all;
    for (std::size_t i = 0; i < all.size(); ++i)
      all[i] = trellis_table_of(trained[i].bits, trained[i].states, trained[i].codes, trained[i].step);
    return all;
  }();
  for (const TrellisTable& table : tables) {
    if (table.bits == bits && table.states == states) return table;
  }
  throw Error(ErrorKind::internal, "trellis: there is no table of " + std::to_string(bits) + " bits and " +
                                       std::to_string(states) + " states");
}

std::span<const int> trellis_states(int bits) {
  switch (bits) {
    case 2:
      return states_2;
    case 3:
      return states_3;
    case 4:
      return states_4;
    default:
      return {};
  }
}

int default_states(int bits) {
  return bits == 2 ? 16 : bits == 3 ? 8 : 4;
}

}  // namespace tqkv::codec
