// The levels of trellis-coded quantization (docs/formats.md): tables for 2 to 5 bits, trained by tools/trellis_levels.
//
// The window of a channel is the last memory + 1 shift bits, the newest in bit 0; with the other bits - 1 bits of the
// index, the choice, it selects a level. A channel of a unit vector of d channels decodes to level / sqrt(d).
#pragma once
#include <cstdint>
#include <span>

namespace tqkv::codec {

inline constexpr int most_trellis_states = 32, most_trellis_levels = 256, most_trellis_choices = 16;

/// One table in every order that somebody reads it in: plain data, because the kernels read it too.
struct TrellisTable {
  int bits = 0, states = 0;
  int memory = 0;                                         // log2(states)
  int choices = 0;                                        // levels of a window, 2^(bits-1)
  int levels = 0;                                         // of the table, 2 states choices
  float step = 0;                                         // level = code * step; 0 for levels that were not rounded
  alignas(64) float level[most_trellis_levels] = {};      // [window, choice], ascending in each window
  alignas(64) float by_choice[most_trellis_levels] = {};  // [choice, window]
  /// [window, 16]: midpoints of neighbours, infinity behind them. Choice = number of them that are below the value.
  alignas(64) float threshold[2 * most_trellis_states * most_trellis_choices] = {};
  alignas(64) std::int8_t code[most_trellis_levels] = {};  // [window, choice]
  /// Codes in the order of the stored planes, where the newest shift bit of a window is the highest: window w, choice c
  /// at reversed(w) | c << (memory + 1). A table of less than 256 stands there several times.
  alignas(64) std::int8_t stored_order[most_trellis_levels] = {};
};

/// The table of a format. Throws Error(internal) where there is none.
const TrellisTable& trellis_table(int bits, int states);
/// Numbers of states that there are tables for; empty for bits beyond 2 to 5.
std::span<const int> trellis_states(int bits);
/// Those of the table of 64 levels: 16, 8, 4 and 2 for 2, 3, 4 and 5 bits.
int default_states(int bits);

/// A table of other levels [2 states, 2^(bits-1)], ascending in each window.
TrellisTable trellis_table_of(int bits, int states, std::span<const float> levels);
/// The same of code * step.
TrellisTable trellis_table_of(int bits, int states, std::span<const std::int8_t> codes, float step);

}  // namespace tqkv::codec
