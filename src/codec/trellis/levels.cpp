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

// Printed by trellis-levels (tools/trellis_levels): [window, choice], level = code * step.

// 2 bits, 8 states: distortion 0.082310
constexpr float step_2_8 = 0.0183927342f;
constexpr std::int8_t codes_2_8[] = {-80, 15, -26, 64, -36,  52, -104, 6,  -52, 37,  -6,  127, -14, 82, -60, 27,
                                     -27, 60, -82, 14, -127, 7,  -37,  52, -6,  105, -52, 37,  -62, 26, -14, 80};
// 2 bits, 16 states: distortion 0.079400
constexpr float step_2_16 = 0.020858353f;
constexpr std::int8_t codes_2_16[] = {-77,  12, -25, 56, -16, 66, -55, 19, -66, 16, -18, 58, -6,  101, -45, 30,
                                      -124, 6,  -30, 45, -32, 41, -92, 6,  -47, 29, -7,  92, -8,  68,  -51, 28,
                                      -26,  50, -84, 11, -56, 18, -16, 61, -19, 57, -60, 16, -45, 30,  -6,  89,
                                      -29,  46, -73, 7,  -93, 6,  -30, 48, -7,  81, -46, 29, -48, 29,  -8,  127};
// 2 bits, 32 states: distortion 0.076534
constexpr float step_2_32 = 0.0218205079f;
constexpr std::int8_t codes_2_32[] = {
    -54, 22, -13, 72,  -79, 6,  -27, 42, -29, 41, -85,  5,  -13, 73, -52, 21, -67, 13,  -19, 48, -43, 27,
    -6,  79, -5,  79,  -40, 27, -14, 51, -54, 15, -127, 5,  -31, 41, -70, 9,  -23, 47,  -22, 53, -67, 12,
    -30, 43, -94, 5,   -53, 27, -11, 94, -41, 22, -7,   63, -9,  59, -40, 21, -8,  103, -52, 29, -14, 63,
    -54, 19, -27, 41,  -86, 6,  -87, 5,  -29, 42, -52,  21, -13, 69, -18, 52, -53, 13,  -7,  80, -43, 27,
    -40, 28, -5,  91,  -49, 16, -14, 51, -31, 42, -100, 5,  -23, 47, -64, 10, -63, 11,  -22, 51, -98, 5,
    -30, 40, -13, 127, -68, 27, -7,  63, -40, 23, -46,  21, -9,  62, -51, 28, -9,  98};
// 3 bits, 4 states: distortion 0.022778
constexpr float step_3_4 = 0.0210296568f;
constexpr std::int8_t codes_3_4[] = {-127, -36, 4,  47, -61,  -15, 24, 82, -82, -24, 15, 61, -47, -5,  35, 126,
                                     -61,  -15, 24, 76, -100, -36, 4,  47, -47, -5,  35, 99, -76, -24, 15, 61};
// 3 bits, 8 states: distortion 0.021337
constexpr float step_3_8 = 0.0230391882f;
constexpr std::int8_t codes_3_8[] = {-101, -31, 4,  42, -55,  -13, 22, 75,  -52, -12, 22, 67, -84, -30, 5,  42,
                                     -71,  -22, 13, 54, -42,  -4,  31, 104, -40, -4,  31, 85, -65, -21, 13, 54,
                                     -54,  -13, 22, 68, -124, -31, 4,  42,  -89, -30, 5,  42, -52, -12, 22, 70,
                                     -42,  -4,  31, 91, -72,  -22, 13, 54,  -66, -21, 13, 54, -40, -4,  31, 127};
// 3 bits, 16 states: distortion 0.020355
constexpr float step_3_16 = 0.024281228f;
constexpr std::int8_t codes_3_16[] = {
    -76, -27, 6,    42,  -47, -10, 22,  76,  -52, -13, 18,  59,  -98, -30, 3,   36,  -59,  -20, 11,  46,  -37, -4,
    27,  72,  -39,  -4,  30,  99,  -68, -20, 13,  53,  -94, -30, 3,   37,  -51, -12, 19,   59,  -48, -11, 21,  68,
    -76, -28, 4,    39,  -69, -20, 12,  52,  -39, -4,  30,  105, -37, -4,  27,  76,  -59,  -19, 11,  47,  -47, -10,
    22,  69,  -126, -27, 6,   41,  -83, -30, 3,   36,  -50, -13, 18,  59,  -37, -4,  27,   127, -60, -19, 11,  46,
    -66, -20, 13,   52,  -39, -3,  30,  86,  -50, -12, 19,  61,  -85, -29, 3,   36,  -106, -28, 4,   40,  -49, -11,
    21,  66,  -39,  -4,  30,  83,  -69, -20, 13,  53,  -60, -20, 11,  46,  -37, -4,  27,   90};
// 4 bits, 4 states: distortion 0.005890
constexpr float step_4_4 = 0.0248221643f;
constexpr std::int8_t codes_4_4[] = {-127, -57, -33, -15, 2,  19, 38, 64,  -76,  -44, -24, -6,  10, 28, 50, 86,
                                     -93,  -50, -28, -10, 7,  24, 44, 73,  -65,  -38, -19, -2,  15, 33, 57, 127,
                                     -73,  -44, -24, -6,  10, 28, 50, 94,  -106, -57, -33, -15, 2,  19, 38, 66,
                                     -64,  -38, -19, -2,  15, 33, 57, 107, -84,  -50, -28, -10, 6,  24, 44, 77};
// 4 bits, 8 states: distortion 0.005441
constexpr float step_4_8 = 0.0266068522f;
constexpr std::int8_t codes_4_8[] = {
    -107, -51, -29, -13, 2,   17,  34,   59,  -69, -39, -21, -5,  10,  25,  45,  84,  -64, -39, -21, -5,  9,   25,
    44,   75,  -95, -50, -29, -13, 2,    17,  34,  56,  -81, -45, -25, -9,  6,   21,  39,  68,  -58, -34, -17, -2,
    13,   30,  51,  108, -56, -34, -17,  -2,  13,  29,  50,  90,  -74, -44, -25, -9,  5,   21,  39,  64,  -67, -39,
    -21,  -5,  10,  25,  45,  81,  -126, -51, -29, -13, 2,   17,  34,  58,  -90, -50, -29, -13, 2,   17,  34,  56,
    -64,  -39, -21, -5,  9,   25,  44,   74,  -58, -34, -17, -2,  13,  30,  51,  127, -82, -45, -25, -9,  6,   21,
    39,   68,  -74, -44, -25, -9,  5,    21,  39,  64,  -56, -34, -17, -2,  13,  29,  50,  97};
// 4 bits, 16 states: distortion 0.005179
constexpr float step_4_16 = 0.0280351993f;
constexpr std::int8_t codes_4_16[] = {
    -85,  -45, -26, -11, 2,  16, 31, 53, -59, -35, -18, -5,  9,  23, 40, 80, -63,  -37, -19, -5,  9,  24, 43, 71,
    -95,  -48, -28, -12, 2,  16, 33, 55, -69, -42, -24, -9,  5,  20, 37, 63, -55,  -32, -16, -2,  12, 28, 48, 102,
    -51,  -31, -15, -2,  12, 26, 45, 87, -75, -40, -23, -8,  5,  19, 35, 59, -110, -48, -28, -12, 2,  16, 32, 54,
    -62,  -37, -20, -5,  9,  24, 42, 70, -58, -35, -19, -5,  8,  22, 39, 64, -83,  -44, -26, -12, 1,  15, 30, 50,
    -73,  -39, -22, -8,  5,  19, 35, 58, -50, -30, -15, -1,  12, 26, 45, 90, -55,  -32, -16, -1,  12, 28, 49, 77,
    -69,  -42, -23, -8,  5,  20, 37, 64, -57, -35, -18, -5,  9,  23, 40, 68, -126, -44, -26, -11, 2,  16, 31, 51,
    -100, -48, -28, -12, 2,  16, 33, 55, -63, -37, -19, -5,  9,  24, 42, 73, -55,  -32, -16, -2,  12, 28, 48, 83,
    -76,  -42, -24, -9,  5,  20, 37, 65, -67, -40, -23, -8,  5,  19, 35, 58, -51,  -31, -15, -2,  12, 26, 45, 112,
    -63,  -37, -20, -5,  9,  24, 42, 72, -90, -48, -28, -12, 2,  16, 32, 56, -82,  -44, -26, -12, 1,  15, 30, 50,
    -57,  -35, -19, -5,  8,  22, 39, 79, -50, -30, -15, -1,  12, 27, 45, 95, -67,  -39, -22, -8,  5,  19, 35, 58,
    -75,  -42, -23, -8,  5,  20, 37, 64, -54, -32, -16, -2,  13, 28, 49, 127};

// 5 bits, 2 states: distortion 0.001859
constexpr float step_5_2 = 0.0273995381f;
constexpr std::int8_t codes_5_2[] = {-125, -78, -58, -45, -34, -25, -16, -8, 0, 8,  17, 26, 36, 49, 65, 89,
                                     -106, -67, -51, -39, -29, -20, -12, -4, 4, 13, 21, 31, 42, 56, 76, 98,
                                     -94,  -72, -54, -41, -30, -21, -12, -4, 4, 12, 21, 30, 40, 53, 70, 127,
                                     -85,  -62, -47, -35, -25, -16, -8,  0,  8, 17, 25, 35, 46, 61, 82, 110};
// 5 bits, 4 states: distortion 0.001516
constexpr float step_5_4 = 0.0282187033f;
constexpr std::int8_t codes_5_4[] = {
    -103, -71, -54, -42, -32, -23, -15, -7,  1,   9,   17,   25,  35,  45,  58,   80,  -85, -62, -48, -37, -28, -19,
    -11,  -3,  5,   13,  21,  30,  40,  51,  67,  104, -127, -66, -51, -40, -30,  -21, -13, -5,  3,   11,  19,  28,
    37,   48,  62,  85,  -76, -58, -45, -35, -25, -17, -9,   -1,  7,   15,  23,   32,  42,  54,  73,  114, -90, -62,
    -48,  -37, -28, -19, -11, -3,  5,   13,  21,  30,  40,   51,  66,  96,  -113, -73, -54, -42, -32, -23, -15, -7,
    1,    9,   17,  25,  35,  45,  58,  77,  -80, -58, -45,  -35, -25, -17, -9,   -1,  7,   15,  23,  32,  42,  55,
    71,   127, -96, -67, -51, -40, -30, -21, -13, -5,  3,    11,  19,  28,  37,   48,  62,  90};
// 5 bits, 8 states: distortion 0.001414
constexpr float step_5_8 = 0.029354509f;
constexpr std::int8_t codes_5_8[] = {
    -96, -67, -51, -40, -30,  -22, -14,  -6,  1,   8,   16,   24,  33,   42,  55,  71,  -82, -58, -45, -35, -26, -18,
    -10, -3,  5,   12,  20,   28,  37,   48,  63,  87,  -76,  -57, -45,  -35, -26, -18, -10, -3,  5,   12,  20,  28,
    37,  48,  61,  91,  -108, -65, -51,  -40, -30, -22, -14,  -6,  1,    8,   16,  24,  33,  42,  54,  74,  -85, -62,
    -48, -37, -28, -20, -12,  -5,  3,    10,  18,  26,  35,   45,  58,   78,  -74, -54, -42, -32, -24, -16, -8,  -1,
    6,   14,  22,  30,  40,   51,  68,   118, -70, -54, -42,  -33, -24,  -16, -8,  -1,  6,   14,  22,  30,  40,  51,
    66,  109, -91, -61, -48,  -37, -28,  -20, -12, -5,  3,    10,  18,   26,  35,  45,  58,  82,  -80, -58, -45, -35,
    -26, -18, -10, -3,  5,    12,  20,   28,  37,  48,  63,   93,  -117, -68, -51, -40, -30, -22, -14, -6,  1,   8,
    16,  24,  33,  42,  54,   71,  -127, -65, -51, -40, -30,  -22, -14,  -6,  1,   8,   16,  24,  33,  42,  54,  74,
    -77, -57, -45, -35, -26,  -18, -10,  -3,  5,   12,  20,   28,  37,   48,  61,  97,  -71, -54, -42, -32, -24, -16,
    -8,  -1,  6,   14,  22,   30,  40,   51,  68,  127, -101, -62, -48,  -37, -28, -20, -12, -5,  3,   10,  18,  26,
    35,  45,  58,  78,  -88,  -61, -48,  -37, -28, -20, -12,  -5,  3,    10,  18,  26,  35,  45,  57,  84,  -72, -54,
    -42, -33, -24, -16, -8,   -1,  6,    14,  22,  30,  40,   51,  66,   102};

struct Trained {
  int bits, states;
  float step;
  std::span<const std::int8_t> codes;
};
constexpr std::array<Trained, 12> trained{
    Trained{2, 8, step_2_8, codes_2_8}, Trained{2, 16, step_2_16, codes_2_16}, Trained{2, 32, step_2_32, codes_2_32},
    Trained{3, 4, step_3_4, codes_3_4}, Trained{3, 8, step_3_8, codes_3_8},    Trained{3, 16, step_3_16, codes_3_16},
    Trained{4, 4, step_4_4, codes_4_4}, Trained{4, 8, step_4_8, codes_4_8},    Trained{4, 16, step_4_16, codes_4_16},
    Trained{5, 2, step_5_2, codes_5_2}, Trained{5, 4, step_5_4, codes_5_4},    Trained{5, 8, step_5_8, codes_5_8}};

constexpr int states_2[] = {8, 16, 32}, states_3[] = {4, 8, 16}, states_4[] = {4, 8, 16}, states_5[] = {2, 4, 8};

/// The `count` low bits of w in the opposite order.
int reversed(int w, int count) {
  int out = 0;
  for (int i = 0; i < count; ++i) out |= (w >> i & 1) << (count - 1 - i);
  return out;
}

}  // namespace

TrellisTable trellis_table_of(int bits, int states, std::span<const float> levels) {
  assert(bits >= 2 && bits <= 5 && std::has_single_bit(static_cast<unsigned>(states)) && states >= 2);
  TrellisTable table;
  table.bits = bits;
  table.states = states;
  table.memory = static_cast<int>(std::bit_width(static_cast<unsigned>(states))) - 1;
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
    const int code = window * table.choices + (at >> (memory + 1));
    table.stored_order[i] = codes[static_cast<std::size_t>(code)];
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
    case 5:
      return states_5;
    default:
      return {};
  }
}

int default_states(int bits) {
  return bits == 2 ? 16 : bits == 3 ? 8 : bits == 4 ? 4 : 2;
}

}  // namespace tqkv::codec
